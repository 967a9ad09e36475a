"""Every workflow in config/: complete as MHub's checks want it, and run on an input made for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from fmcib_module.settings import Settings
from mhub.utils.workflow import FOLDERS_OF, SETTINGS_OF, settings_of
from tests.mhub.chain import MODULES, WORKFLOWS, make_config, read_ledger_json, run_chain
from tests.mhub.samples import SAMPLES

NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.yml"))
SOURCES = {
    "default": ("RTSTRUCT", "SEG", "POINT", "MASK", "SR", "GSPS"),
    "from_centroids": ("POINT",),
    "from_json": ("POINT",),
    "from_nifti_mask": ("MASK",),
    "from_rtstruct": ("RTSTRUCT",),
    "from_slicer": ("POINT",),
}


def _read(name: str) -> dict[str, Any]:
    workflow: dict[str, Any] = yaml.safe_load((WORKFLOWS / f"{name}.yml").read_text())
    return workflow


def test_every_input_of_the_published_model_has_its_workflow() -> None:
    assert set(NAMES) == set(SOURCES)


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_has_the_parts_that_mhub_wants(name: str) -> None:
    workflow = _read(name)
    assert set(workflow) == {"general", "execute", "modules", "sample"}
    assert workflow["general"]["data_base_dir"] == "/app/data"
    assert workflow["general"]["version"] == 1.0
    assert workflow["general"]["description"]
    assert workflow["execute"] == [module.__name__ for module in MODULES]
    for side in ("input", "output"):
        assert workflow["sample"][side]
        assert all(isinstance(text, str) and text for text in workflow["sample"][side].values())


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_writes_out_every_setting(name: str) -> None:
    workflow = _read(name)
    for module, fields in SETTINGS_OF.items():
        assert set(workflow["modules"].get(module, {})) == {*fields, *FOLDERS_OF.get(module, {})}
    expected = Settings(weights="fmcib", seed_sources=SOURCES[name])  # type: ignore[arg-type]  # StrEnum equals str
    assert settings_of(workflow) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_finds_every_lesion_of_its_input(name: str, tmp_path: Path) -> None:
    expected = SAMPLES[name](tmp_path / "input_data")
    assert run_chain(make_config(tmp_path, name)) == 0
    (entry,) = (e for e in read_ledger_json(tmp_path / "output_data")["series"] if e["status"] != "skipped")
    assert {f"{roi['label']} {roi['kind']}" for roi in entry["rois"]} == set(expected)
    for roi in entry["rois"]:
        np.testing.assert_allclose(roi["lps_mm"], expected[f"{roi['label']} {roi['kind']}"], atol=1e-3)
    rows = pd.read_csv(tmp_path / "output_data" / entry["output"] / "features.csv")
    assert len(rows) == len(expected)
    assert np.isfinite(rows.filter(regex="^feature_").to_numpy()).all()
    assert rows.filter(regex="^feature_").shape[1] == 512
    assert ("features.sr.dcm" in entry["files"]) == bool(entry["study_uid"])  # no DICOM in, no DICOM out
