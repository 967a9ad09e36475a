"""Metrics of predictions on many resamples at once; pure numpy.

A resample is told by how often each item was drawn, `counts` (n, r). A metric sorts its items once and works on the
counts, so a thousand resamples cost about as much as a few sorts of each; on counts of one it is the plain metric.
A drawn item that is drawn twice ties with itself, as it does where its row is repeated, so every value is that of
scikit-learn's function on the repeated rows. NaN where a metric does not exist: a class or all pairs are absent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Index = NDArray[np.int64]
Counts = NDArray[np.float32]
"""(n, r): how often resample r holds item n. float32 holds whole numbers exactly up to 2^24 items."""

STEP: Final = 128
"""Resamples worked on at a time: their counts of some thousand items stay in the cache."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassScores:
    """Predicted classes.

    Attributes:
        truth: (n,) number of the true class.
        scores: (n, k) probability or score of every class.
    """

    truth: Index
    scores: Floats

    def __len__(self) -> int:
        return len(self.truth)

    def stacked(self, other: "ClassScores") -> "ClassScores":
        """The items of both, these first."""
        return ClassScores(np.concatenate([self.truth, other.truth]), np.concatenate([self.scores, other.scores]))


@dataclass(frozen=True, slots=True, eq=False)
class RiskScores:
    """Predicted risks of an event.

    Attributes:
        time: (n,) until the event or the end of observation.
        event: (n,) whether it was the event.
        risk: (n,) higher for an earlier event.
    """

    time: Floats
    event: NDArray[np.bool_]
    risk: Floats

    def __len__(self) -> int:
        return len(self.time)

    def stacked(self, other: "RiskScores") -> "RiskScores":
        """The items of both, these first."""
        return RiskScores(
            np.concatenate([self.time, other.time]),
            np.concatenate([self.event, other.event]),
            np.concatenate([self.risk, other.risk]),
        )


def once(n: int) -> Counts:
    """Counts of the one resample that is the items themselves."""
    return np.ones((n, 1), dtype=np.float32)


