"""A step's minutes and memory are its own, both ways have the same lesions, and nothing of the runs stays."""

import json
import sys
from contextlib import chdir

import pandas as pd
import pytest
import yaml

from fmcib_module.core.errors import ConfigError, InputError
from tests.training.adaptation import planted
from training.__main__ import main
from training.study.drawing import styled
from training.study.efficiency import EfficiencySettings, draw_efficiency, measure, planned_steps


def test_memory_is_that_of_the_command_and_not_of_who_starts_it(tmp_path):
    ballast = bytearray(150 * 2**20)  # here; the process of the tests is large itself
    ballast[:: 2**12] = bytes([1]) * len(ballast[:: 2**12])
    small = measure([sys.executable, "-I", "-c", "pass"], tmp_path / "took.json")
    large = measure([sys.executable, "-I", "-c", "x = b'1' * (200 * 2**20)"], tmp_path / "took.json")
    assert small["peak_mib"] < 60
    assert 200 <= large["peak_mib"] - small["peak_mib"] + 5 < 230
    assert len(ballast) == 150 * 2**20


def test_time_waited_is_minutes_and_time_computed_is_cpu_minutes(tmp_path):
    code = "import time; time.sleep(0.5)"
    took = measure([sys.executable, "-I", "-c", code], tmp_path / "took.json")
    assert took["minutes"] >= 0.5 / 60
    assert 0 < took["cpu_minutes"] < took["minutes"]


def test_a_step_that_fails_is_told(tmp_path):
    with pytest.raises(InputError, match="exit code 3"):
        measure([sys.executable, "-I", "-c", "raise SystemExit(3)"], tmp_path / "took.json")


@pytest.fixture
def files(tmp_path):
    data = {"table": "lesions.csv"}
    model = {"extractor": "mini", "start": "random", "width": 0.25, "hidden": [8]}
    trainer = {"epochs": 2, "batch_size": 4, "validate_epochs": 2, "accelerator": "cpu", "threads": 1}
    plain = {
        "features": {"output": "kept", "extractors": ["mini"], "data": data, "device": "cpu"},
        "probe": {"features": "old.parquet", "output": "kept", "name": "density", "trials": 3},
        "finetune": {"run": "kept", "data": data, "model": model, "trainer": trainer, "augment": {"translation": 0}},
    }
    for name, values in plain.items():
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(values))
    settings = {"output": "out", **{name: f"{name}.yml" for name in plain}}
    (tmp_path / "efficiency.yml").write_text(yaml.safe_dump(settings))
    return tmp_path


def test_steps_write_where_it_is_thrown_away_and_the_probe_gets_the_features(files):
    settings = EfficiencySettings("out", "features.yml", "probe.yml", "finetune.yml")
    with chdir(files):
        steps = planned_steps(settings, files / "work")
        assert [(step.way, step.verb) for step in steps] == [
            ("features + linear", "features"),
            ("features + linear", "probe"),
            ("fine-tuning", "finetune"),
        ]
        features, probe, finetune = (step.settings for step in steps)
        assert probe["features"] == f"{features['output']}/mini.parquet"
        for folder in (features["output"], probe["output"], finetune["run"]):
            assert folder.startswith(str(files / "work"))
        other = yaml.safe_load((files / "finetune.yml").read_text()) | {"data": {"table": "other.csv"}}
        (files / "finetune.yml").write_text(yaml.safe_dump(other))
        with pytest.raises(ConfigError, match="same lesions"):
            planned_steps(settings, files / "work")


def test_minutes_add_up_and_memory_does_not():
    rows = [("a", "features", 2.0, 4.0, 900.0), ("a", "probe", 1.0, 1.0, 500.0), ("b", "finetune", 9.0, 18.0, 2000.0)]
    took = pd.DataFrame(rows, columns=["way", "step", "minutes", "cpu_minutes", "peak_mib"])
    with styled():
        minutes, _, memory = draw_efficiency(took).figure.axes
    tops = [
        max(bar.get_y() + bar.get_height() for bar in ax.patches if round(bar.get_x() + 0.3) == 0)
        for ax in (minutes, memory)
    ]
    assert tops == [3.0, 900.0]


@pytest.mark.slow
def test_both_ways_are_measured_and_nothing_of_them_stays(files):
    planted.write_cohort(files)
    with chdir(files):
        assert main(["efficiency", "efficiency.yml"]) == 0
    table = pd.read_csv(files / "out/efficiency.csv")
    assert table["step"].tolist() == ["features", "probe", "finetune"]
    assert (table[["minutes", "cpu_minutes"]] > 0).all(axis=None)
    assert (table["peak_mib"] > 100).all()
    assert {path.name for path in (files / "out").iterdir()} == {
        *("efficiency.csv", "efficiency.png", "efficiency.svg", "machine.json")
    }
    assert json.loads((files / "out/machine.json").read_text())["cores"] >= 1
    assert not (files / "kept").exists()
