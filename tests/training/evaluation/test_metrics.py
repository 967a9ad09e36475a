"""Metrics on many resamples at once are those of scikit-learn, lifelines and scikit-survival on each of them."""

import numpy as np
import pytest
from lifelines.utils import concordance_index
from sklearn import metrics as sk
from sksurv.metrics import concordance_index_censored

from tests.training.evaluation import simulated
from training.evaluation.estimates import draw_counts
from training.evaluation.metrics import (
    ClassScores,
    RiskScores,
    auc,
    auc_of,
    average_precision_of,
    balanced_accuracy,
    balanced_accuracy_of_scores,
    concordance,
    mean_auc,
    mean_average_precision,
    once,
    per_class,
)


def rows_of(counts: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts.astype(int))


@pytest.mark.parametrize("decimals", [None, 1])  # with one decimal, most scores are tied
def test_class_metrics_are_scikit_learns_on_the_same_resamples(decimals: int | None) -> None:
    predictions = simulated.eight_classes(300, seed=3, decimals=decimals)
    counts = draw_counts(300, n_resamples=140, seed=4)  # more than one step
    precisions, areas = (per_class(metric, predictions, counts) for metric in (average_precision_of, auc_of))
    accuracies = balanced_accuracy_of_scores(predictions, counts)
    for resample in range(0, 140, 35):
        rows = rows_of(counts[:, resample])
        truth, scores = predictions.truth[rows], predictions.scores[rows]
        for k in range(8):
            expected = sk.average_precision_score(truth == k, scores[:, k])
            assert precisions[k, resample] == pytest.approx(expected, abs=1e-12)
            assert areas[k, resample] == pytest.approx(sk.roc_auc_score(truth == k, scores[:, k]), abs=1e-12)
        expected = sk.balanced_accuracy_score(truth, scores.argmax(axis=1))
        assert accuracies[resample] == pytest.approx(expected, abs=1e-12)


def test_means_over_classes_are_scikit_learns() -> None:
    predictions = simulated.eight_classes(200, seed=1)
    truth, scores, plain = predictions.truth, predictions.scores, once(200)
    one_hot = np.eye(8)[truth]
    expected = sk.average_precision_score(one_hot, scores, average="macro")
    assert mean_average_precision(predictions, plain)[0] == pytest.approx(expected, abs=1e-12)
    expected = sk.roc_auc_score(truth, scores, multi_class="ovr", average="macro")
    assert mean_auc(predictions, plain)[0] == pytest.approx(expected, abs=1e-12)


def test_of_two_classes_the_second_is_the_positive_one() -> None:
    predictions = simulated.two_classes(80, seed=2)
    truth, score = predictions.truth, predictions.scores[:, 1]
    assert mean_auc(predictions, once(80))[0] == pytest.approx(sk.roc_auc_score(truth, score))
    expected = sk.average_precision_score(truth, score)
    assert mean_average_precision(predictions, once(80))[0] == pytest.approx(expected)


def test_a_class_without_items_is_left_out_of_the_means() -> None:
    truth = np.array([0, 0, 1, 1])
    scores = np.array([[0.6, 0.3, 0.1], [0.5, 0.2, 0.3], [0.2, 0.7, 0.1], [0.1, 0.4, 0.5]])
    predictions = ClassScores(truth, scores)
    assert np.isnan(per_class(average_precision_of, predictions, once(4))[2, 0])
    assert mean_average_precision(predictions, once(4))[0] == 1.0
    assert balanced_accuracy_of_scores(predictions, once(4))[0] == 0.75
    assert np.isnan(auc(scores[:2, 0], truth[:2] == 0))


def test_plain_auc_and_balanced_accuracy_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.4  # with ties
    assert auc(scores, positive) == pytest.approx(sk.roc_auc_score(positive, scores))
    predicted, truth = rng.integers(0, 3, 40), rng.integers(0, 3, 40)
    assert balanced_accuracy(predicted, truth) == pytest.approx(sk.balanced_accuracy_score(truth, predicted))


def test_concordance_is_that_of_lifelines_and_scikit_survival_on_the_same_resamples() -> None:
    predictions = simulated.risks(90, seed=5)
    counts = draw_counts(90, n_resamples=150, seed=6)
    found = concordance(predictions, counts)
    for resample in range(0, 150, 10):
        rows = rows_of(counts[:, resample])
        time, event, risk = predictions.time[rows], predictions.event[rows], predictions.risk[rows]
        assert found[resample] == pytest.approx(concordance_index(time, -risk, event), abs=1e-12)
        expected = concordance_index_censored(event, time, risk, tied_tol=0.0)[0]
        assert found[resample] == pytest.approx(expected, abs=1e-12)


def test_concordance_by_hand() -> None:
    # Pairs in known order: (1, 2), (1, 3), (1, 4), (3, 4); the second is censored before the others.
    time, event = np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, False, True, False])
    risk = np.array([5.0, 5.0, 1.0, 2.0])  # tied, right, right, wrong
    assert concordance(RiskScores(time, event, risk), once(4))[0] == 2.5 / 4
    assert np.isnan(concordance(RiskScores(time, np.zeros(4, dtype=bool), risk), once(4))[0])
