"""How features of many lesions lie to each other: a map of two dimensions, and the nearest ones."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

EXACT_UP_TO: Final = 1000
"""Lesions whose Gram matrix is decomposed in less than a second."""

OVERSAMPLING: Final = 10
POWER_STEPS: Final = 6
"""Ten more directions than asked for and six power steps: singular values to better than 1e-3 where they matter."""

BLOCK: Final = 512
"""Lesions compared at once, so that memory stays bounded."""


def principal_components(
    values: NDArray[np.float32], count: int = 2
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Principal component scores of lesions.

    Exact up to 1,000 lesions, by randomised subspace iteration with a fixed start above; each component's sign is such
    that its largest score is positive, so that a rerun draws the same map.

    Args:
        values: (n, n_features).
        count: Components.

    Returns:
        (n, count) scores, 0 where there are fewer components, and the share of the variance that each explains.

    References:
        Halko, Martinsson, Tropp 2011, doi:10.1137/090771806, algorithm 4.4.
    """
    n = len(values)
    scores, shares = np.zeros((n, count)), np.zeros(count)
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64) if n else values.astype(np.float64)
    total = float(np.sum(centred**2))
    if total == 0.0:
        return scores, shares
    left, singular = _exact(centred) if n <= EXACT_UP_TO else _iterated(centred, count + OVERSAMPLING)
    found = min(count, len(singular))
    scores[:, :found] = left[:, :found] * singular[:found]
    shares[:found] = singular[:found] ** 2 / total
    largest = np.argmax(np.abs(scores), axis=0)
    return scores * np.where(scores[largest, range(count)] < 0, -1.0, 1.0), shares


def _exact(centred: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Left singular vectors and singular values, from the products of lesions with lesions."""
    squares, vectors = np.linalg.eigh(centred @ centred.T)
    return vectors[:, ::-1], np.sqrt(np.maximum(squares[::-1], 0.0))


def _iterated(centred: NDArray[np.float64], width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same for the largest `width` of them, approximately."""
    start = np.random.default_rng(0).standard_normal((centred.shape[1], min(*centred.shape, width)))
    basis, _ = np.linalg.qr(centred @ start)
    for _ in range(POWER_STEPS):
        other, _ = np.linalg.qr(centred.T @ basis)
        basis, _ = np.linalg.qr(centred @ other)
    left, singular, _ = np.linalg.svd(basis.T @ centred, full_matrices=False)
    return basis @ left, singular


def nearest_by_cosine(values: NDArray[np.float32], count: int = 5) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """For each lesion the others whose features point most nearly the same way.

    Args:
        values: (n, n_features).
        count: Neighbours; fewer where there are not as many other lesions.

    Returns:
        (n, k) places and (n, k) cosines, the nearest first.
    """
    n = len(values)
    k = min(count, max(n - 1, 0))
    places, cosines = np.zeros((n, k), dtype=np.intp), np.zeros((n, k), dtype=np.float32)
    if k == 0:
        return places, cosines
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    unit = values / np.where(norms > 0, norms, 1).astype(np.float32)
    for first in range(0, n, BLOCK):
        rows = np.arange(first, min(first + BLOCK, n))
        similarity = unit[rows] @ unit.T
        similarity[rows - first, rows] = -np.inf
        best = np.argpartition(similarity, n - k, axis=1)[:, n - k :]
        order = np.argsort(-np.take_along_axis(similarity, best, axis=1), axis=1, kind="stable")
        places[rows] = np.take_along_axis(best, order, axis=1)
        cosines[rows] = np.take_along_axis(similarity, places[rows], axis=1)
    return places, cosines
