"""Moved seeds are N(0, 16 mm^2) per axis; errors, AUC and tests are those computed by hand; equal scans agree."""

from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import kstest
from sklearn.metrics import roc_auc_score

from fmcib_module import Seed, extract_patch, load_encoder, read_volume
from fmcib_module.adapters.head_file import write_head
from fmcib_module.core.errors import InputError
from fmcib_module.core.heads import Head, HeadKind
from fmcib_module.core.variants import jittered_seeds
from tests.training import scans
from training.__main__ import main
from training.adaptation.feature_table import FeatureMeta, FeatureTable
from training.lesion_table import LesionRow, read_lesion_table
from training.study.retest import feature_agreement, paired
from training.study.signed_rank import signed_rank_tests
from training.study.stability import feature_errors, moved_rows

TRIALS = 2


def test_seeds_move_by_four_millimetres_standard_deviation_on_each_axis():
    rows = [LesionRow("a.nrrd", (float(n), -3.0, 12.5), lesion=f"L{n}") for n in range(40)]
    moved = moved_rows(rows, 50)
    at = {row.lesion: np.array(row.lps_mm) for row in rows}
    offsets = np.array([row.lps_mm - at[row.others["origin"]] for row in moved if row.others["trial"]])
    assert offsets.shape == (2000, 3)
    assert all(kstest(offsets[:, axis] / 4.0, "norm").pvalue > 0.001 for axis in range(3))
    assert np.abs(np.corrcoef(offsets.T) - np.eye(3)).max() < 0.1
    assert [row.lps_mm for row in moved if not row.others["trial"]] == [row.lps_mm for row in rows]


def test_errors_are_means_of_squares_and_the_standardised_one_knows_no_unit():
    original = np.array([[0.0, 10.0, 5.0], [2.0, 30.0, 5.0]])
    moved = np.array([[1.0, 10.0, 5.0], [2.0, 20.0, 6.0]])
    errors = feature_errors(original, moved)
    assert errors["mse"] == pytest.approx((1 + 100 + 1) / 6)
    assert errors["mse_standardised"] == pytest.approx((1 / 1 + 100 / 100) / 4)
    scaled = feature_errors(original * [1, 7, 3], moved * [1, 7, 3])
    assert scaled["mse_standardised"] == pytest.approx(errors["mse_standardised"])


def test_a_model_that_is_better_in_all_of_six_trials_has_the_exact_p_of_two_in_sixty_four():
    gains = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]
    rows = [(m, t, np.nan, t / 10, 0.7 + g * (m == "a")) for m in "ab" for t, g in enumerate(gains, start=1)]
    trials = pd.DataFrame(rows, columns=["model", "trial", "mse", "mse_standardised", "auc"])
    found = signed_rank_tests(trials, ["mse", "mse_standardised", "auc"], "trial").set_index("measure")
    assert found.loc["auc", "p"] == pytest.approx(2 / 64)
    assert found.loc["auc", "median_difference"] == pytest.approx(0.035)
    assert found.loc["mse_standardised", "p"] == 1.0
    assert "mse" not in found.index


def test_flattened_features_agree_as_they_were_planted():
    rng = np.random.default_rng(0)
    first = rng.standard_normal((400, 20))
    noisy = first + rng.standard_normal(first.shape)
    found = feature_agreement(first, noisy)
    assert found["r_squared"] == pytest.approx(0.5, abs=0.03)  # var 1 of var 2
    assert found["icc"] == pytest.approx(1 / 1.5, abs=0.03)  # covariance 1 of mean variance 1.5
    assert found["feature_icc_median"] == pytest.approx(1 / 1.5, abs=0.06)
    assert feature_agreement(first, np.exp(first))["spearman"] == pytest.approx(1.0)


