"""RT Structure Sets: made ones against geometry, real ones against masks and an independent raster."""

from collections import defaultdict

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image, ImageDraw

from fmcib_module.adapters.seed_finder import find_rois, find_seeds, roi_mask
from fmcib_module.core.conventions import Flag, SeedKind
from fmcib_module.core.errors import FrameOfReferenceError, InputError, SeedNotFoundError
from fmcib_module.core.volume import Grid
from tests.adapters.seed_sources import (
    FRAME_UID,
    SERIES_UID,
    bare_series,
    contour,
    grid_of,
    series_of,
    write_rtstruct,
)
from tests.phantoms import ORIENTATIONS, write_study
from tests.shared import DATA, needs_shared

SQUARE = np.array([[0, 0, 0], [4, 0, 0], [4, 4, 0], [0, 4, 0]], dtype=float)
UP = np.array([0, 0, 3.0])
ONE = np.array([1.0, 1.0, 0])


def seeds_of(tmp_path, *contours, **options):
    source = write_rtstruct(tmp_path / "rs.dcm", [(5, "GTV", contours)], **options)
    return find_seeds(bare_series(source))


def failure_of(tmp_path, *contours, **options):
    source = write_rtstruct(tmp_path / "rs.dcm", [(5, "GTV", contours)], **options)
    seeds, failures = find_rois(bare_series(source))
    assert seeds == ()
    assert [(failure.label, failure.roi_number, failure.source_uid) for failure in failures] == [("GTV", 5, "1.2.3.9")]
    assert "'GTV' (number 5)" in failures[0].error.where
    return failures[0].error


def test_a_box_is_a_seed_with_its_number_extent_and_volume(tmp_path):
    (seed,) = seeds_of(tmp_path, *(contour(SQUARE + n * UP) for n in range(3)))
    assert seed.lps_mm == pytest.approx((2, 2, 3))
    assert (seed.label, seed.roi_number, seed.source_uid, seed.kind) == ("GTV", 5, "1.2.3.9", SeedKind.RTSTRUCT)
    assert seed.extent_mm == pytest.approx((4, 4, 6))
    assert seed.volume_mm3 == pytest.approx(16 * 9)
    assert seed.flags == ()


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
def test_phantom_rois_are_where_they_were_painted(tmp_path, orientation):
    study = write_study(tmp_path, orientation=orientation, seg=False)
    seeds = find_seeds(series_of(tmp_path / "ct", tmp_path / "rtstruct.dcm"))
    assert {seed.label for seed in seeds} == set(study.centroids)
    for seed in seeds:
        assert seed.lps_mm == pytest.approx(study.centroids[seed.label], abs=1e-3)


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_a_nested_contour_is_a_hole(tmp_path, kind):
    contours = [contour(part + n * UP, kind) for n in range(2) for part in (SQUARE * 3, SQUARE + ONE)]
    (seed,) = seeds_of(tmp_path, *contours)
    assert seed.volume_mm3 == pytest.approx((144 - 16) * 6)
    assert seed.lps_mm == pytest.approx(((144 * 6 - 16 * 3) / 128, (144 * 6 - 16 * 3) / 128, 1.5))


def test_a_contour_given_twice_counts_once_but_cancels_out_under_xor(tmp_path):
    twice = [contour(SQUARE), contour(SQUARE + UP), contour(SQUARE + UP)]
    assert seeds_of(tmp_path, *twice)[0].lps_mm == pytest.approx((2, 2, 1.5))
    xor = [contour(SQUARE, "CLOSEDPLANAR_XOR")] * 2
    assert "cancel out" in failure_of(tmp_path, *xor).what


def test_point_contours_are_point_seeds(tmp_path):
    seeds = seeds_of(tmp_path, contour([[1, 2, 3]], "POINT"), contour([[7, 8, 9]], "POINT"))
    assert [seed.lps_mm for seed in seeds] == [(1, 2, 3), (7, 8, 9)]
    assert [(seed.roi_number, seed.extent_mm, seed.flags) for seed in seeds] == [(5, None, ())] * 2


