"""The example patient: valid DICOM, no one's data, the same every time, lesions where its seed sources say."""

import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from fmcib_module.adapters import example
from tests.tools import needs_dciodvfy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return example.write_example(tmp_path_factory.mktemp("example"))


@pytest.fixture(scope="module")
def slices(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted((folder / "CT").iterdir())]


def _mean_hu(slices: list[pydicom.Dataset], point_lps: tuple[float, float, float]) -> float:
    """Mean of 3 x 3 pixels around a point, in HU, read with pydicom alone."""
    nearest = min(slices, key=lambda ds: abs(float(ds.ImagePositionPatient[2]) - point_lps[2]))
    x0, y0, _ = (float(v) for v in nearest.ImagePositionPatient)
    row_mm, column_mm = (float(v) for v in nearest.PixelSpacing)
    i, j = round((point_lps[0] - x0) / column_mm), round((point_lps[1] - y0) / row_mm)
    pixels = nearest.pixel_array[j - 1 : j + 2, i - 1 : i + 2]
    return float(pixels.mean() * float(nearest.RescaleSlope) + float(nearest.RescaleIntercept))


def test_seed_sources_point_at_their_lesions(folder: Path, slices: list[pydicom.Dataset]) -> None:
    lesions = {**example.CONTOURED, **example.SEGMENTED, **example.POINTED}
    for lesion in lesions.values():
        assert _mean_hu(slices, lesion.centre) == pytest.approx(lesion.hu, abs=15)
    rtstruct = pydicom.dcmread(folder / "RTSTRUCT.dcm")
    for roi, lesion in zip(rtstruct.ROIContourSequence, example.CONTOURED.values(), strict=True):
        points = np.concatenate([np.reshape(c.ContourData, (-1, 3)).astype(float) for c in roi.ContourSequence])
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        np.testing.assert_allclose(middle, lesion.centre, atol=1.25)  # half the slice spacing
    seg = pydicom.dcmread(folder / "SEG.dcm")
    assert [item.SegmentLabel for item in seg.SegmentSequence] == list(example.SEGMENTED)
    assert "84.0,28.0,-8.0" in (folder / "seeds.csv").read_text()


def test_the_chest_has_a_chest_s_densities(slices: list[pydicom.Dataset]) -> None:
    assert _mean_hu(slices, (0.0, -150.0, 0.0)) == pytest.approx(-1000, abs=15)  # air in front of the patient
    assert _mean_hu(slices, (0.0, 63.0, 0.0)) == pytest.approx(210, abs=30)  # spongy bone of a vertebra
    assert _mean_hu(slices, (0.0, 15.0, 80.0)) == pytest.approx(-1000, abs=15)  # trachea
    assert -950 < _mean_hu(slices, (-80.0, -30.0, 20.0)) < -750  # right lung
    assert _mean_hu(slices, (-60.0, 20.0, -85.0)) == pytest.approx(90, abs=15)  # liver


def test_every_object_belongs_to_one_made_up_patient(folder: Path) -> None:
    datasets = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.rglob("*.dcm")]
    assert len(datasets) == 82
    assert {str(ds.PatientName) for ds in datasets} == {"EXAMPLE^PHANTOM"}
    assert len({(ds.StudyInstanceUID, ds.FrameOfReferenceUID) for ds in datasets}) == 1


def test_a_second_call_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = example.write_example(tmp_path)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in names)


@needs_dciodvfy
def test_dciodvfy_finds_no_errors(folder: Path) -> None:
    for name in ("CT/0040.dcm", "RTSTRUCT.dcm", "SEG.dcm"):
        result = subprocess.run(["dciodvfy", folder / name], capture_output=True, text=True, check=False)
        assert "Error" not in result.stdout + result.stderr
