"""The verb: planted effects are found, null effects are not, heads give the predictions again, leaks are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from fmcib_module.adapters.head_file import read_head
from fmcib_module.core.heads import head_scores
from training.__main__ import main
from training.adaptation.feature_table import FeatureMeta, FeatureTable, read_feature_table, write_feature_table
from training.evaluation.metrics import concordance, mean_auc, once
from training.evaluation.predictions import Run, read_predictions

META = FeatureMeta("fmcib", "1", "ab" * 32, "cd" * 32, "published")


def cohort(effect: float, n: int = 240, d: int = 12, seed: int = 7) -> FeatureTable:
    """Lesions of patients with two each; label and hazard depend on a direction of the features."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, d)).astype(np.float32)
    signal = effect * values[:, :3].sum(axis=1)
    event_time = rng.exponential(np.exp(-signal))
    end = rng.exponential(3.0, n)
    frame = pd.DataFrame(
        {
            "lesion": [f"L{k}" for k in range(n)],
            "patient": [f"P{k // 2}" for k in range(n)],
            "split": np.where(np.arange(n) < n // 2, "train", np.where(np.arange(n) < 3 * n // 4, "val", "test")),
            "label": (signal + rng.logistic(size=n) > 0).astype(int),
            "time": np.minimum(event_time, end),
            "event": (event_time <= end).astype(int),
        }
    )
    return FeatureTable(frame, values, META)


def run(tmp_path: Path, table: FeatureTable, **more: Any) -> int:
    write_feature_table(tmp_path / "f.parquet", table)
    settings = {"features": str(tmp_path / "f.parquet"), "output": str(tmp_path / "out"), "name": "label", "trials": 3}
    (tmp_path / "probe.yml").write_text(yaml.safe_dump(settings | more))
    return main(["probe", str(tmp_path / "probe.yml")])


def runs_of(tmp_path: Path) -> list[Run]:
    return read_predictions([tmp_path / "out" / "predictions.csv"])


@pytest.mark.parametrize("head", ["logistic", "ridge", "knn"])
def test_a_planted_effect_is_found_on_patients_not_seen(tmp_path: Path, head: str) -> None:
    assert run(tmp_path, cohort(2.0), head=head) == 0
    (found,) = runs_of(tmp_path)
    assert found.method == f"fmcib + {head}"
    assert mean_auc((test := found.split("test")).class_scores(), once(len(test.frame)))[0] > 0.7


def test_where_there_is_no_effect_none_is_found(tmp_path: Path) -> None:
    areas = []
    for seed in range(5):
        assert run(tmp_path, cohort(0.0, seed=seed), trials=2) == 0
        areas.append(mean_auc(runs_of(tmp_path)[0].split("test").class_scores(), once(60))[0])
    assert np.mean(areas) == pytest.approx(0.5, abs=0.1)  # 3 standard errors: 0.075 each, of 60 lesions


def test_a_risk_is_found_by_a_cox_head(tmp_path: Path) -> None:
    assert run(tmp_path, cohort(1.0), head="cox", search="cross-validation", folds=3) == 0
    (found,) = runs_of(tmp_path)
    assert found.classes == ()
    assert concordance(found.split("test").risk_scores(), once(60))[0] > 0.75


@pytest.mark.slow
def test_shares_and_seeds_are_all_fitted_and_heads_give_the_predictions_again(tmp_path: Path) -> None:
    table = cohort(2.0)
    assert run(tmp_path, table, shares=[1.0, 0.5, 0.1], seeds=[1, 2], predict=["test"], trials=3) == 0
    found = runs_of(tmp_path)
    assert [(r.share, r.seed) for r in found] == [(1.0, 1), (0.5, 1), (0.5, 2), (0.1, 1), (0.1, 2)]
    record = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert [fit["lesions"] for fit in record["fits"]] == [120, 60, 60, 12, 12]
    for one, fit in zip(found, record["fits"], strict=True):
        head = read_head(tmp_path / "out" / fit["head"])
        assert head.sha256 == fit["head_sha256"]
        assert (head.weights_sha256, head.mode, head.table_sha256) == ("ab" * 32, "published", "cd" * 32)
        order = {name: row for row, name in enumerate(table.frame["lesion"])}
        values = table.values[[order[name] for name in one.frame["lesion"]]]
        np.testing.assert_allclose(head_scores(head, values), one.probabilities, rtol=1e-12)
        assert set(one.frame["split"]) == {"test"}
    assert {path.suffix for path in (tmp_path / "out" / "heads").iterdir()} == {".json", ".safetensors"}


@pytest.mark.slow
def test_the_same_settings_give_the_same_files(tmp_path: Path) -> None:
    first = []
    for _ in range(2):
        assert run(tmp_path, cohort(1.0), trials=3) == 0
        first.append([(p.name, p.read_bytes()) for p in sorted((tmp_path / "out").rglob("*")) if p.is_file()])
    assert first[0] == first[1]


@pytest.mark.slow
def test_the_test_labels_change_nothing_but_their_own_column(tmp_path: Path) -> None:
    table = cohort(2.0)
    assert run(tmp_path, table, trials=3) == 0
    before = runs_of(tmp_path)[0]
    table.frame.loc[table.frame["split"] == "test", "label"] = "0"
    assert run(tmp_path, table, trials=3) == 0
    np.testing.assert_array_equal(runs_of(tmp_path)[0].probabilities, before.probabilities)


def test_a_patient_in_two_splits_is_refused_unless_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = cohort(1.0)
    table.frame.loc[119, "split"] = "val"
    assert run(tmp_path, table) == 3
    assert "1 patients are in the training split and in another one" in caplog.text
    assert run(tmp_path, table, shared_patients=True, trials=2) == 0
    assert json.loads((tmp_path / "out" / "probe.json").read_text())["shared_patients"] == 1


def test_lesions_without_a_label_are_predicted_but_not_fitted_on(tmp_path: Path) -> None:
    table = cohort(1.0)
    table.frame.loc[[0, 1, 120, 239], "label"] = ""
    assert run(tmp_path, table, trials=2) == 0
    assert json.loads((tmp_path / "out" / "probe.json").read_text())["fits"][0]["lesions"] == 118
    (found,) = runs_of(tmp_path)
    assert found.frame.set_index("lesion")["label"].isna()["L239"]
    assert len(found.split("test").labelled().frame) == 59
    assert (len(found.split("val").frame), len(found.split("val").labelled().frame)) == (60, 59)


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"shares": [0.0]}, 2, "shares are"),
        ({"predict": ["exam"]}, 2, "no such split: exam"),
        ({"heads": "knn"}, 2, "unknown key"),
        ({"features": "absent.parquet"}, 3, "table of features cannot be read"),
    ],
)
def test_wrong_settings_are_refused(
    tmp_path: Path, change: dict[str, Any], code: int, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(tmp_path, cohort(1.0, n=8), **change) == code
    assert message in caplog.text


@pytest.mark.slow
def test_labels_can_come_from_a_file(tmp_path: Path) -> None:
    table = cohort(2.0)
    bare = FeatureTable(table.frame[["lesion", "patient"]], table.values, META)
    table.frame[["lesion", "split", "label"]].to_csv(tmp_path / "labels.csv", index=False)
    assert run(tmp_path, bare, labels=str(tmp_path / "labels.csv"), trials=2) == 0
    assert len(read_feature_table(tmp_path / "f.parquet", tmp_path / "labels.csv")) == 240
    assert len(runs_of(tmp_path)[0].frame) == 120
