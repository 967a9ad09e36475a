"""The image as a module of mercure: a task in, objects and result.json out."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from fmcib_module.core.conventions import Irregular, Mode
from fmcib_module.core.errors import ConfigError
from fmcib_module.pacs import mercure
from fmcib_module.pipeline import run
from fmcib_module.settings import Settings
from tests import phantoms
from tests.mhub.chain import ROOT
from tests.phantoms import PhantomStudy

DEFAULTS = Settings(report=False, pictures=False)


def write_task(folder: Path, process: object) -> Path:
    """A task file as mercure writes it, with what it holds about a patient."""
    folder.mkdir(exist_ok=True)
    info = {"action": "process", "uid": "1.2.3", "uid_type": "study", "mrn": "SECRET-ID", "acc": ""}
    path = folder / "task.json"
    path.write_text(json.dumps({"id": "task", "info": info, "dispatch": {}, "process": process, "study": {}}))
    return path


def process_of(**settings: object) -> dict[str, object]:
    """The part of a task about us."""
    return {"module_name": "fmcib", "settings": settings, "retain_input_images": False, "output": None}


def as_mercure(study: PhantomStudy, folder: Path, **settings: object) -> dict[str, str]:
    """A study as mercure hands it over; returns the environment."""
    (folder / "in").mkdir(parents=True)
    (folder / "out").mkdir()
    for path in study.folder.rglob("*.dcm"):
        uids = pydicom.dcmread(path, specific_tags=["SeriesInstanceUID", "SOPInstanceUID"])
        name = f"{uids.SeriesInstanceUID}#{uids.SOPInstanceUID}"
        (folder / "in" / f"{name}.dcm").write_bytes(path.read_bytes())
        (folder / "in" / f"{name}.tags").write_text('{"PatientID": "SECRET-ID"}')
    write_task(folder / "in", process_of(**settings))
    return {mercure.IN_DIR: str(folder / "in"), mercure.OUT_DIR: str(folder / "out")}


def test_settings_of_the_task_win_over_the_defaults(tmp_path):
    task = write_task(tmp_path, process_of(mode="centred", rois=["GTV-1"]))
    settings = mercure.read_task_settings(task, Settings(irregular=Irregular.RESAMPLE))
    assert settings == Settings(irregular=Irregular.RESAMPLE, mode=Mode.CENTRED, rois=("GTV-1",))
    assert mercure.read_task_settings(write_task(tmp_path, [process_of(mode="centred")]), DEFAULTS).mode is Mode.CENTRED
    assert mercure.read_task_settings(tmp_path / "absent.json", DEFAULTS) == DEFAULTS


@pytest.mark.parametrize(
    ("process", "message"),
    [
        (process_of(moed="centred"), r"unknown key\(s\) moed"),
        (process_of(mode="sideways"), "use one of: published"),
        ({}, ""),
        ([process_of(), process_of()], "no process.settings"),
        (None, "no process.settings"),
        ({"settings": ["mode"]}, "no process.settings"),
    ],
)
def test_a_task_that_does_not_fit_is_an_error_that_names_what(tmp_path, process, message):
    task = write_task(tmp_path, process)
    if not message:
        assert mercure.read_task_settings(task, DEFAULTS) == DEFAULTS
        return
    with pytest.raises(ConfigError, match=message) as error:
        mercure.read_task_settings(task, DEFAULTS)
    assert "SECRET" not in str(error.value)


def test_a_wrong_setting_ends_with_2_and_a_result_that_says_why(tmp_path, capsys):
    study = phantoms.write_study(tmp_path / "study", seg=False)
    environment = as_mercure(study, tmp_path / "task", moed="centred")
    assert mercure.main(DEFAULTS, environment) == 2
    assert "moed" in capsys.readouterr().err
    result = json.loads((tmp_path / "task" / "out" / "result.json").read_bytes())
    assert "moed" in result["error"]
    assert result["__mercure_notification"]["requested"]
    assert [path.name for path in (tmp_path / "task" / "out").iterdir()] == ["result.json"]


@pytest.mark.slow
def test_objects_come_out_as_mercure_names_them_and_equal_those_of_run(tmp_path, capsys):
    study = phantoms.write_study(tmp_path / "study")
    environment = as_mercure(study, tmp_path / "task")
    assert mercure.main(DEFAULTS, environment) == 0
    out = tmp_path / "task" / "out"
    run(study.folder, tmp_path / "expected", settings=DEFAULTS)
    wanted = {}
    for path in (tmp_path / "expected").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        wanted[f"{dataset.SeriesInstanceUID}#{dataset.SOPInstanceUID}.dcm"] = dataset
    assert {path.name for path in out.glob("*.dcm")} == set(wanted)
    for name, dataset in wanted.items():
        found = pydicom.dcmread(out / name)
        assert found.Modality == dataset.Modality
        assert found.get("ContentSequence", [])[-1:] == dataset.get("ContentSequence", [])[-1:]
        assert found.get("PixelData") == dataset.get("PixelData")
    assert (out / "features.csv").read_bytes() == (tmp_path / "expected" / "features.csv").read_bytes()
    result = json.loads((out / "result.json").read_bytes())
    assert sum(result["lesions"].values()) == 4  # two, drawn in the RTSTRUCT and in the SEG
    assert result["lesions"]["failed"] == 0
    assert not result["__mercure_notification"]["requested"]
    written = capsys.readouterr().err + "".join(path.read_text() for path in out.glob("*.json"))
    assert not re.search("SECRET|PHANTOM", written)


def test_a_study_without_lesions_is_a_failed_task(tmp_path):
    study = phantoms.write_study(tmp_path / "study", seg=False, rtstruct=False)
    assert mercure.main(DEFAULTS, as_mercure(study, tmp_path / "task")) == 4
    result = json.loads((tmp_path / "task" / "out" / "result.json").read_bytes())
    assert "no seed source" in result["reason"]


@pytest.mark.slow
def test_the_images_entrypoint_runs_mercures_task(tmp_path):
    study = phantoms.write_study(tmp_path / "study", seg=False)
    environment = as_mercure(study, tmp_path / "task", weights="mini", report=False)
    code = "import pathlib; from mhub import entrypoint as e; e.WORKFLOWS = pathlib.Path('config'); e.main([])"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert len(list((tmp_path / "task" / "out").glob("*.dcm"))) == 2
