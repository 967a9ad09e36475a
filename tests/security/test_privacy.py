"""Words planted in every text element of a study come out in DICOM objects alone, also when something fails."""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
from typer.testing import CliRunner

from fmcib_module.cli import app
from tests import canaries, damage, phantoms
from tests.phantoms import PhantomStudy

FORMS = (
    canaries.WORD,
    canaries.DATE,
    "1933-01-07",
    "1933/01/07",
    "07.01.1933",
    canaries.TIME,
    "07:42:31",
    canaries.AGE,
)


def _cut_pixels(study: PhantomStudy) -> None:
    path = study.ct_paths[10]
    path.write_bytes(path.read_bytes()[:-500])


def _odd_position(study: PhantomStudy) -> None:
    damage.shift_slice(study, 8, 1.7)


def _other_patient(study: PhantomStudy) -> None:
    damage.edit_slice(study, 5, FrameOfReferenceUID="1.2.3.4", PatientID=f"{canaries.WORD}OTHER")


def _no_rescale(study: PhantomStudy) -> None:
    damage.edit_slice(study, 10, RescaleSlope="0", RescaleIntercept=None)


def _empty_contour(study: PhantomStudy) -> None:
    assert study.rtstruct_path is not None
    ds = pydicom.dcmread(study.rtstruct_path)
    for roi in ds.ROIContourSequence:
        roi.ContourSequence[0].ContourData = ["1", "2"]
    ds.save_as(study.rtstruct_path)


def _half_header(study: PhantomStudy) -> None:
    assert study.rtstruct_path is not None
    study.rtstruct_path.write_bytes(study.rtstruct_path.read_bytes()[:900])


DAMAGE: tuple[Callable[[PhantomStudy], None] | None, ...] = (
    None,
    _cut_pixels,
    _odd_position,
    _other_patient,
    _no_rescale,
    _empty_contour,
    _half_header,
)


def _readable(path: Path) -> str:
    """A file's content with every compression undone."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return str([{k: v for k, v in row.items() if k != "features"} for row in table.to_pylist()]) + str(table.schema)
    if path.suffix == ".npz":
        with np.load(path) as stored:
            return str({name: stored[name].tolist() for name in stored.files if stored[name].dtype.kind in "US"})
    return path.read_bytes().decode("latin-1")


@pytest.mark.parametrize("harm", DAMAGE, ids=lambda harm: harm.__name__.strip("_") if harm else "sound")
def test_planted_words_come_out_in_dicom_alone(
    tmp_path: Path, harm: Callable[[PhantomStudy], None] | None, caplog: pytest.LogCaptureFixture
) -> None:
    study = phantoms.write_study(tmp_path / "in")
    assert canaries.plant(study.folder) > 500
    if harm:
        harm(study)
    caplog.set_level(logging.DEBUG)
    words = ["run", str(study.folder), str(tmp_path / "out"), "--save-patches", "--stability", "2", "--json-log"]
    done = CliRunner().invoke(app, words)
    seen = {"output": done.output, "errors": done.stderr, "log": caplog.text, "exception": repr(done.exception)}
    seen |= {
        path.name: _readable(path) for path in (tmp_path / "out").rglob("*") if path.is_file() and path.suffix != ".dcm"
    }
    assert {"run_status.json", "report.html"} <= seen.keys()
    leaks = [(name, form) for name, text in seen.items() for form in FORMS if form in text]
    assert leaks == []


def test_libraries_do_not_say_on_the_terminal_what_a_file_holds(tmp_path: Path) -> None:
    """pydicom's warnings quote the value that they are about."""
    study = phantoms.write_study(tmp_path / "in", seg=False)
    for path in study.ct_paths[:2]:  # explicit VR under the name of implicit VR
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0", 1))
    words = ["-W", "default", "-m", "fmcib_module.cli", "run", str(study.folder), str(tmp_path / "out")]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stderr
    assert "Warning" not in done.stderr


def test_the_search_above_finds_what_was_planted(tmp_path: Path) -> None:
    study = phantoms.write_study(tmp_path / "in")
    canaries.plant(study.folder)
    text = _readable(study.ct_paths[0])
    assert all(form in text for form in (canaries.WORD, canaries.DATE, canaries.TIME, canaries.AGE))
