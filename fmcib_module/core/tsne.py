"""t-SNE of lesions' features: a map on which lesions with like features lie together, however many directions differ.

Exact and in numpy alone: for the lesions of one report it takes less time than importing a library that has it.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

PERPLEXITY: Final = 30.0
"""About how many neighbours a lesion has; a third of the other lesions where they are few."""

EXAGGERATION: Final = 12.0
STAGES: Final = ((250, EXAGGERATION, 0.5), (500, 1.0, 0.8))
"""Steps, how much harder neighbours pull, and momentum: groups form first, then they spread."""

LEAST_RATE: Final = 10.0
START_SPREAD: Final = 1e-4
LEAST_GAIN: Final = 0.01

BLOCK: Final = 64
"""Lesions at once: what is worked on stays in the processor's cache."""

ENTROPY_TOLERANCE: Final = 1e-5
SEARCH_STEPS: Final = 64


def tsne(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Place lesions on a plane so that near ones stay near.

    It starts from the first two components, with no chance in it: a rerun draws the same map. Time and memory grow with
    the square of the lesions: 0.03 s for 100, 10 s and 100 MB for 2,000.

    Args:
        scores: (n, m) principal component scores, n at least 5, m at least 2, the largest component first.

    Returns:
        (n, 2), centred, without a unit; zeros where all lesions are alike.

    References:
        van der Maaten, Hinton 2008, JMLR 9:2579; step length by Belkina et al. 2019, doi:10.1038/s41467-019-13055-y;
        start by Kobak, Berens 2019, doi:10.1038/s41467-019-13056-x.
    """
    n, spread = len(scores), float(scores[:, 0].std())
    if spread == 0.0:
        return np.zeros((n, 2))
    affinities = joint_affinities(scores / spread, min(PERPLEXITY, (n - 1) / 3)).astype(np.float32)
    places = (scores[:, :2] / spread * START_SPREAD).astype(np.float32)
    rate = max(n / EXAGGERATION / 4, LEAST_RATE)
    for steps, exaggeration, momentum in STAGES:
        pulls = affinities * np.float32(exaggeration)
        step, gains = np.zeros_like(places), np.ones_like(places)
        for _ in range(steps):
            gradient = _gradient(pulls, places)
            onward = gradient * step < 0  # the last step went down this slope
            gains = np.maximum(np.where(onward, gains + 0.2, gains * 0.8), LEAST_GAIN)
            step = momentum * step - rate * gains * gradient
            places += step
    centred: NDArray[np.float64] = (places - places.mean(axis=0)).astype(np.float64)
    return centred


def joint_affinities(scores: NDArray[np.float64], perplexity: float) -> NDArray[np.float64]:
    """How likely two lesions are neighbours, by a Gaussian around each that is as wide as its neighbourhood is sparse.

    Args:
        scores: (n, m), not all alike.
        perplexity: Two to the entropy of each lesion's neighbours, more than 1 and less than n - 1.

    Returns:
        (n, n), symmetric, zero on the diagonal, summing to 1.
    """
    n = len(scores)
    squares = np.sum(scores**2, axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * scores @ scores.T, 0.0)
    others = ~np.eye(n, dtype=bool)
    distances -= np.min(distances, axis=1, where=others, initial=np.inf, keepdims=True)  # exp cannot underflow for all
    means = np.mean(distances, axis=1, where=others)
    narrowness = 1 / np.where(means > 0, means, 1.0)
    low, high = np.zeros(n), np.full(n, np.inf)
    for _ in range(SEARCH_STEPS):
        weights = np.exp(-distances * narrowness[:, None], where=others, out=np.zeros((n, n)))
        sums = weights.sum(axis=1)
        surplus = np.log(sums) + narrowness * np.sum(weights * distances, axis=1) / sums - np.log(perplexity)
        if np.max(np.abs(surplus)) < ENTROPY_TOLERANCE:
            break
        low, high = np.where(surplus > 0, narrowness, low), np.where(surplus > 0, high, narrowness)
        narrowness = np.where(np.isinf(high), narrowness * 2, (low + high) / 2)
    conditional: NDArray[np.float64] = weights / sums[:, None]
    return (conditional + conditional.T) / (2 * n)


def _gradient(pulls: NDArray[np.float32], places: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of the Kullback-Leibler divergence (equation 5 of 2008), a block of lesions after the other.

    Without BLAS, whose threads wait for each other here: products with two columns are too small for them.
    """
    columns = np.ascontiguousarray(places.T)
    pulled, pushed, total = np.empty_like(places), np.empty_like(places), 0.0
    for first in range(0, len(places), BLOCK):
        rows = slice(first, first + BLOCK)
        kernel = 1 / (1 + sum((column[rows, None] - column) ** 2 for column in columns))
        total += float(kernel.sum())
        for weights, out in ((pulls[rows] * kernel, pulled), (kernel**2, pushed)):
            sums = weights.sum(axis=1)
            for axis, column in enumerate(columns):
                out[rows, axis] = sums * column[rows] - np.einsum("ij,j->i", weights, column)
    return 4 * (pulled - pushed / np.float32(total - len(places)))  # the kernel of a lesion with itself is 1
