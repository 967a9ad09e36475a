"""The phantoms are what they say: valid DICOM, with centroids that other libraries find where geometry puts them."""

import shutil
import subprocess
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from tests import damage, phantoms
from tests.enhanced_ct import to_enhanced
from tests.tools import needs_dciodvfy

SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
)


def _dataset(path: Path | None) -> pydicom.Dataset:
    assert path is not None
    return pydicom.dcmread(path)


def _stored_hu(path: Path) -> np.ndarray:
    ds = pydicom.dcmread(path)
    return np.asarray(ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept))


def _errors(path: Path | None) -> list[str]:
    assert path is not None
    result = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    return [line for line in (result.stdout + result.stderr).splitlines() if line.startswith(("Error", "Abort"))]


@needs_dciodvfy
@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_objects_have_no_errors_in_dciodvfy(tmp_path: Path, kind: str) -> None:
    study = phantoms.write_study(tmp_path, seg=kind)
    for path in (study.ct_paths[0], study.rtstruct_path, study.seg_path):
        assert _errors(path) == []


@needs_dciodvfy
def test_enhanced_ct_has_no_errors_in_dciodvfy(tmp_path: Path) -> None:
    study = phantoms.write_study(tmp_path, seg=False)
    to_enhanced(study)
    assert _errors(tmp_path / "ct" / "enhanced.dcm") == []
    assert _errors(study.rtstruct_path) == []


@pytest.mark.parametrize("orientation", phantoms.ORIENTATIONS, ids=str)
def test_simpleitk_finds_every_lesion_where_geometry_puts_it(tmp_path: Path, orientation: phantoms.Orientation) -> None:
    lesions = [phantoms.Lesion(hu=500), phantoms.Lesion("Box", (23.0, 4.0, 41.0), box_mm=(6, 3, 5), hu=900)]
    study = phantoms.write_study(tmp_path, orientation=orientation, lesions=lesions, rtstruct=False, seg=False)
    image = sitk.ReadImage([str(path) for path in study.ct_paths])
    for lesion in lesions:
        shape = sitk.LabelShapeStatisticsImageFilter()  # type: ignore[no-untyped-call]
        shape.Execute(image == lesion.hu)  # type: ignore[no-untyped-call]
        centroid = np.array(shape.GetCentroid(1))  # type: ignore[no-untyped-call]
        np.testing.assert_allclose(centroid, study.centroids[lesion.name], atol=1e-6)
        moved_mm = np.abs(np.subtract(study.centroids[lesion.name], lesion.centre_lps))
        assert np.linalg.norm(moved_mm) <= np.linalg.norm([1.5, 1.5, 2.5]) / 2


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_highdicom_reads_the_masks_back(tmp_path: Path, kind: str) -> None:
    study = phantoms.write_study(tmp_path, seg=kind)
    volume = hd.seg.segread(str(study.seg_path)).get_volume(combine_segments=False)
    for n, (name, mask) in enumerate(study.masks.items()):
        voxels = np.argwhere(volume.array[..., n])
        assert len(voxels) == mask.sum()
        centroid = volume.map_indices_to_reference(voxels.mean(axis=0, keepdims=True))[0]
        np.testing.assert_allclose(centroid, study.centroids[name], atol=1e-6)


@pytest.mark.parametrize("orientation", phantoms.ORIENTATIONS, ids=str)
def test_contours_are_planar_and_balanced_about_the_centroid(tmp_path: Path, orientation: phantoms.Orientation) -> None:
    study = phantoms.write_study(tmp_path, orientation=orientation, seg=False)
    rtstruct = _dataset(study.rtstruct_path)
    normal = study.affine[:3, 2] / np.linalg.norm(study.affine[:3, 2])
    for roi, centroid in zip(rtstruct.ROIContourSequence, study.centroids.values(), strict=True):
        points = [np.reshape(c.ContourData, (-1, 3)).astype(float) for c in roi.ContourSequence]
        assert all(np.ptp(p @ normal) < 1e-5 for p in points)
        np.testing.assert_allclose(np.concatenate(points).mean(axis=0), centroid, atol=1e-5)
        assert all(len(c.ContourImageSequence) == 1 for c in roi.ContourSequence)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.keyword)
