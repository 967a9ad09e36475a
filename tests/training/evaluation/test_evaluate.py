"""The verb: what it writes is what the statistics give, planted differences are found, null ones are not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn import metrics as sk

from tests.training.evaluation import simulated
from training.__main__ import main
from training.evaluation.predictions import prediction_rows, write_predictions
from training.evaluation.survival import cox

N = 150


def lesions(n: int = N) -> pd.DataFrame:
    """Half tuning, half test; two lesions per patient."""
    return pd.DataFrame(
        {
            "lesion": [f"L{k:03d}" for k in range(n)],
            "patient": [f"P{k // 2}" for k in range(n)],
            "split": np.where(np.arange(n) < n // 2, "val", "test"),
        }
    )


def class_table(shift: float, seed: int, method: str, fit: int = 1, share: float = 1.0) -> pd.DataFrame:
    """Eight classes; scores of the true class are `shift` higher."""
    truth = simulated.eight_classes(N, seed=0).truth
    logits = np.random.default_rng(seed).standard_normal((N, 8))
    logits[np.arange(N), truth] += shift
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    frame = lesions().assign(label=[f"c{k}" for k in truth])
    classes = [f"c{k}" for k in range(8)]
    return prediction_rows(frame, probabilities, classes, method=method, share=share, seed=fit)


def risk_table(effect: float, method: str) -> pd.DataFrame:
    predictions = simulated.risks(N, seed=3, effect=effect)
    frame = lesions().assign(time=predictions.time, event=predictions.event.astype(int))
    return prediction_rows(frame, predictions.risk[:, None], [], method=method, share=1.0, seed=1)


def binary_table(method: str) -> pd.DataFrame:
    """Two classes with outcomes in time beside them: the probability is the risk."""
    predictions = simulated.risks(N, seed=3)
    probability = 1 / (1 + np.exp(-predictions.risk))
    label = np.where((predictions.time > 1.0) | predictions.event, (predictions.time < 1.0).astype(int), -1)
    frame = lesions().assign(
        label=["" if k < 0 else str(k) for k in label], time=predictions.time, event=predictions.event.astype(int)
    )
    scores = np.column_stack([1 - probability, probability])
    return prediction_rows(frame, scores, ["0", "1"], method=method, share=1.0, seed=1)


def run(tmp_path: Path, tables: list[pd.DataFrame], task: dict[str, Any] | None = None, **more: Any) -> int:
    write_predictions(tmp_path / "p.csv", tables)
    one = {"name": "task", "predictions": [str(tmp_path / "p.csv")]} | (task or {})
    settings = {"tasks": [one], "output": str(tmp_path / "out"), "n_resamples": 200, "n_permutations": 200}
    (tmp_path / "evaluate.yml").write_text(yaml.safe_dump(settings | more))
    return main(["evaluate", str(tmp_path / "evaluate.yml")])


def table(tmp_path: Path, name: str) -> Any:
    return pd.read_csv(tmp_path / "out" / f"{name}.csv", dtype={"class": str}, keep_default_na=False, na_values=[""])


def test_metrics_are_those_of_the_test_split_and_json_holds_the_csv_files(tmp_path: Path) -> None:
    rows = class_table(1.5, 1, "a")
    assert run(tmp_path, [rows]) == 0
    test = rows[rows["split"] == "test"]
    scores = test[[f"p_c{k}" for k in range(8)]].to_numpy()
    found = table(tmp_path, "metrics").set_index(["metric", "class"], drop=False).sort_index()
    truth = test["label"].str[1:].astype(int).to_numpy()
    expected = sk.balanced_accuracy_score(truth, scores.argmax(axis=1))
    row = found[(found["metric"] == "balanced_accuracy")].iloc[0]
    assert row["value"] == pytest.approx(expected)
    assert row["low"] < expected < row["high"]
    assert (row["n"], row["n_patients"], row["n_seeds"]) == (75, 38, 1)
    assert pd.isna(row["seed_sd"])
    assert found.loc[("average_precision", "c0"), "value"] == pytest.approx(
        sk.average_precision_score(truth == 0, scores[:, 0])
    )
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(written["metrics"]) == len(found) == 3 + 16
    assert written["metrics"][0]["seed_sd"] is None
    assert written["settings"]["n_resamples"] == 200


def test_a_better_method_is_told_from_a_worse_one_and_equal_ones_are_not(tmp_path: Path) -> None:
    tables = [class_table(1.5, 1, "good"), class_table(1.5, 2, "as good"), class_table(0.3, 3, "bad")]
    assert run(tmp_path, tables) == 0
    pairs = table(tmp_path, "pairwise").query("metric == 'mean_average_precision'").set_index(["a", "b"])
    assert pairs.loc[("good", "bad"), "p"] == pytest.approx(1 / 201)
    assert pairs.loc[("good", "bad"), "low"] > 0.2
    assert pairs.loc[("good", "as good"), "p"] > 0.05
    assert set(pairs.index) == {("good", "as good"), ("good", "bad"), ("as good", "bad")}


@pytest.mark.slow
def test_seeds_are_averaged_and_shares_kept_apart(tmp_path: Path) -> None:
    tables = [class_table(1.0, seed, "a", fit=seed, share=0.1) for seed in (1, 2, 3)] + [class_table(2.0, 4, "a")]
    assert run(tmp_path, [*tables, class_table(1.0, 9, "b", share=0.1)]) == 0
    seeds = table(tmp_path, "seeds").query("metric == 'auc' and `class`.isna() and method == 'a' and share == 0.1")
    assert seeds["seed"].tolist() == [1, 2, 3]
    found = table(tmp_path, "metrics").query("metric == 'auc' and `class`.isna()").set_index(["method", "share"])
    assert found.loc[("a", 0.1), "value"] == pytest.approx(seeds["value"].mean())
    assert found.loc[("a", 0.1), "seed_sd"] == pytest.approx(seeds["value"].std())
    assert found.loc[("a", 0.1), "n_seeds"] == 3
    pairs = table(tmp_path, "pairwise").query("metric == 'auc'")
    assert pairs[["share", "a", "b"]].to_numpy().tolist() == [[0.1, "a", "b"]]
    assert pairs["difference"].iloc[0] == pytest.approx(found.loc[("a", 0.1), "value"] - found.loc[("b", 0.1), "value"])


def test_risk_groups_are_cut_at_the_tuning_sets_median(tmp_path: Path) -> None:
    rows = risk_table(1.0, "a")
    assert run(tmp_path, [rows]) == 0
    test, tuning = rows[rows["split"] == "test"], rows[rows["split"] == "val"]
    high = test["risk"] > tuning["risk"].median()
    groups = table(tmp_path, "groups").set_index("group")
    assert groups.loc["high risk", "n"] == high.sum()
    assert groups.loc["low risk", "events"] == test["event"][~high].sum()
    assert groups.loc["high risk", "median_survival"] < groups.loc["low risk", "median_survival"]
    assert table(tmp_path, "log_rank")["p"].iloc[0] < 0.01
    (expected,) = cox(test["time"].to_numpy(), test["event"].to_numpy() == 1, pd.DataFrame({"high": high.to_numpy()}))
    assert table(tmp_path, "cox")["ratio"].iloc[0] == pytest.approx(expected.ratio)
    assert table(tmp_path, "metrics")["metric"].tolist() == ["c_index"]
    curves = table(tmp_path, "kaplan_meier").groupby("group")["survival"]
    assert (curves.max() == 1).all()


def test_the_class_of_those_who_live_is_no_risk_where_the_settings_say_so(tmp_path: Path) -> None:
    rows = binary_table("a")
    rows = rows.assign(p_0=rows["p_1"], p_1=rows["p_0"])  # 1: alive
    rows["label"] = rows["label"].map({"0": "1", "1": "0"})
    assert run(tmp_path, [rows], {"metrics": ["c_index"]}) == 0
    of_the_living = table(tmp_path, "metrics")["value"].iloc[0]
    assert run(tmp_path, [rows], {"metrics": ["c_index"], "risk_class": "0"}) == 0
    assert table(tmp_path, "metrics")["value"].iloc[0] == pytest.approx(1 - of_the_living)
    groups = table(tmp_path, "groups").set_index("group")
    assert groups.loc["high risk", "median_survival"] < groups.loc["low risk", "median_survival"]
    assert run(tmp_path, [rows], {"risk_class": "dead"}) == 3


@pytest.mark.slow
def test_clinical_covariates_go_beside_the_risk_group(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    patients = sorted(set(lesions()["patient"]), reverse=True)
    clinical = pd.DataFrame({"patient": patients, "age": rng.normal(60, 9, len(patients))})
    clinical.assign(sex=rng.choice(["f", "m"], len(patients))).to_csv(tmp_path / "clinical.csv", index=False)
    task = {"clinical": str(tmp_path / "clinical.csv"), "covariates": ["age", "sex"]}
    assert run(tmp_path, [risk_table(1.0, "a")], task) == 0
    found = table(tmp_path, "cox").query("model == 'multivariate'").set_index("covariate")
    assert list(found.index) == ["high risk", "age", "sex: m"]
    assert found.loc["high risk", "low"] > 1
    assert found.loc["age", "low"] < 1 < found.loc["age", "high"]


def test_a_probability_is_judged_as_a_class_and_as_a_risk(tmp_path: Path) -> None:
    assert run(tmp_path, [binary_table("a")]) == 0
    found = table(tmp_path, "metrics").set_index("metric")
    assert set(found.index) == {"balanced_accuracy", "mean_average_precision", "auc", "c_index"}
    assert found.loc["auc", "n"] < found.loc["c_index", "n"] == 75  # censored before the horizon: no label
    assert table(tmp_path, "calibration")["class"].tolist() == ["1"]
    assert len(table(tmp_path, "decision_curves")) == 99


@pytest.mark.slow
def test_whole_patients_are_resampled_when_asked_for(tmp_path: Path) -> None:
    rows = class_table(1.0, 1, "a")
    doubled = rows.iloc[np.repeat(np.arange(N), 4)].reset_index(drop=True)
    doubled["patient"] = doubled["lesion"]
    doubled["lesion"] = [f"{name}-{k % 4}" for k, name in enumerate(doubled["lesion"])]
    widths = []
    for by_patient in (False, True):
        assert run(tmp_path, [doubled], {"metrics": ["auc"]}, by_patient=by_patient) == 0
        found = table(tmp_path, "metrics").iloc[0]
        widths.append(found["high"] - found["low"])
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.3)


@pytest.mark.parametrize(
    ("task", "more", "code", "message"),
    [
        ({"metrics": ["dice"]}, {}, 2, "no such metric: dice"),
        ({"metrics": ["c_index"]}, {}, 3, "no predictions for c_index"),
        ({"covariates": ["age"]}, {}, 2, "clinical and covariates go together"),
        ({"predictions": ["absent.csv"]}, {}, 3, "predictions cannot be read"),
        ({}, {"split": "train"}, 3, "no lesion of the split train has an outcome"),
        ({}, {"sides": "three"}, 2, "sides is 'three'"),
    ],
)
def test_wrong_settings_are_refused(
    tmp_path: Path,
    task: dict[str, Any],
    more: dict[str, Any],
    code: int,
    message: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert run(tmp_path, [class_table(1.0, 1, "a")], task, **more) == code
    assert message in caplog.text


def test_methods_must_have_the_same_lesions(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run(tmp_path, [class_table(1.0, 1, "a"), class_table(1.0, 2, "b").iloc[:-1]]) == 3
    assert "its lesions or outcomes are not those of the first method (74 and 75)" in caplog.text
    assert run(tmp_path, [class_table(1.0, 1, "a"), class_table(1.0, 2, "a")]) == 3
    assert "is there twice" in caplog.text


def test_what_cannot_be_done_is_a_note(tmp_path: Path) -> None:
    rows = risk_table(1.0, "a")
    assert run(tmp_path, [rows[rows["split"] == "test"]]) == 0
    assert "no risk groups" in table(tmp_path, "notes")["note"].iloc[0]
    assert not (tmp_path / "out" / "cox.csv").exists()
