"""Who the patient is stays out of everything but DICOM, unless it is asked for; machines' folders stay out always."""

import json
import shutil

import pydicom
import pytest

from fmcib_module import run
from fmcib_module.adapters.weights import locate
from tests import phantoms


@pytest.fixture
def source(tmp_path):
    study = phantoms.write_study(tmp_path / "in", seg=False, patient_name="SECRET^NAME", patient_id="SECRET-ID")
    for path in study.ct_paths:
        dataset = pydicom.dcmread(path)
        dataset.StudyDate, dataset.SeriesDescription = "19330107", "SECRETDESC"
        dataset.save_as(path)
    return tmp_path / "in"


def test_identifiers_are_on_the_ledger_when_asked_for_and_nowhere_else(source, tmp_path):
    ledger = run(source, tmp_path / "out", identifiers=True, sr=False, seg=False)
    [entry] = ledger.series
    assert entry.identifiers == {
        "PatientName": "SECRET^NAME",
        "PatientID": "SECRET-ID",
        "StudyDate": "19330107",
        "SeriesDescription": "SECRETDESC",
    }
    assert (
        json.loads((tmp_path / "out" / "run_status.json").read_text())["series"][0]["identifiers"] == entry.identifiers
    )
    others = [p for p in (tmp_path / "out").rglob("*") if p.is_file() and p.name != "run_status.json"]
    assert others
    assert not [path.name for path in others if b"SECRET" in path.read_bytes()]
    assert run(source, tmp_path / "out", identifiers=True, sr=False, seg=False).series == ledger.series


def test_nobody_is_named_when_it_is_not_asked_for(source, tmp_path):
    ledger = run(source, tmp_path / "out", sr=False, seg=False)
    assert ledger.series[0].identifiers == {}
    assert "SECRET" not in (tmp_path / "out" / "run_status.json").read_text()


def test_the_ledger_names_a_weights_file_without_its_folder(source, tmp_path):
    weights = tmp_path / "private-folder" / "own.safetensors"
    weights.parent.mkdir()
    shutil.copy(locate("mini"), weights)
    ledger = run(source, tmp_path / "out", weights=str(weights), sr=False, seg=False)
    assert ledger.run["settings"]["weights"] == ledger.run["weights"] == "own"
    assert "private-folder" not in (tmp_path / "out" / "run_status.json").read_text()