def test_an_open_line_gives_its_middle_and_says_so(tmp_path):
    (seed,) = seeds_of(tmp_path, contour([[0, 0, 0], [6, 0, 0], [6, 2, 0]], "OPEN_PLANAR"))
    assert seed.lps_mm == pytest.approx(((6 * 3 + 2 * 6) / 8, 2 * 1 / 8, 0))
    assert seed.flags == (Flag.NOT_ALL_CLOSED_PLANAR,)
    assert seed.volume_mm3 is None


def test_an_open_line_beside_closed_contours_is_left_out_and_said(tmp_path):
    line = contour([[50, 50, 0], [60, 60, 0]], "OPEN_PLANAR")
    (seed,) = seeds_of(tmp_path, contour(SQUARE), contour(SQUARE + UP), line)
    assert seed.lps_mm == pytest.approx((2, 2, 1.5))
    assert seed.flags == (Flag.NOT_ALL_CLOSED_PLANAR,)


def test_contours_in_two_directions_are_flagged(tmp_path):
    coronal = SQUARE[:, [0, 2, 1]]
    (seed,) = seeds_of(tmp_path, *(contour(SQUARE + n * UP) for n in range(3)), contour(coronal))
    assert seed.lps_mm == pytest.approx((2, 2, 3))
    assert Flag.SEVERAL_CONTOUR_DIRECTIONS in seed.flags


def test_a_large_roi_and_a_ring_are_flagged(tmp_path):
    (seed,) = seeds_of(tmp_path, *(contour(part) for part in (SQUARE * 13, SQUARE * 11 + 4 * ONE)))
    assert seed.flags == (Flag.LARGER_THAN_PATCH, Flag.OUTSIDE_MASK)


def test_an_roi_without_contours_is_a_failure(tmp_path):
    error = failure_of(tmp_path)
    assert isinstance(error, SeedNotFoundError)
    assert "has no contours" in error.what


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (["0", "0", "0", "4", "0", "0", "4"], "not a multiple of 3"),
        (["0", "0", "0", "4", "0", "nan", "4", "4", "0"], "no coordinate"),
    ],
)
def test_damaged_contour_data_is_a_failure_that_says_what(tmp_path, data, reason):
    path = tmp_path / "rs.dcm"
    good = (6, "Good", [contour(SQUARE), contour(SQUARE + UP)])
    source = write_rtstruct(path, [(5, "GTV", [contour(SQUARE)]), good])
    content = path.read_bytes()
    old = pydicom.dcmread(path).ROIContourSequence[0].ContourSequence[0].get_item("ContourData").value
    new = "\\".join(data).encode().ljust(len(old))
    path.write_bytes(content.replace(old, new, 1))
    seeds, failures = find_rois(bare_series(source))
    assert [seed.label for seed in seeds] == ["Good"]
    assert [failure.label for failure in failures] == ["GTV"]
    assert reason in failures[0].error.what


def test_an_roi_that_is_drawn_but_not_listed_is_not_lost(tmp_path):
    path = tmp_path / "rs.dcm"
    source = write_rtstruct(path, [(5, "GTV", [contour(SQUARE)]), (6, "Node", [contour(SQUARE)])])
    dataset = pydicom.dcmread(path)
    del dataset.StructureSetROISequence[0]
    dataset.save_as(path)
    assert [(seed.roi_number, seed.label) for seed in find_seeds(bare_series(source))] == [(5, "ROI 5"), (6, "Node")]


def test_a_file_without_preamble_is_read(tmp_path):
    source = write_rtstruct(tmp_path / "rs.dcm", [(5, "GTV", [contour(SQUARE)])])
    source.path.write_bytes(source.path.read_bytes()[132:])
    assert len(find_seeds(bare_series(source))) == 1


def test_garbage_in_contour_data_is_a_failure(tmp_path):
    path = tmp_path / "rs.dcm"
    source = write_rtstruct(path, [(5, "GTV", [contour(SQUARE)])])
    path.write_bytes(path.read_bytes().replace(b"4.000000", b"4.00?!00", 1))
    _, failures = find_rois(bare_series(source))
    assert "cannot be read" in failures[0].error.what


