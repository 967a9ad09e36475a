"""Calibration and decision curves against simulation, scikit-learn and arithmetic."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from training.evaluation.calibration import calibrate, decision_curve


def simulated(n: int, slope: float, intercept: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities p, and outcomes whose true logit is intercept + slope * logit(p)."""
    rng = np.random.default_rng(0)
    logit = rng.standard_normal(n)
    positive = rng.random(n) < 1 / (1 + np.exp(-(intercept + slope * logit)))
    return 1 / (1 + np.exp(-logit)), positive


def test_slope_and_intercept_are_those_of_the_simulation() -> None:
    found = calibrate(*simulated(12_000, slope=0.5, intercept=0.0))
    assert found.slope == pytest.approx(0.5, abs=0.05)
    right = calibrate(*simulated(12_000, slope=1.0, intercept=0.0))
    assert (right.slope, right.intercept) == pytest.approx((1.0, 0.0), abs=0.06)
    assert right.error < 0.02 < found.error
    low = calibrate(*simulated(12_000, slope=1.0, intercept=0.7))
    assert low.intercept == pytest.approx(0.7, abs=0.06)


def test_brier_score_and_bins_are_scikit_learns() -> None:
    probability, positive = simulated(500, slope=1.0, intercept=0.2)
    found = calibrate(probability, positive, n_bins=8)
    assert found.brier == pytest.approx(brier_score_loss(positive, probability))
    observed, predicted = calibration_curve(positive, probability, n_bins=8, strategy="quantile")
    np.testing.assert_allclose([b.observed for b in found.bins], observed)
    np.testing.assert_allclose([b.predicted for b in found.bins], predicted)
    assert sum(b.n for b in found.bins) == 500


@pytest.mark.parametrize("positive", [[True, True, True], [False, False, False]])
def test_one_outcome_alone_has_no_slope(positive: list[bool]) -> None:
    found = calibrate(np.array([0.1, 0.5, 0.9]), np.array(positive))
    assert np.isnan(found.slope)
    assert np.isnan(found.intercept)


def test_separated_outcomes_have_no_slope() -> None:
    found = calibrate(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True]))
    assert np.isnan(found.slope)
    assert found.error == pytest.approx(0.15)


def test_equal_probabilities_stay_together() -> None:
    found = calibrate(np.full(10, 0.5), np.arange(10) < 5)
    assert [(b.predicted, b.observed, b.n) for b in found.bins] == [(0.5, 0.5, 10)]


def test_net_benefit_by_hand() -> None:
    probability = np.array([0.9, 0.6, 0.3, 0.1])
    positive = np.array([True, False, True, False])
    at_half, at_fifth = decision_curve(probability, positive, [0.5, 0.2])
    assert at_half.model == pytest.approx(1 / 4 - 1 / 4 * 1.0)
    assert at_half.treat_all == pytest.approx(0.5 - 0.5 * 1.0)
    assert at_fifth.model == pytest.approx(2 / 4 - 1 / 4 * 0.25)
    assert at_fifth.treat_all == pytest.approx(0.5 - 0.5 * 0.25)


def test_acting_on_everyone_is_what_a_model_does_below_its_lowest_probability() -> None:
    probability, positive = simulated(200, slope=1.0, intercept=0.0)
    (lowest,) = decision_curve(probability, positive, [float(probability.min()) / 2])
    assert lowest.model == pytest.approx(lowest.treat_all)


@pytest.mark.parametrize(
    ("positive", "intercept"), [([0, 0, 1, 1, 1, 0], 0), ([0, 0, 0, 1, 1, 0], -1), ([0, 1, 0, 1, 1, 1], 1)]
)
def test_probabilities_of_0_and_1_have_an_intercept(positive: list[int], intercept: int) -> None:
    certain = np.log(1e12)  # the logit that stands for probability 1
    found = calibrate(np.array([0.0, 0, 0, 1, 1, 1]), np.array(positive) == 1)
    assert found.intercept == pytest.approx(intercept * (certain - np.log(2)), abs=1e-3)
