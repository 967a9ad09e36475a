"""The whole study as one command, from DICOM to the report: what is planted is found, and chance is not."""

import hashlib
import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.training.study import planted_study
from tests.training.study.planted_study import COX, KNN, MINI, RADIOMICS, RIDGE, SUPERVISED, TUNED
from training.__main__ import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    planted_study.write_study(folder)
    with chdir(folder):
        assert main(["reproduce", "study.yml"]) == 0
    return folder


def metrics(study: Path, metric: str, share: float = 1.0) -> Any:
    table = pd.read_csv(study / "results" / "metrics.csv").query("metric == @metric and share == @share")
    return table[table["class"].isna()].set_index(["task", "method"])


def of_survival(study: Path, table: str, column: str, task: str = "planted survival") -> float:
    return float(pd.read_csv(study / "results" / f"{table}.csv").set_index("task")[column].to_dict()[task])


def test_the_planted_effect_is_found_by_every_head_on_features(study: Path) -> None:
    found = metrics(study, "auc").loc["planted"]
    assert set(found.index) == {MINI, RADIOMICS, RIDGE, KNN, TUNED, SUPERVISED}
    for method in (MINI, RADIOMICS, RIDGE, KNN):
        assert found.loc[method, "value"] > 0.8, method
        assert found.loc[method, "low"] > 0.5, method
    half = metrics(study, "auc", share=0.5).loc["planted"]
    assert set(half.index) == {MINI, RADIOMICS}
    assert (half["n_seeds"] == 2).all()
    survival = metrics(study, "c_index").loc[("planted survival", COX)]
    assert survival["low"] > 0.5
    assert of_survival(study, "cox", "low") > 1
    assert of_survival(study, "log_rank", "p") < 0.05


def test_chance_is_not_found(study: Path) -> None:
    found = metrics(study, "auc").loc["chance"]
    for method in (MINI, RADIOMICS):
        assert found.loc[method, "low"] < 0.5 < found.loc[method, "high"], method
    survival = metrics(study, "c_index").loc[("chance survival", COX)]
    assert survival["low"] < 0.5 < survival["high"]
    assert of_survival(study, "log_rank", "p", "chance survival") > 0.05


def test_the_report_says_what_was_done_and_what_came_out(study: Path) -> None:
    report = (study / "figures" / "report.html").read_text(encoding="utf-8")
    weights = json.loads((study / "planted/mini_logistic/probe.json").read_text())["features"]["weights_sha256"]
    assert weights in report
    trained = len(pd.read_csv(study / "planted/lesions.csv").query("split == 'train' and label.notna()"))
    assert f"logistic regression was fitted on {trained} lesions of {trained} patients" in report
    assert "all layers of the network mini and a head with 8 hidden units were trained from random weights" in report
    assert "500 bootstrap resamples of patients" in report
    assert "is not recorded" not in report
    assert "P00" not in report
    found: Any = pd.read_csv(study / "study" / "verdicts.csv").set_index("name")
    assert found.loc["AUC of chance", "verdict"] == "agrees"
    value = metrics(study, "auc").loc[("planted", MINI), "value"]
    assert found.loc["AUC of 1", "difference"] == pytest.approx(value - 0.999)
    assert f"{value:.3f} [" in report


def test_the_same_command_again_does_nothing(study: Path) -> None:
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in (study / "figures").iterdir()}
    times = {path: path.stat().st_mtime_ns for path in before}
    with chdir(study):
        assert main(["reproduce", "study.yml"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == times
