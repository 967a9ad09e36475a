"""How far a lesion's features lie from those of a reference cohort."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.errors import InputError

VARIANCE_SHARE: Final = 0.95
"""Share of the cohort's variance that the kept components explain."""

MAX_COMPONENTS: Final = 64

QUANTILE: Final = 0.995
"""Of the cohort's own distances, each measured against statistics that its patient is not in: the limit."""

N_FOLDS: Final = 10

MIN_PATIENTS: Final = 5
MIN_LESIONS: Final = 50
"""Fewer say nothing of how features are distributed."""


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceStatistics:
    """The distribution of a cohort's features: probabilistic principal components.

    Attributes:
        mean: (d,) float64.
        axes: (k, d) float64, orthonormal rows.
        variances: (k,) float64, along the axes; descending.
        rest_variance: Mean variance along each of the other d - k directions.
        limit: Distance that `QUANTILE` of the cohort's held-out lesions stay within.
        n_lesions: In the cohort.
        n_patients: In the cohort.
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]
    variances: NDArray[np.float64]
    rest_variance: float
    limit: float
    n_lesions: int
    n_patients: int


def fit_reference(values: NDArray[np.float32], patients: NDArray[np.str_]) -> ReferenceStatistics:
    """Statistics of a cohort, with the limit from lesions of patients that were held out.

    Args:
        values: (n, d) features.
        patients: (n,) whose each lesion is.

    Raises:
        InputError: The cohort is too small, or its features do not vary.
    """
    names = np.unique(patients)
    if len(values) < MIN_LESIONS or len(names) < MIN_PATIENTS:
        raise InputError(
            f"{len(values)} lesions of {len(names)} patients are too few for reference statistics",
            "reference cohort",
            f"give at least {MIN_LESIONS} lesions of {MIN_PATIENTS} patients",
        )
    held_out = [
        reference_distances(values[test], _fit(values[~test], 0.0, 0)) for test in _folds(patients, names) if test.any()
    ]
    limit = float(np.quantile(np.concatenate(held_out), QUANTILE))
    return _fit(values, limit, len(names))


def reference_distances(values: NDArray[np.float32], reference: ReferenceStatistics) -> NDArray[np.float64]:
    """Mahalanobis distance of lesions from a cohort.

    Args:
        values: (n, d) features.
        reference: Of the cohort.

    Returns:
        (n,) float64: sqrt(sum(score_i^2 / variance_i) + |rest|^2 / rest_variance), the Mahalanobis distance under the
        covariance of probabilistic principal components.

    References:
        Tipping, Bishop 1999, doi:10.1111/1467-9868.00196, equation 6 with W from equation 7.
    """
    centred = values.astype(np.float64) - reference.mean
    scores = centred @ reference.axes.T
    rest = np.maximum(np.sum(centred**2, axis=1) - np.sum(scores**2, axis=1), 0.0)
    return np.asarray(np.sqrt(np.sum(scores**2 / reference.variances, axis=1) + rest / reference.rest_variance))


def _folds(patients: NDArray[np.str_], names: NDArray[np.str_]) -> Iterator[NDArray[np.bool_]]:
    """Lesions to hold out, all of a patient together."""
    for part in np.array_split(np.random.default_rng(0).permutation(names), min(N_FOLDS, len(names))):
        yield np.isin(patients, part)


def _fit(values: NDArray[np.float32], limit: float, n_patients: int) -> ReferenceStatistics:
    mean = values.mean(axis=0, dtype=np.float64)
    _, singular, axes = np.linalg.svd(values.astype(np.float64) - mean, full_matrices=False)
    variances = singular**2 / (len(values) - 1)
    total = float(variances.sum())
    if total <= 0.0:
        raise InputError("the features of all lesions are equal", "reference cohort", "check how they were made")
    k = 1 + int(np.searchsorted(np.cumsum(variances) / total, VARIANCE_SHARE))
    k = min(k, MAX_COMPONENTS, len(variances) - 1, values.shape[1] - 1)
    rest = (total - float(variances[:k].sum())) / (values.shape[1] - k)
    floor = float(variances[0]) * 1e-9  # a cohort whose features span few directions has no rest
    return ReferenceStatistics(mean, axes[:k], variances[:k], max(rest, floor), limit, len(values), n_patients)
