"""The comparison of methods: its table, what it refuses, and a whole one on tiny scans, run twice."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from fmcib_module.core.errors import ConfigError
from fmcib_module.settings import from_plain, read_yaml
from tests.training import scans
from training.__main__ import main
from training.compare import CompareSettings, as_table
from training.prepare import build_cache
from training.settings import MethodName

CONFIG = Path(__file__).parents[2] / "config/training/comparison.yml"


def test_the_table_has_mean_least_and_largest_of_the_seeds() -> None:
    values = {"hand-made": {"auc": [0.9], "rank": [12.0]}, "simclr": {"auc": [0.5, 0.75, 1.0], "rank": [2.0, 2.0, 5.0]}}
    assert as_table(values) == [
        "| Method | auc | rank |",
        "|---|---|---|",
        "| hand-made | 0.90 | 12.00 |",
        "| simclr | 0.75 (0.50 to 1.00) | 3.00 (2.00 to 5.00) |",
    ]


def test_the_comparison_is_of_the_five_methods_of_the_paper_with_one_budget() -> None:
    settings = from_plain(CompareSettings, read_yaml(CONFIG), where=CONFIG.name)
    assert {method.name for method in settings.methods} == set(MethodName) - {MethodName.MIXED}
    assert len(settings.seeds) >= 2
    runs = [settings.training(method, 2) for method in settings.methods]
    assert len({run.run for run in runs}) == 5
    assert all(replace(run, run="", method=runs[0].method) == replace(runs[0], run="") for run in runs)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"methods": [{"name": "simclr"}] * 2}, "twice"), ({"trainer": {"devices": 2}}, "one process")],
)
def test_what_cannot_be_compared_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_plain(CompareSettings, {**read_yaml(CONFIG), **change}, where="c.yml")


@pytest.mark.slow
def test_a_comparison_trains_judges_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    build_cache(replace(scans.make_inputs(tmp_path, n_scans=4, lesions_per_scan=4), val=0.5), tmp_path)
    wanted = {
        "runs": "runs", "report": "report.json", "points": "cache", "tasks": ["class: class0, class1"],
        "methods": [{"name": "simclr"}, {"name": "autoencoder", "channels": [4, 8]}], "seeds": [1, 2],
        "lesions_per_patient": 3, "data": {"source": "cache", "path": "cache", "batch_size": 4},
        "network": {"widen_factor": 0.0625, "projection": 8},
        "trainer": {"epochs": 1, "accelerator": "cpu", "log_steps": 1},
    }  # fmt: skip
    (tmp_path / "c.yml").write_text(yaml.safe_dump(wanted))
    with caplog.at_level(logging.INFO):
        assert main(["compare", "c.yml"]) == 0
    values = json.loads((tmp_path / "report.json").read_text())["values"]
    assert {name: len(own["class"]) for name, own in values.items()} == {
        "hand-made": 1, "random weights": 2, "simclr": 2, "autoencoder": 2,
    }  # fmt: skip
    assert set(values["simclr"]) == {"class", "retrieval", "icc_displaced", "icc_noise", "effective_rank"}
    assert values["simclr"]["effective_rank"][0] != values["simclr"]["effective_rank"][1]
    assert any(record.message.startswith("| autoencoder | ") for record in caplog.records)
    checkpoints = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("last.ckpt")}
    assert len(checkpoints) == 4
    assert main(["compare", "c.yml"]) == 0  # nothing is trained again, and what was trained is judged the same
    assert json.loads((tmp_path / "report.json").read_text())["values"] == values
    assert {path: path.stat().st_mtime_ns for path in checkpoints} == checkpoints
