"""Intervals by the bootstrap and tests by permutation, over items or over whole clusters of them (patients)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from training.evaluation.metrics import Counts, Floats, Index, once

INTERVAL: Final = (2.5, 97.5)
"""Percentiles of a 95 % interval."""

TIE: Final = 1e-12
"""Differences of a metric that are nearer than this are equal: sums in another order differ in the last digits."""


class Sides(StrEnum):
    """What counts as extreme in a permutation test."""

    TWO = "two-sided"
    ONE = "one-sided"  # the published code's: the share of permutations with at least the observed difference


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


class Stackable(Protocol):
    """Predictions of one method (`ClassScores`, `RiskScores`)."""

    def __len__(self) -> int: ...

    def stacked(self, other: Self) -> Self:
        """The items of both."""


P = TypeVar("P", bound=Stackable)


def estimate(value: float, resamples: Sequence[float] | Floats) -> Estimate:
    """A value with the percentile interval of its resamples; NaN limits where there are none."""
    finite = np.asarray(resamples, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.percentile(finite, INTERVAL)
    return Estimate(value, float(low), float(high))


def draw_counts(clusters: Sequence[str] | int, *, n_resamples: int, seed: int) -> Counts:
    """Bootstrap resamples: as many clusters as there are, drawn with replacement, each with all of its items.

    Args:
        clusters: Of each item, e.g. its patient; or how many items there are, each a cluster of its own.
        n_resamples: How many.
        seed: Of the draws.

    Returns:
        (n, n_resamples): how often each item was drawn.
    """
    member = np.arange(clusters) if isinstance(clusters, int) else _numbered(clusters)
    n = int(member.max()) + 1
    drawn = np.random.default_rng(seed).integers(n, size=(n_resamples, n))
    counts = np.bincount((drawn + n * np.arange(n_resamples)[:, None]).ravel(), minlength=n * n_resamples)
    return np.ascontiguousarray(counts.reshape(n_resamples, n).T.astype(np.float32)[member])


def bootstrap(metric: Callable[[P, Counts], Floats], predictions: P, counts: Counts) -> Estimate:
    """A metric of `metrics.py` with its interval over resamples; those on which it does not exist are left out."""
    return estimate(float(metric(predictions, once(len(predictions)))[0]), metric(predictions, counts))


def cluster_bootstrap(
    metrics: Sequence[Callable[[Index], float]], clusters: Sequence[str], *, n_resamples: int, seed: int
) -> list[list[float]]:
    """Any functions of items on the resamples of `draw_counts`, one resample after the other.

    Args:
        metrics: Each a function of the numbers of the items drawn.
        clusters: Of each item, e.g. its patient.
        n_resamples: How many.
        seed: Of the draws.

    Returns:
        One list per metric; resamples on which any metric is not finite are left out.
    """
    counts = draw_counts(clusters, n_resamples=n_resamples, seed=seed).astype(np.int64)
    found: list[list[float]] = [[] for _ in metrics]
    for times in counts.T:
        drawn = np.repeat(np.arange(len(times)), times)
        values = [metric(drawn) for metric in metrics]
        if np.isfinite(values).all():
            for values_of_metric, value in zip(found, values, strict=True):
                values_of_metric.append(value)
    return found


def draw_swaps(clusters: Sequence[str] | int, *, n_permutations: int, seed: int) -> NDArray[np.bool_]:
    """(n, n_permutations): whether two methods exchange their predictions of an item; a cluster's items go together."""
    member = np.arange(clusters) if isinstance(clusters, int) else _numbered(clusters)
    coins = np.random.default_rng(seed).integers(2, size=(n_permutations, int(member.max()) + 1), dtype=np.int8)
    return np.ascontiguousarray(coins.T[member].astype(bool))


def swapped_differences(
    metric: Callable[[P, Counts], Floats], a: P, b: P, swaps: NDArray[np.bool_]
) -> tuple[float, Floats]:
    """Metric of a minus metric of b: as they are, and (n_permutations,) with the swapped items exchanged.

    The two are stacked, so that an exchange only moves counts from one half to the other.
    """
    both = a.stacked(b)
    kept = np.hstack([np.zeros((len(swaps), 1), dtype=bool), swaps])
    first = np.vstack([~kept, kept]).astype(np.float32)
    differences = metric(both, first) - metric(both, 1.0 - first)
    return float(differences[0]), differences[1:]


def permutation_p(observed: float, permuted: Floats, sides: Sides = Sides.TWO) -> float:
    """p-value of a permutation test.

    Args:
        observed: The difference that was seen.
        permuted: (n_permutations,) differences under exchange.
        sides: Two-sided: the share of differences at least as far from 0, the observed one among them (Phipson and
            Smyth 2010, doi:10.2202/1544-6115.1585), so never 0. One-sided: as the published code, the share of permuted
            differences that are at least the observed one.
    """
    if not np.isfinite(observed) or not np.isfinite(permuted).all():
        return float("nan")
    if sides is Sides.ONE:
        return float((permuted >= observed - TIE).mean())
    return float((1 + (np.abs(permuted) >= abs(observed) - TIE).sum()) / (1 + len(permuted)))


def _numbered(clusters: Sequence[str]) -> Index:
    return np.unique(np.asarray(clusters), return_inverse=True)[1].astype(np.int64)
