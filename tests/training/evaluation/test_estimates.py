"""Intervals hold what they say, tests are right under the null, and clusters stay together."""

import math

import numpy as np
import pytest
from scipy.stats import kstest

from tests.training.evaluation import simulated
from training.evaluation.estimates import (
    Sides,
    bootstrap,
    cluster_bootstrap,
    draw_counts,
    draw_swaps,
    estimate,
    permutation_p,
    swapped_differences,
)
from training.evaluation.metrics import ClassScores, auc, balanced_accuracy_of_scores, concordance, mean_auc, once


def test_resamples_hold_whole_clusters_and_are_shared_by_the_metrics() -> None:
    clusters = ["a", "b", "b", "c", "c", "c"]
    sizes, again = cluster_bootstrap([len, len], clusters, n_resamples=200, seed=1)
    assert sizes == again
    assert set(sizes) == {a + 2 * b + 3 * (3 - a - b) for a in range(4) for b in range(4 - a)}


def test_counts_hold_whole_clusters() -> None:
    counts = draw_counts(["a", "b", "b", "c", "c", "c"], n_resamples=50, seed=1)
    assert (counts[1] == counts[2]).all()
    assert (counts[3] == counts[5]).all()
    assert (counts[[0, 1, 3]].sum(axis=0) == 3).all()  # as many clusters as there are
    assert (draw_counts(7, n_resamples=50, seed=1).sum(axis=0) == 7).all()


def test_the_interval_of_a_mean_is_about_that_of_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=400)
    (means,) = cluster_bootstrap(
        [lambda drawn: float(values[drawn].mean())], [str(n) for n in range(400)], n_resamples=2000, seed=0
    )
    found = estimate(float(values.mean()), means)
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert found.low < found.value < found.high


def test_without_resamples_limits_are_unknown() -> None:
    assert np.isnan(estimate(0.5, []).low)


@pytest.mark.slow
def test_95_percent_intervals_of_the_auc_hold_the_truth_95_percent_of_the_time() -> None:
    truth = 0.5 * (1 + math.erf(0.5))  # Phi(1 / sqrt 2): two normal distributions one deviation apart
    inside = 0
    for seed in range(2000):
        found = bootstrap(mean_auc, simulated.two_classes(200, seed), draw_counts(200, n_resamples=1000, seed=seed))
        inside += found.low <= truth <= found.high
    assert 0.93 <= inside / 2000 <= 0.97


def test_intervals_over_patients_are_wider_than_over_lesions_that_repeat_each_other() -> None:
    once_each = simulated.two_classes(60, seed=1)
    repeated = ClassScores(np.repeat(once_each.truth, 4), np.repeat(once_each.scores, 4, axis=0))
    patients = [str(n // 4) for n in range(240)]
    by_lesion = bootstrap(mean_auc, repeated, draw_counts(240, n_resamples=1000, seed=0))
    by_patient = bootstrap(mean_auc, repeated, draw_counts(patients, n_resamples=1000, seed=0))
    alone = bootstrap(mean_auc, once_each, draw_counts(60, n_resamples=1000, seed=0))
    assert by_patient.high - by_patient.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert by_lesion.high - by_lesion.low < 0.6 * (by_patient.high - by_patient.low)  # a half, for a quarter as many


@pytest.mark.slow
def test_lesions_that_repeat_each_other_need_whole_patients() -> None:
    truth = 0.5 * (1 + math.erf(0.5))
    inside = np.zeros(2)
    for seed in range(500):
        once_each = simulated.two_classes(100, seed)
        lesions = ClassScores(np.repeat(once_each.truth, 3), np.repeat(once_each.scores, 3, axis=0))
        patients = [str(n // 3) for n in range(300)]
        for way, clusters in enumerate((patients, 300)):
            found = bootstrap(mean_auc, lesions, draw_counts(clusters, n_resamples=500, seed=seed))
            inside[way] += found.low <= truth <= found.high
    by_patient, by_lesion = inside / 500
    assert 0.91 <= by_patient <= 0.98
    assert by_lesion < 0.85


def test_swapped_differences_are_those_of_a_loop_over_exchanged_predictions() -> None:
    a, b = simulated.eight_classes(60, seed=1), simulated.eight_classes(60, seed=2)
    b = ClassScores(a.truth, b.scores)
    swaps = draw_swaps(60, n_permutations=20, seed=3)
    observed, permuted = swapped_differences(balanced_accuracy_of_scores, a, b, swaps)
    plain = [float(balanced_accuracy_of_scores(p, once(60))[0]) for p in (a, b)]
    assert observed == pytest.approx(plain[0] - plain[1], abs=1e-12)
    for n, swap in enumerate(swaps.T):
        first = ClassScores(a.truth, np.where(swap[:, None], b.scores, a.scores))
        second = ClassScores(a.truth, np.where(swap[:, None], a.scores, b.scores))
        both = [float(balanced_accuracy_of_scores(p, once(60))[0]) for p in (first, second)]
        assert permuted[n] == pytest.approx(both[0] - both[1], abs=1e-12)


def test_a_test_of_risks_finds_the_better_model() -> None:
    good = simulated.risks(150, seed=1, effect=1.5)
    noise = type(good)(good.time, good.event, np.random.default_rng(0).permutation(good.risk))
    swaps = draw_swaps(150, n_permutations=500, seed=3)
    observed, permuted = swapped_differences(concordance, good, noise, swaps)
    assert observed > 0.1
    assert permutation_p(observed, permuted) == 1 / 501  # the smallest there is
    assert permutation_p(*swapped_differences(concordance, good, good, swaps)) == 1.0


def test_swaps_of_a_cluster_go_together() -> None:
    swaps = draw_swaps(["a", "b", "a"], n_permutations=100, seed=0)
    assert (swaps[0] == swaps[2]).all()
    assert 25 < (swaps[0] != swaps[1]).sum() < 75


@pytest.mark.parametrize(
    ("observed", "two", "one"),
    [(0.25, 4 / 6, 2 / 5), (-0.25, 4 / 6, 4 / 5), (0.5, 1 / 6, 0.0)],
)
def test_p_values_by_hand(observed: float, two: float, one: float) -> None:
    permuted = np.array([-0.3, -0.1, 0.1, 0.3, 0.4])
    assert permutation_p(observed, permuted) == pytest.approx(two)
    assert permutation_p(observed, permuted, Sides.ONE) == pytest.approx(one)
    assert np.isnan(permutation_p(float("nan"), permuted))


@pytest.mark.slow
def test_p_values_are_uniform_under_the_null() -> None:
    p_values, one_sided = [], []
    for seed in range(500):
        rng = np.random.default_rng(seed)
        truth = (rng.random(80) < 0.4).astype(np.int64)
        signal = truth + rng.standard_normal(80)
        scores = [signal + rng.standard_normal(80) for _ in range(2)]  # two models that are equally good
        a, b = (ClassScores(truth, np.column_stack([-s, s])) for s in scores)
        observed, permuted = swapped_differences(mean_auc, a, b, draw_swaps(80, n_permutations=1000, seed=seed))
        p_values.append(permutation_p(observed, permuted))
        one_sided.append(permutation_p(observed, permuted, Sides.ONE))
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert kstest(one_sided, "uniform").pvalue > 0.01


def test_auc_of_the_simulation_is_the_one_it_is_told() -> None:
    predictions = simulated.two_classes(200_000, seed=0)
    expected = 0.5 * (1 + math.erf(0.5))
    assert auc(predictions.scores[:, 1], predictions.truth == 1) == pytest.approx(expected, abs=0.004)
