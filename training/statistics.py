"""Statistics of the quality measures: pure functions of arrays, with intervals from whole clusters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval.

    Attributes:
        value: On all items.
        low: 2.5th percentile of the resamples.
        high: 97.5th percentile.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def auc(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half.

    Args:
        scores: (n,).
        positive: (n,).

    Returns:
        0..1; NaN where one of the classes is absent.
    """
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # ties share their mean rank
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def balanced_accuracy(predicted: Index, truth: Index) -> float:
    """Mean recall of the classes that are there."""
    return float(np.mean([(predicted[truth == label] == label).mean() for label in np.unique(truth)]))


def icc(values: Floats) -> Floats:
    """Intraclass correlation ICC(1,1) of each feature: one-way random effects, single measurement.

    Args:
        values: (n lesions, k repeats, d features).

    Returns:
        (d,); NaN for a feature that is constant.

    References:
        Shrout and Fleiss 1979, doi:10.1037/0033-2909.86.2.420, case 1.
    """
    n, k, _ = values.shape
    means = values.mean(axis=1)
    between = k * ((means - means.mean(axis=0)) ** 2).sum(axis=0) / (n - 1)
    within = ((values - means[:, None]) ** 2).sum(axis=(0, 1)) / (n * (k - 1))
    total = between + (k - 1) * within
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, (between - within) / total, np.nan)


def cluster_bootstrap(
    metrics: Sequence[Callable[[Index], float]], clusters: Sequence[str], *, n_resamples: int, seed: int
) -> list[list[float]]:
    """Metrics on resamples that draw whole clusters with replacement, the same ones for every metric.

    Args:
        metrics: Each a function of the numbers of the items drawn.
        clusters: Of each item, e.g. its patient.
        n_resamples: How many.
        seed: Of the draws.

    Returns:
        One list per metric; resamples on which any metric is not finite are left out.
    """
    names = sorted(set(clusters))
    members = [np.array([n for n, cluster in enumerate(clusters) if cluster == name]) for name in names]
    rng = np.random.default_rng(seed)
    found: list[list[float]] = [[] for _ in metrics]
    for _ in range(n_resamples):
        drawn = np.concatenate([members[n] for n in rng.integers(len(names), size=len(names))])
        values = [metric(drawn) for metric in metrics]
        if np.isfinite(values).all():
            for values_of_metric, value in zip(found, values, strict=True):
                values_of_metric.append(value)
    return found


def estimate(value: float, resamples: Sequence[float]) -> Estimate:
    """A value with the percentile interval of its resamples; NaN limits where there are none."""
    if not len(resamples):
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.percentile(resamples, [2.5, 97.5])
    return Estimate(value, float(low), float(high))
