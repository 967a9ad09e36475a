"""Which results are of one patient: told by pseudonym, linked from run to run on purpose alone."""

import csv
import json
import stat
from pathlib import Path

import pydicom
import pytest

from fmcib_module import run
from fmcib_module.adapters.salt import SALT_NAME, SALT_VARIABLE
from fmcib_module.core.errors import ConfigError, OutputError
from fmcib_module.settings import Settings
from tests import phantoms
from tests.batch.cohorts import batch, write_manifest

QUICK = Settings(sr=False, seg=False, pictures=False, report=False)
PATIENTS = ("ID-ONE", "ID-TWO", "ID-ONE", "", "")
"""Of five studies."""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    for number, patient_id in enumerate(PATIENTS):
        phantoms.write_study(folder / f"p{number}", seed=number, seg=False, patient_id=patient_id)
    write_manifest(folder / "manifest.csv", [f"p{number}" for number in range(len(PATIENTS))])
    return folder


@pytest.fixture
def own_salts(monkeypatch):
    monkeypatch.delenv(SALT_VARIABLE)


def _names(ledger) -> dict[str, str]:
    return {entry.series_uid: entry.patient for entry in ledger.series if entry.rois}


def _series_uid(study) -> str:
    return str(pydicom.dcmread(next((study / "ct").iterdir())).SeriesInstanceUID)


def test_lesions_of_one_patient_have_one_name_and_nobody_s_id_is_told(source, tmp_path, own_salts):
    ledger = run(source, tmp_path / "out", settings=QUICK)
    names = [_names(ledger)[_series_uid(source / f"p{n}")] for n in range(len(PATIENTS))]
    assert names[0] == names[2] != names[1]
    assert len(set(names)) == 4
    assert [name[:2] for name in names] == ["P-", "P-", "P-", "S-", "S-"]
    with (tmp_path / "out" / "patients.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["patient"] for row in rows] == sorted(names)
    assert {row["series_uid"]: row["patient"] for row in rows} == _names(ledger)
    assert [row["known_by"] for row in rows] == ["PatientID"] * 3 + ["StudyInstanceUID"] * 2
    assert sum(int(row["lesions"]) for row in rows) == ledger.n_lesions
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and b"ID-ONE" in path.read_bytes()]


def test_two_outputs_cannot_be_linked_and_a_rerun_stays_the_same(source, tmp_path, own_salts):
    first, second = (run(source, tmp_path / name, settings=QUICK) for name in ("a", "b"))
    assert not set(_names(first).values()) & set(_names(second).values())
    salt = tmp_path / "a" / SALT_NAME
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    (tmp_path / "a" / first.series[0].output / "features.csv").unlink()
    table = (tmp_path / "a" / "patients.csv").read_bytes()
    again = run(source, tmp_path / "a", settings=QUICK)
    assert _names(again) == _names(first)
    assert (tmp_path / "a" / "patients.csv").read_bytes() == table
    assert again.run["salt_id"] == first.run["salt_id"] != second.run["salt_id"]


def test_a_salt_that_is_given_links_outputs_and_is_written_nowhere(source, tmp_path, monkeypatch, own_salts):
    first = run(source / "p0", tmp_path / "a", settings=QUICK)
    salt = (tmp_path / "a" / SALT_NAME).read_text().strip()
    monkeypatch.setenv(SALT_VARIABLE, salt)
    second = run(source / "p2", tmp_path / "b", settings=QUICK, identifiers=True)
    assert set(_names(first).values()) == set(_names(second).values())
    assert second.series[0].identifiers["PatientID"] == "ID-ONE"
    assert not [path for path in (tmp_path / "b").rglob("*") if path.is_file() and salt.encode() in path.read_bytes()]


def test_results_of_two_salts_do_not_get_into_one_folder(source, tmp_path, monkeypatch, own_salts):
    run(source / "p0", tmp_path / "out", settings=QUICK)
    kept = (tmp_path / "out" / "run_status.json").read_bytes()
    monkeypatch.setenv(SALT_VARIABLE, "another salt, long enough")
    with pytest.raises(OutputError, match="another salt"):
        run(source / "p0", tmp_path / "out", settings=QUICK)
    monkeypatch.delenv(SALT_VARIABLE)
    (tmp_path / "out" / SALT_NAME).rename(tmp_path / "salt")
    with pytest.raises(OutputError, match="another salt"):
        run(source / "p0", tmp_path / "out", settings=QUICK)
    assert (tmp_path / "out" / "run_status.json").read_bytes() == kept
    (tmp_path / "salt").rename(tmp_path / "out" / SALT_NAME)
    assert run(source / "p0", tmp_path / "out", settings=QUICK).exit_code == 0


def test_a_salt_that_can_be_guessed_or_is_damaged_is_refused(source, tmp_path, monkeypatch, own_salts):
    monkeypatch.setenv(SALT_VARIABLE, "short")
    with pytest.raises(ConfigError, match=r"5 characters.*FMCIB_SALT"):
        run(source / "p0", tmp_path / "out", settings=QUICK)
    monkeypatch.delenv(SALT_VARIABLE)
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / SALT_NAME).write_text("cut")
    with pytest.raises(OutputError, match="no salt"):
        run(source / "p0", tmp_path / "out", settings=QUICK)


def test_a_run_without_dicom_lesions_makes_no_salt(tmp_path, own_salts):
    phantoms.write_study(tmp_path / "in", rtstruct=False, seg=False)
    run(tmp_path / "in", tmp_path / "out", settings=QUICK)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run_status.json"]


def test_jobs_of_a_batch_agree_on_a_salt_of_the_store(source, tmp_path, monkeypatch, own_salts):
    manifest, output, scratch = source / "manifest.csv", tmp_path / "out", tmp_path / "scratch"
    write_manifest(tmp_path / "first.csv", ["p0", "p1"])
    batch(tmp_path / "first.csv", output, scratch, root=source)
    ledger = batch(manifest, output, scratch)
    salt = output / SALT_NAME
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    monkeypatch.setenv(SALT_VARIABLE, salt.read_text())
    expected = run(source, tmp_path / "expected", settings=QUICK)
    assert _names(ledger) == _names(expected)
    assert (
        ledger.run["salt_id"]
        == expected.run["salt_id"]
        == json.loads((output / "_batch/job.json").read_text())["salt_id"]
    )
    assert (output / "patients.csv").read_bytes() == (tmp_path / "expected" / "patients.csv").read_bytes()
    monkeypatch.setenv(SALT_VARIABLE, "another salt, long enough")
    with pytest.raises(OutputError, match="salt_id"):
        batch(manifest, output, scratch)


def test_a_salt_of_another_user_is_named_with_the_way_round_it(source, tmp_path, monkeypatch, own_salts):
    run(source / "p0", tmp_path / "out", settings=QUICK)
    read_bytes = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == SALT_NAME:
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(OutputError, match="set FMCIB_SALT"):
        run(source / "p0", tmp_path / "out", settings=QUICK)
    with pytest.raises(OutputError, match="set FMCIB_SALT"):
        batch(source / "manifest.csv", tmp_path / "batch", tmp_path / "scratch")
