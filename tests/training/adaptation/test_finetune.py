"""Fine-tuning finds what is planted, goes on after a kill as if nothing was, and predicts in the shared form."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from fmcib_module.core.errors import ConfigError, InputError, OutputError, WeightsError
from fmcib_module.settings import from_plain
from tests.training.adaptation import planted
from training.adaptation import finetune_module
from training.adaptation.finetune import finetune, run_finetune
from training.adaptation.finetune_data import read_cohort, within_horizon
from training.adaptation.finetune_settings import FinetuneSettings, FinetuneTrainer, ModelSettings, Start
from training.adaptation.finetuned import read_finetuned
from training.adaptation.lesions import LesionSettings, open_lesions
from training.bars import Bar
from training.evaluation.metrics import auc
from training.evaluation.predictions import read_predictions


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    planted.write_cohort(folder)
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMCIB_CACHE", str(tmp_path / "cache"))


def settings(cohort, **changes) -> FinetuneSettings:
    plain = {
        "run": "run",
        "data": {"table": str(cohort / "lesions.csv")},
        "model": {"extractor": "mini", "start": "random", "width": 0.25, "hidden": [8]},
        "augment": {"translation": 2},
        "optimiser": {"name": "adam", "learning_rate": 0.003, "reference_batch": 0},
        "trainer": {"epochs": 4, "batch_size": 4, "validate_epochs": 1, "accelerator": "cpu"},
        "predict": ["test"],
    }
    return from_plain(FinetuneSettings, {**plain, **changes}, where="test")


def lines(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_planted_difference_is_found_and_predicted_in_the_shared_form(cohort):
    (run,) = read_predictions([run_finetune(settings(cohort))])
    assert (run.method, run.share, run.seed, run.classes) == (
        "mini, supervised from random weights",
        1.0,
        1,
        ("a", "b"),
    )
    assert run.frame["lesion"].tolist() == [f"L{n}" for n in range(18, 24)]
    assert auc(run.probabilities[:, 1], (run.frame["label"] == "b").to_numpy()) == 1.0
    np.testing.assert_allclose(run.probabilities.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.slow
def test_the_best_checkpoint_of_the_tuning_set_is_kept_not_the_last(cohort, tmp_path):
    trainer = {"epochs": 4, "batch_size": 4, "validate_epochs": 1, "accelerator": "cpu", "score": "loss"}
    run_finetune(settings(cohort, trainer=trainer))
    folder = tmp_path / "run/all"
    losses = [float(line["val_loss"]) for line in lines(folder / "metrics.csv")]
    best = json.loads((folder / "best.json").read_text())
    assert best["epoch"] == 1 + int(np.argmin(losses))
    assert best["score"] == pytest.approx(-min(losses), rel=1e-4)
    assert best["classes"] == ["a", "b"]
    assert read_finetuned(folder / "best.torch", "mini").heads[0][0].in_features == 128
    assert not (folder / "last.ckpt").exists()


class Killed(Exception):
    pass


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights_bit_for_bit(cohort, monkeypatch, tmp_path):
    run_finetune(settings(cohort, run="straight"))

    def die(self, done, total):
        if done == 2:
            raise Killed

    monkeypatch.setattr(Bar, "told", die)
    with pytest.raises(Killed):
        run_finetune(settings(cohort))
    assert not (tmp_path / "run/all/best.json").exists()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    run_finetune(settings(cohort))
    for name in ("metrics.csv", "best.json", "predictions.csv"):
        assert (tmp_path / "run/all" / name).read_bytes() == (tmp_path / "straight/all" / name).read_bytes()
    straight, resumed = (read_finetuned(tmp_path / run / "all/best.torch", "mini") for run in ("straight", "run"))
    for name, tensor in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


@pytest.mark.slow
def test_sgd_steps_down_and_patience_ends_the_run(cohort, monkeypatch, tmp_path):
    scores = iter([0.5, 0.9, 0.8, 0.7, 0.6, 0.5])
    monkeypatch.setitem(finetune_module.CLASS_METRICS, "auc", lambda predictions, counts: np.array([next(scores)]))
    run_finetune(
        settings(
            cohort,
            optimiser={"name": "sgd", "learning_rate": 0.64, "step_epochs": 2},
            trainer={"epochs": 6, "batch_size": 4, "validate_epochs": 1, "patience": 2, "accelerator": "cpu"},
        )
    )
    numbers = lines(tmp_path / "run/all/metrics.csv")
    assert [float(line["learning_rate"]) for line in numbers] == pytest.approx([0.01, 0.01, 0.001, 0.001])
    assert json.loads((tmp_path / "run/all/best.json").read_text())["epoch"] == 2


@pytest.mark.slow
def test_shares_are_nested_and_every_fit_is_in_the_predictions(cohort, tmp_path):
    trainer = {"epochs": 1, "batch_size": 4, "validate_epochs": 1, "accelerator": "cpu"}
    path = run_finetune(settings(cohort, trainer=trainer, shares=[1.0, 0.5], seeds=[1, 2], predict=["val", "test"]))
    runs = read_predictions([path])
    assert [(run.share, run.seed, len(run.frame)) for run in runs] == [(1.0, 1, 12), (0.5, 1, 12), (0.5, 2, 12)]
    counts = [
        json.loads((tmp_path / "run" / name / "best.json").read_text())["lesions"]
        for name in ("all", "50-percent.seed-2")
    ]
    assert counts == [12, 6]
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("best.torch")}
    run_finetune(settings(cohort, trainer=trainer, shares=[1.0, 0.5], seeds=[1, 2]))
    assert {file: file.stat().st_mtime_ns for file in before} == before


@pytest.mark.slow
def test_weights_of_another_task_are_transferred_and_a_finished_model_only_predicts(cohort, tmp_path):
    one = {"epochs": 1, "batch_size": 4, "validate_epochs": 1, "accelerator": "cpu"}
    run_finetune(settings(cohort, run="task1", trainer=one))
    first = tmp_path / "task1/all/best.torch"
    model = {"extractor": "mini", "weights": str(first), "hidden": [4]}
    frozen = {"name": "adam", "learning_rate": 0.0, "reference_batch": 0}
    path = run_finetune(settings(cohort, run="task2", model=model, optimiser=frozen, trainer=one))
    trunk, moved = (read_finetuned(file, "mini").trunk for file in (first, tmp_path / "task2/all/best.torch"))
    assert torch.equal(trunk.conv1.weight, moved.conv1.weight)
    (run,) = read_predictions([path])
    assert run.method == "mini fine-tuned"
    finished = {"extractor": "mini", "finetuned": str(tmp_path / "task2/all/best.torch")}
    (again,) = read_predictions([run_finetune(settings(cohort, run="only", model=finished))])
    np.testing.assert_allclose(again.probabilities, run.probabilities, rtol=1e-5)
    assert sorted(file.name for file in (tmp_path / "only").iterdir()) == ["predictions.csv"]
    with pytest.raises(OutputError, match="weights_sha256"):
        run_finetune(settings(cohort, run="task2", optimiser=frozen, trainer=one, model={**model, "weights": "mini"}))


@pytest.mark.slow
def test_survival_within_a_horizon_gives_a_risk(cohort, tmp_path):
    trainer = {"epochs": 3, "batch_size": 4, "validate_epochs": 1, "accelerator": "cpu"}
    table = pd.read_csv(cohort / "lesions.csv")
    table.loc[table["lesion"].isin(["L01", "L19"]), "event"] = 0  # seen for half a year: nobody knows
    table["image_path"] = str(cohort / "scan.nrrd")
    table.to_csv(tmp_path / "survival.csv", index=False)
    wanted = settings(cohort, task="survival", trainer=trainer, data={"table": str(tmp_path / "survival.csv")})
    found = read_cohort(open_lesions(wanted.data), wanted)
    assert len(found.rows("train")) == 11
    path = run_finetune(wanted)
    (run,) = read_predictions([path])
    assert run.classes == ()
    assert run.frame["lesion"].tolist() == [f"L{n}" for n in range(18, 24)]
    assert run.frame["time"].tolist() == pytest.approx(table["time"].iloc[18:].tolist())
    dense = np.array([0, 1] * 3) == 1
    assert auc(run.risk, dense) == 1.0


def test_two_years_from_time_and_event():
    frame = pd.DataFrame({"time": [1.0, 1.0, 2.0, 2.5, 2.5, np.nan], "event": [1, 0, 1, 1, 0, 1]})
    assert within_horizon(frame, 2.0).tolist() == [1, -1, 1, 0, 0, -1]


def test_a_patient_on_both_sides_is_refused_unless_asked_for(cohort, tmp_path):
    table = pd.read_csv(cohort / "lesions.csv")
    table.loc[18, "patient"] = "p0"
    table.to_csv(tmp_path / "shared.csv", index=False)
    with pytest.raises(InputError, match="one patient is in two splits"):
        run_finetune(settings(cohort, data={"table": "shared.csv"}))
    wanted = settings(cohort, data={"table": "shared.csv", "images": str(cohort), "shared_patients": True})
    assert read_cohort(open_lesions(wanted.data), wanted).shared == 1


@pytest.mark.slow
def test_lesions_that_cannot_be_cut_are_named_and_left_out(cohort, tmp_path, caplog):
    table = pd.read_csv(cohort / "lesions.csv")
    table.loc[[0, 20], "coordX"] = 1e5
    table.to_csv(tmp_path / "outside.csv", index=False)
    trainer = {"epochs": 1, "batch_size": 4, "accelerator": "cpu"}
    wanted = settings(cohort, data={"table": "outside.csv", "images": str(cohort)}, trainer=trainer)
    (run,) = read_predictions([run_finetune(wanted)])
    assert "L20" not in set(run.frame["lesion"])
    assert len(run.frame) == 5
    assert "lesion L00: seed 'L00' lies" in caplog.text
    assert json.loads((tmp_path / "run/all/best.json").read_text())["lesions"] == 11


def test_the_verb_reads_its_file_and_unknown_keys_are_errors(cohort, tmp_path):
    path = tmp_path / "finetune.yml"
    path.write_text(yaml.safe_dump({"run": "run", "data": {"table": "x.csv"}, "modle": {}}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"modle \[finetune\.yml\]"):
        finetune(path)


def test_settings_that_do_not_fit_are_refused(cohort):
    with pytest.raises(ConfigError, match="random start has no weights"):
        ModelSettings(start=Start.RANDOM, weights="mini")
    with pytest.raises(ConfigError, match="width is 2"):
        ModelSettings(width=2.0)
    with pytest.raises(ConfigError, match="epochs is 0"):
        FinetuneTrainer(epochs=0)
    with pytest.raises(ConfigError, match="no network 'radiomics'"):
        run_finetune(settings(cohort, model={"extractor": "radiomics"}))
    with pytest.raises(WeightsError, match="not on this machine"):
        run_finetune(settings(cohort, model={"extractor": "med3d"}))
    assert LesionSettings(table="x").mode == "published"