def test_a_file_that_is_not_dicom_is_one_failure(tmp_path):
    source = write_rtstruct(tmp_path / "rs.dcm", [(5, "GTV", [contour(SQUARE)])])
    source.path.write_bytes(b"not DICOM at all")
    _, failures = find_rois(bare_series(source))
    assert [(failure.label, failure.roi_number) for failure in failures] == [("1.2.3.9", None)]
    assert isinstance(failures[0].error, InputError)
    assert "1.2.3.9" in failures[0].error.where


def test_another_frame_of_reference_is_a_failure_unless_the_series_is_named(tmp_path):
    error = failure_of(tmp_path, contour(SQUARE), frame_uid="9.9")
    assert isinstance(error, FrameOfReferenceError)
    assert "9.9" in error.what
    assert FRAME_UID in error.what
    (seed,) = seeds_of(tmp_path, contour(SQUARE), frame_uid="9.9", referenced_series_uid=SERIES_UID)
    assert seed.flags == (Flag.OTHER_FRAME_OF_REFERENCE,)


def test_a_mask_of_points_is_a_sphere_around_each(tmp_path):
    source = write_rtstruct(tmp_path / "rs.dcm", [(1, "A", [contour([[10, 10, 10]], "POINT")])])
    series = bare_series(source)
    first, mask = roi_mask(series, find_seeds(series)[0], Grid.from_matrix((20, 20, 20), np.eye(4)))
    assert (first, mask.sum()) == (8, 33)


def test_an_roi_outside_the_grid_has_no_mask(tmp_path):
    source = write_rtstruct(tmp_path / "rs.dcm", [(1, "A", [contour(SQUARE + 500)])])
    series = bare_series(source)
    with pytest.raises(SeedNotFoundError, match=r"'A'.*SeriesInstanceUID 1\.2\.3\.1"):
        roi_mask(series, find_seeds(series)[0], Grid.from_matrix((20, 20, 20), np.eye(4)))


@needs_shared
@pytest.mark.parametrize("patient", ["002", "003", "008", "019", "025"])
def test_sarcomas_agree_with_their_reference_masks(patient):
    """Centroids within 0.1 voxel on each axis (half a voxel was asked for); masks equal but for pixels on a contour."""
    folder = DATA / f"ct-rtstruct-sts/STS_{patient}"
    series = series_of(folder / "ct", folder / "rtstruct/RS.dcm")
    (seed,) = find_seeds(series)
    reference = sitk.ReadImage(str(folder / "reference_mask.nii.gz"), sitk.sitkUInt8)
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(reference)
    off_by_voxels = (np.array(seed.lps_mm) - shape.GetCentroid(1)) / reference.GetSpacing()
    assert np.abs(off_by_voxels).max() < 0.1
    assert seed.volume_mm3 == pytest.approx(shape.GetPhysicalSize(1), rel=0.005)
    assert Flag.UNRESOLVED_REFERENCES in seed.flags
    first, mask = roi_mask(series, seed, grid_of(series))
    expected = sitk.GetArrayFromImage(reference)[first : first + len(mask)] > 0
    assert 2 * (mask & expected).sum() / (mask.sum() + expected.sum()) > 0.995


@pytest.fixture(scope="module")
def lung():
    folder = DATA / "ct-rtstruct-4dlung-113"
    ct = next(path.parent for path in folder.rglob("*.dcm") if path.parent.name != "rtstruct")
    return series_of(ct, folder / "rtstruct/1-1.dcm")