def test_scans_are_paired_by_lesion_and_a_lone_one_is_left_out(caplog):
    frame = pd.DataFrame({"pair": [2, 1, 3, 1, 2, 3, 4], "repeat": [2, 1, 1, 2, 1, 2, 1], "patient": "p"})
    values = np.arange(7, dtype=np.float32)[:, None]
    first, second = paired(FeatureTable(frame, values, FeatureMeta("mini")), "table")
    assert first.values[:, 0].tolist() == [1, 4, 2]
    assert second.values[:, 0].tolist() == [3, 0, 5]
    assert "1 scan(s) are left out" in caplog.text
    with pytest.raises(InputError, match="1 lesion"):
        paired(FeatureTable(frame[:5].iloc[[1, 3, 0]], values[:3], FeatureMeta("mini")), "table")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three scans with two lesions each, every one of them scanned twice the same; a head of one feature."""
    folder = tmp_path_factory.mktemp("stability")
    scans.make_inputs(folder, n_scans=3)
    table = pd.read_csv(folder / "lesions.csv").assign(split="test")
    table.to_csv(folder / "lesions.csv", index=False)
    twice = pd.concat([table, table]).assign(pair=[*range(6)] * 2, repeat=[1] * 6 + [2] * 6, patient="one")
    twice.to_csv(folder / "retest.csv", index=False)
    encoder = load_encoder("mini", device="cpu")
    n = encoder.n_features
    coefficients = np.zeros((2, n))
    coefficients[1, 3] = 1.0
    shape = {"coefficients": coefficients, "intercepts": np.zeros(2)}
    made = {"extractor": "mini", "weights_sha256": encoder.weights.sha256, "mode": "published"}
    classes = ("class0", "class1")
    write_head(folder / "head.json", Head("h", HeadKind.LOGISTIC, classes, np.zeros(n), np.ones(n), **shape, **made))
    settings = {
        "output": "out",
        "models": [{"name": "a", "extractor": "mini", "head": "head.json"}, {"name": "b", "extractor": "mini"}],
        "data": {"table": "lesions.csv"},
        "retest": {"table": "retest.csv"},
        "trials": TRIALS,
        "device": "cpu",
    }
    (folder / "stability.yml").write_text(yaml.safe_dump(settings))
    with chdir(folder):
        assert main(["stability", "stability.yml"]) == 0
    return folder


def test_the_verb_gives_the_errors_and_aucs_of_features_cut_by_hand(study):
    rows = read_lesion_table(study / "lesions.csv").rows
    encoder = load_encoder("mini", device="cpu")
    features = np.empty((TRIALS + 1, len(rows), encoder.n_features))
    for n, row in enumerate(rows):
        seed, volume = Seed(row.lps_mm, row.lesion, ""), read_volume(study / row.image)
        for trial, at in enumerate([seed, *jittered_seeds(seed, row.image, TRIALS)]):
            features[trial, n] = encoder.encode([extract_patch(volume, at)])[0]
    found = pd.read_csv(study / "out/stability.csv").set_index(["model", "trial"])
    for trial in range(TRIALS + 1):
        by_hand = ((features[trial] - features[0]) ** 2).mean()
        assert found.loc[("a", trial), "mse"] == pytest.approx(by_hand, rel=1e-5)
        expected = roc_auc_score([row.label == "class1" for row in rows], features[trial][:, 3])
        assert found.loc[("a", trial), "auc"] == pytest.approx(expected)
    assert found.loc[("a", 1), "mse"] > 0
    assert found.loc["b", "auc"].isna().all()
    assert {path.suffix for path in (study / "out").glob("stability.*")} == {".csv", ".png", ".svg"}


def test_scans_that_are_the_same_agree_fully(study):
    features = pd.read_csv(study / "out/retest_features.csv")
    np.testing.assert_allclose(features[["spearman", "r_squared", "icc", "feature_icc_median"]], 1.0)
    assert features["n"].tolist() == [6, 6]
    icc = pd.read_csv(study / "out/retest_icc.csv")
    assert len(icc) == 6
    np.testing.assert_allclose(icc["value"], 1.0)
    assert (study / "out/retest.png").stat().st_size > 0


def test_settings_that_make_no_sense_are_refused(study, caplog):
    base = {"output": "x", "models": [{"name": "a", "extractor": "mini"}]}
    wrong = {
        "cannot be moved in a cache": {"data": {"cache": "cache"}},
        "one table to move seeds in": {},
        "same name": {"data": {"table": "lesions.csv"}, "models": base["models"] * 2},
        "measures a mask": {"data": {"table": "lesions.csv"}, "models": [{"name": "r", "extractor": "radiomics"}]},
    }
    with chdir(study):
        for message, change in wrong.items():
            Path("wrong.yml").write_text(yaml.safe_dump(base | change))
            assert main(["stability", "wrong.yml"]) == 2
            assert message in caplog.text