def auc_of(scores: Floats, positive: NDArray[np.bool_], counts: Counts) -> Floats:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half.

    Args:
        scores: (n,).
        positive: (n,).
        counts: (n, r).

    Returns:
        (r,), 0..1; NaN where one of the classes is absent.
    """
    negatives = np.flatnonzero(~positive)
    negatives = negatives[np.argsort(scores[negatives], kind="stable")]
    positives = np.flatnonzero(positive)
    ordered = scores[negatives]
    below = np.searchsorted(ordered, scores[positives], side="left")
    not_above = np.searchsorted(ordered, scores[positives], side="right")

    def part(counts: Counts) -> Floats:
        cumulated = _cumulated(counts[negatives])
        drawn = counts[positives].astype(np.float64)
        beaten = cumulated[below].astype(np.float64) + cumulated[not_above]
        pairs = 2.0 * drawn.sum(axis=0) * cumulated[-1]
        return _ratio(np.einsum("ir,ir->r", drawn, beaten), pairs)

    return _in_steps(part, counts)


def average_precision_of(scores: Floats, positive: NDArray[np.bool_], counts: Counts) -> Floats:
    """Average precision: precision at each positive's score, averaged over the positives.

    That is the sum of precisions weighted by the gain in recall, without interpolation. Items of one score come in
    together.

    Args:
        scores: (n,).
        positive: (n,).
        counts: (n, r).

    Returns:
        (r,), 0..1; NaN where no item is positive.
    """
    order = np.argsort(-scores, kind="stable")
    places = np.flatnonzero(positive[order])
    positives = order[places]
    ends = np.searchsorted(-scores[order], -scores[positives], side="right")  # items that score as much or more
    true_ends = np.searchsorted(-scores[positives], -scores[positives], side="right")

    def part(counts: Counts) -> Floats:
        drawn = counts[positives]
        taken = _cumulated(counts[order])[ends]
        hits = _cumulated(drawn)[true_ends]
        precision = np.divide(hits, taken, out=np.zeros(hits.shape), where=taken > 0, dtype=np.float64)
        return _ratio(np.einsum("ir,ir->r", drawn, precision), drawn.sum(axis=0, dtype=np.float64))

    return _in_steps(part, counts)


def balanced_accuracy_of(predicted: Index, truth: Index, counts: Counts) -> Floats:
    """Mean recall of the classes that are there.

    Args:
        predicted: (n,) class numbers.
        truth: (n,).
        counts: (n, r).

    Returns:
        (r,), 0..1.
    """
    classes, number = np.unique(truth, return_inverse=True)
    cell = 2 * number + (predicted == truth)
    order = np.argsort(cell, kind="stable")
    cells, starts = np.unique(cell[order], return_index=True)

    def part(counts: Counts) -> Floats:
        sums = np.zeros((2 * len(classes), counts.shape[1]))
        sums[cells] = np.add.reduceat(counts[order], starts, axis=0)
        wrong, right = sums[::2], sums[1::2]
        return _mean_where(_ratio(right, wrong + right))

    return _in_steps(part, counts)


def c_index_of(risk: Floats, time: Floats, event: NDArray[np.bool_], counts: Counts) -> Floats:
    """Harrell's concordance: of the pairs whose order in time is known, how many have the higher risk earlier.

    A pair is known if the earlier time is an event; at equal times, if just one is an event, which counts as earlier.
    Equal risks count half.

    Args:
        risk: (n,).
        time: (n,).
        event: (n,).
        counts: (n, r).

    Returns:
        (r,), 0..1; NaN where no pair is known.

    References:
        Harrell et al. 1982, doi:10.1001/jama.1982.03320430047030.
    """
    first = np.flatnonzero(event)
    earlier = time[first, None] < time
    known = (earlier | ((time[first, None] == time) & ~event)).astype(np.float64)
    agree = known * ((risk[first, None] > risk) + 0.5 * (risk[first, None] == risk))

    def part(counts: Counts) -> Floats:
        all_counts = counts.astype(np.float64)
        drawn = all_counts[first]
        sums = [np.einsum("ir,ir->r", drawn, pairs @ all_counts) for pairs in (agree, known)]
        return _ratio(*sums)

    return _in_steps(part, counts)


def auc(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """`auc_of` the items as they are."""
    return float(auc_of(scores, positive, once(len(scores)))[0])


def balanced_accuracy(predicted: Index, truth: Index) -> float:
    """`balanced_accuracy_of` the items as they are."""
    return float(balanced_accuracy_of(predicted, truth, once(len(truth)))[0])


def mean_auc(predictions: ClassScores, counts: Counts) -> Floats:
    """AUC of the second of two classes; of more classes, the mean of each against the rest."""
    if predictions.scores.shape[1] == 2:
        return auc_of(predictions.scores[:, 1], predictions.truth == 1, counts)
    return _mean_where(per_class(auc_of, predictions, counts))


def mean_average_precision(predictions: ClassScores, counts: Counts) -> Floats:
    """Average precision of the second of two classes; of more classes, the mean over those that are there."""
    if predictions.scores.shape[1] == 2:
        return average_precision_of(predictions.scores[:, 1], predictions.truth == 1, counts)
    return _mean_where(per_class(average_precision_of, predictions, counts))


def balanced_accuracy_of_scores(predictions: ClassScores, counts: Counts) -> Floats:
    """Balanced accuracy of the class with the highest score."""
    return balanced_accuracy_of(predictions.scores.argmax(axis=1), predictions.truth, counts)


def per_class(
    metric: Callable[[Floats, NDArray[np.bool_], Counts], Floats], predictions: ClassScores, counts: Counts
) -> Floats:
    """(k, r): the metric of every class against the rest; NaN where it is absent."""
    classes = range(predictions.scores.shape[1])
    return np.stack([metric(predictions.scores[:, k], predictions.truth == k, counts) for k in classes])


def concordance(predictions: RiskScores, counts: Counts) -> Floats:
    """Harrell's concordance of the risks."""
    return c_index_of(predictions.risk, predictions.time, predictions.event, counts)


CLASS_METRICS: Final[Mapping[str, Callable[[ClassScores, Counts], Floats]]] = {
    "balanced_accuracy": balanced_accuracy_of_scores,
    "mean_average_precision": mean_average_precision,
    "auc": mean_auc,
}
RISK_METRICS: Final[Mapping[str, Callable[[RiskScores, Counts], Floats]]] = {"c_index": concordance}


def _cumulated(counts: Counts) -> Counts:
    """(m + 1, r) sums of the first 0..m rows."""
    sums = np.empty((len(counts) + 1, counts.shape[1]), dtype=np.float32)
    sums[0] = 0.0
    np.cumsum(counts, axis=0, out=sums[1:])
    return sums


def _in_steps(part: Callable[[Counts], Floats], counts: Counts) -> Floats:
    return np.concatenate([part(counts[:, at : at + STEP]) for at in range(0, counts.shape[1], STEP)])


def _ratio(above: Floats, below: Floats) -> Floats:
    out: Floats = np.full(np.shape(above), np.nan)
    return np.divide(above, below, out=out, where=below > 0, dtype=np.float64)


def _mean_where(values: Floats) -> Floats:
    """Mean over the first axis, of what is not NaN; NaN where all is."""
    there = np.isfinite(values)
    return _ratio(np.where(there, values, 0.0).sum(axis=0), there.sum(axis=0).astype(np.float64))