def test_every_transfer_syntax_keeps_the_voxels(tmp_path: Path, syntax: UID) -> None:
    study = phantoms.write_study(tmp_path, transfer_syntax=syntax, rtstruct=False, seg=False)
    assert pydicom.dcmread(study.ct_paths[0]).file_meta.TransferSyntaxUID == syntax
    assert np.array_equal([_stored_hu(path) for path in study.ct_paths], study.voxels_hu)


def test_rescale_can_differ_per_slice(tmp_path: Path) -> None:
    pairs = [(1 + 0.25 * (k % 3), -1000.0 - k) for k in range(20)]
    study = phantoms.write_study(tmp_path, rescale=pairs, rtstruct=False, seg=False)
    assert np.array_equal([_stored_hu(path) for path in study.ct_paths], study.voxels_hu)


def test_enhanced_ct_holds_the_slices_by_position(tmp_path: Path) -> None:
    study = phantoms.write_study(tmp_path)
    enhanced = to_enhanced(study, seed=3)
    positions = [g.PlanePositionSequence[0].ImagePositionPatient for g in enhanced.PerFrameFunctionalGroupsSequence]
    order = np.argsort([float(p[2]) for p in positions])
    assert list(order) != sorted(order)
    frames = pydicom.dcmread(tmp_path / "ct" / "enhanced.dcm").pixel_array[order]
    assert np.array_equal(frames - 1024.0, study.voxels_hu)


def test_equal_arguments_give_equal_files(tmp_path: Path) -> None:
    first, second = (phantoms.write_study(tmp_path / name, seed=5) for name in "ab")
    assert [p.read_bytes() for p in first.ct_paths] == [p.read_bytes() for p in second.ct_paths]
    assert _dataset(first.rtstruct_path) == _dataset(second.rtstruct_path)
    assert _dataset(first.seg_path) == _dataset(second.seg_path)
    assert phantoms.write_study(tmp_path / "c", seed=6).series_uid != first.series_uid


def test_damage_leaves_the_truth_it_names(tmp_path: Path) -> None:
    study = phantoms.write_study(tmp_path, seg=False)
    damage.tilt(study, 10.0)
    first, second = (pydicom.dcmread(p).ImagePositionPatient for p in study.ct_paths[:2])
    assert float(second[1] - first[1]) == pytest.approx(2.5 * np.tan(np.radians(10)), abs=1e-6)
    damage.shift_slice(study, 4, 0.7)
    assert pydicom.dcmread(study.ct_paths[4]).ImagePositionPatient[2] == pytest.approx(study.affine[2, 3] + 10.7)
    damage.swap_slices(study, 2, 3)
    assert pydicom.dcmread(study.ct_paths[2]).InstanceNumber == 3
    assert pydicom.dcmread(study.ct_paths[2]).ImagePositionPatient[2] == pytest.approx(study.affine[2, 3] + 7.5)
    damage.duplicate_slice(study, 5)
    assert len(list((tmp_path / "ct").iterdir())) == 21
    dropped = damage.drop_slice(study, 0)
    damage.edit_slice(study, 1, RescaleSlope=None)
    remaining = [pydicom.dcmread(p) for p in sorted((tmp_path / "ct").glob("0*.dcm"))]
    assert dropped not in {ds.SOPInstanceUID for ds in remaining}
    assert "RescaleSlope" not in remaining[0]


def test_a_large_study_has_its_lesions_along_the_long_axis(tmp_path: Path) -> None:
    study = phantoms.large_study(tmp_path, shape_kji=(80, 64, 64), n_lesions=3)
    heights = [c[2] - phantoms.CENTRE_LPS[2] for c in study.centroids.values()]
    np.testing.assert_allclose(heights, [-40.0, 0.0, 40.0])
    shutil.rmtree(study.folder)
