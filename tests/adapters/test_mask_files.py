"""NIfTI, NRRD and MHA masks against the positions that SimpleITK computes."""

import numpy as np
import pytest
import SimpleITK as sitk

from fmcib_module.adapters.seed_finder import find_rois, find_seeds, roi_mask
from fmcib_module.core.conventions import SeedKind
from fmcib_module.core.domain import RoiSource
from fmcib_module.core.errors import SeedNotFoundError
from fmcib_module.core.volume import Grid
from tests.adapters.seed_sources import bare_series
from tests.shared import DATA, needs_shared


def write_mask(path, labels):
    image = sitk.GetImageFromArray(labels.astype(np.uint8))
    image.SetSpacing((0.5, 0.75, 2.0))
    image.SetOrigin((-10.0, 20.0, 30.0))
    image.SetDirection((0.8, -0.6, 0, 0.48, 0.64, -0.6, 0.36, 0.48, 0.8))
    sitk.WriteImage(image, str(path))
    return image, bare_series(RoiSource(path, SeedKind.MASK, path.name))


def random_labels():
    return np.random.default_rng(2).integers(0, 3, (5, 8, 9)) * np.array([1, 0, 1, 1, 1])[:, None, None] * 2


@pytest.mark.parametrize("name", ["GTV.nii.gz", "GTV.nrrd", "GTV.mha"])
def test_labels_are_at_the_mean_of_their_voxels(tmp_path, name):
    image, series = write_mask(tmp_path / name, random_labels())
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(image)
    seeds = find_seeds(series)
    assert [(seed.label, seed.roi_number, seed.kind) for seed in seeds] == [
        ("GTV 2", 2, SeedKind.MASK),
        ("GTV 4", 4, SeedKind.MASK),
    ]
    for seed in seeds:
        assert seed.lps_mm == pytest.approx(shape.GetCentroid(seed.roi_number), abs=1e-4)
        assert seed.volume_mm3 == pytest.approx(shape.GetPhysicalSize(seed.roi_number), rel=1e-5)


def test_a_mask_of_one_label_is_named_like_its_file(tmp_path):
    labels = np.zeros((4, 5, 6))
    labels[1, 2, 3] = 255
    image, series = write_mask(tmp_path / "Lesion.seg.nii.gz", labels)
    (seed,) = find_seeds(series)
    assert (seed.label, seed.roi_number) == ("Lesion.seg", 255)
    assert seed.lps_mm == pytest.approx(image.TransformIndexToPhysicalPoint((3, 2, 1)), abs=1e-4)


def test_an_empty_mask_is_a_failure(tmp_path):
    _, series = write_mask(tmp_path / "GTV.nrrd", np.zeros((4, 5, 6)))
    seeds, failures = find_rois(series)
    assert seeds == ()
    assert "empty" in failures[0].error.what
    assert isinstance(failures[0].error, SeedNotFoundError)


def test_a_file_that_is_no_image_is_a_failure(tmp_path):
    (tmp_path / "GTV.nrrd").write_bytes(b"not an image")
    _, failures = find_rois(bare_series(RoiSource(tmp_path / "GTV.nrrd", SeedKind.MASK, "GTV.nrrd")))
    assert [failure.label for failure in failures] == ["GTV.nrrd"]


def test_the_mask_of_a_label_on_its_own_grid_is_the_label(tmp_path):
    labels = random_labels()
    image, series = write_mask(tmp_path / "GTV.mha", labels)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    first, mask = roi_mask(series, find_seeds(series)[1], Grid.from_matrix(labels.shape, matrix))
    assert (mask == (labels == 4)[first : first + len(mask)]).all()


@needs_shared
def test_a_real_lung_lesion_is_where_simpleitk_has_it():
    path = next((DATA / "volumes-pyradiomics").rglob("lung1_label*"))
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(sitk.ReadImage(str(path), sitk.sitkUInt8))
    (seed,) = find_seeds(bare_series(RoiSource(path, SeedKind.MASK, path.name)))
    assert seed.lps_mm == pytest.approx(shape.GetCentroid(shape.GetLabels()[0]), abs=1e-3)