def supersampled_centroid(series, number, factor=8):
    """Centroid of contours as Pillow fills them on pixels 1/factor of the CT's, XOR within a slice."""
    grid = grid_of(series)
    to_index = np.linalg.inv(grid.matrix)
    slices = defaultdict(lambda: np.zeros((grid.shape[1] * factor, grid.shape[2] * factor), dtype=bool))
    for item in pydicom.dcmread(series.roi_sources[0].path).ROIContourSequence:
        for drawn in item.ContourSequence if item.ReferencedROINumber == number else []:
            points = np.array(drawn.ContourData, dtype=float).reshape(-1, 3)
            ijk = points @ to_index[:3, :3].T + to_index[:3, 3]
            image = Image.new("1", (grid.shape[2] * factor, grid.shape[1] * factor))
            corners = [(float(i), float(j)) for i, j in (ijk[:, :2] + 0.5) * factor - 0.5]
            ImageDraw.Draw(image).polygon(corners, fill=1)
            slices[round(ijk[0, 2])] ^= np.array(image)
    moment, total = np.zeros(3), 0
    for k, filled in slices.items():
        j, i = np.nonzero(filled)
        moment += [((i + 0.5) / factor - 0.5).sum(), ((j + 0.5) / factor - 0.5).sum(), k * len(i)]
        total += len(i)
    return (grid.matrix @ [*moment / total, 1])[:3]


@needs_shared
def test_a_lung_tumour_is_where_an_independent_raster_has_it(lung):
    """0.08 mm from Pillow's raster at 1/8 pixel; 0.5 mm was asked for."""
    seeds = find_seeds(lung)
    assert [(seed.roi_number, seed.label) for seed in seeds] == [
        (17, "Tumor_c40"),
        (18, "LN_c40"),
        (19, "Carina_c40"),
        (20, "Vertebra_c40"),
    ]
    assert np.linalg.norm(np.array(seeds[0].lps_mm) - supersampled_centroid(lung, 17)) < 0.1
    assert seeds[0].flags == (Flag.LARGER_THAN_PATCH,)


@needs_shared
def test_a_mask_traced_through_pixel_centres_is_larger_than_its_contours_around_the_same_centroid(lung):
    seed, grid = find_seeds(lung)[0], grid_of(lung)
    first, mask = roi_mask(lung, seed, grid)
    k, j, i = np.nonzero(mask)
    centroid = grid.matrix[:3] @ [i.mean(), j.mean(), k.mean() + first, 1]
    assert np.linalg.norm(centroid - seed.lps_mm) < 0.1
    assert mask.sum() * np.prod(grid.spacing_mm) == pytest.approx(72_000, rel=0.01)  # the data's README
    assert seed.volume_mm3 == pytest.approx(67_600, rel=0.01)


EDGE_CASES = DATA / "edge-cases"
BAD_REFERENCES = EDGE_CASES / "rtstruct-bad-refs"


@needs_shared
@pytest.mark.parametrize("name", ["invalid_reference_rt.dcm", "non_existent_reference_rt.dcm"])
def test_contours_on_absent_slices_are_found_by_position_and_flagged(name):
    seeds, failures = find_rois(series_of(BAD_REFERENCES, BAD_REFERENCES / name))
    assert [seed.roi_number for seed in seeds] == [1, 2, 3, 4]
    assert failures == ()
    assert all(Flag.UNRESOLVED_REFERENCES in seed.flags for seed in seeds)
    assert all(60 < seed.lps_mm[2] < 70 for seed in seeds)


@needs_shared
def test_another_frame_of_reference_that_names_the_series_is_flagged():
    (seed,) = find_seeds(series_of(BAD_REFERENCES, BAD_REFERENCES / "rt.dcm"))
    assert Flag.OTHER_FRAME_OF_REFERENCE in seed.flags
    assert seed.volume_mm3 == pytest.approx(5 * 351.5, rel=0.001)  # two nested contours on one 5 mm slice


@needs_shared
def test_an_rtstruct_on_98_slices_of_which_one_is_there_gives_nine_seeds_and_one_empty_roi():
    folder = EDGE_CASES / "rtstruct-missing-slices"
    seeds, failures = find_rois(series_of(folder, folder / "rtss.dcm"))
    assert [seed.roi_number for seed in seeds] == [1, 3, 4, 5, 6, 7, 8, 9, 10]
    assert all(Flag.UNRESOLVED_REFERENCES in seed.flags for seed in seeds)
    assert [(failure.label, failure.roi_number) for failure in failures] == [("Areola", 2)]
