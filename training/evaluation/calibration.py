"""Whether probabilities mean what they say, and what deciding by them is worth: calibration and decision curves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.metrics import Floats


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of about one probability.

    Attributes:
        predicted: Their mean.
        observed: Share of them that is positive.
        n: How many they are.
    """

    predicted: float
    observed: float
    n: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """How well probabilities agree with what happens.

    Attributes:
        brier: Mean squared difference of probability and outcome.
        error: Expected calibration error: mean difference of predicted and observed over bins, weighted by their size.
        intercept: Calibration in the large, 0 where probabilities are right on average (logit scale).
        slope: 1 where they are as spread as outcomes say, below 1 where they are too extreme; NaN where the outcome is
            separated or constant.
        bins: The calibration curve.
    """

    brier: float
    error: float
    intercept: float
    slope: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class NetBenefit:
    """Worth of deciding at a threshold probability, in true positives per patient.

    Attributes:
        threshold: Probability from which one acts.
        model: Acting on the model.
        treat_all: Acting on everyone. (On nobody: 0.)
    """

    threshold: float
    model: float
    treat_all: float


def calibrate(probability: Floats, positive: NDArray[np.bool_], *, n_bins: int = 10) -> Calibration:
    """Measure calibration.

    Args:
        probability: (n,), 0..1.
        positive: (n,).
        n_bins: Equally many predictions in each, as far as equal probabilities stay together.

    References:
        Van Calster et al. 2016, doi:10.1016/j.jclinepi.2015.12.005 (intercept and slope); Naeini et al. 2015
        (expected calibration error).
    """
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, n_bins + 1)))
    place = np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, max(len(edges) - 2, 0))
    inside = [place == number for number in np.unique(place)]
    bins = tuple(Bin(float(probability[i].mean()), float(positive[i].mean()), int(i.sum())) for i in inside)
    error = sum(b.n * abs(b.predicted - b.observed) for b in bins) / len(probability)
    brier = float(((probability - positive) ** 2).mean())
    return Calibration(brier, float(error), *_recalibration(probability, positive), bins)


def decision_curve(
    probability: Floats, positive: NDArray[np.bool_], thresholds: Sequence[float] | Floats
) -> list[NetBenefit]:
    """Net benefit over thresholds: true positives less false positives, these weighted by the threshold's odds.

    References:
        Vickers and Elkin 2006, doi:10.1177/0272989X06295361.
    """
    prevalence = float(positive.mean())
    curve = []
    for threshold in map(float, thresholds):
        odds = threshold / (1 - threshold)
        acted = probability >= threshold
        model = (acted & positive).mean() - odds * (acted & ~positive).mean()
        curve.append(NetBenefit(threshold, float(model), prevalence - odds * (1 - prevalence)))
    return curve


def _recalibration(probability: Floats, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Intercept (with slope 1) and slope (statsmodels) of a logistic regression of the outcome on the logit."""
    import statsmodels.api as sm

    if positive.all() or not positive.any():
        return float("nan"), float("nan")
    logit = np.log(np.clip(probability, 1e-12, None)) - np.log(np.clip(1 - probability, 1e-12, None))
    ones = np.ones((len(logit), 1))
    outcome = positive.astype(np.float64)
    family = sm.families.Binomial()
    intercept = _intercept(logit, outcome)
    separated = logit[positive].min() >= logit[~positive].max() or logit[positive].max() <= logit[~positive].min()
    if separated or np.ptp(logit) == 0:
        return intercept, float("nan")
    slope = float(sm.GLM(outcome, np.column_stack([ones, logit]), family=family).fit().params[1])
    return intercept, slope


def _intercept(logit: Floats, outcome: Floats) -> float:
    """Where the recalibrated probabilities sum to the outcomes: the maximum of the likelihood.

    Bracketed, since Newton's steps (statsmodels) diverge where probabilities are 0 or 1, as those of few neighbours.
    """
    from scipy.optimize import brentq
    from scipy.special import expit

    reach = float(np.abs(logit).max()) + 40  # beyond it every probability is 0, or 1
    return float(brentq(lambda shift: expit(logit + shift).sum() - outcome.sum(), -reach, reach, xtol=1e-10))
