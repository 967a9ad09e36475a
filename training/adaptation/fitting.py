"""Fitting a head on standardised features: logistic, ridge, kNN, Cox (scikit-learn, scikit-survival)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.heads import Floats, Head, HeadKind

Index = NDArray[np.int64]

NEVER: Final = -1e6
"""Intercept of a class that a head has never seen: its probability is 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What is to be predicted.

    Attributes:
        classes: Names; empty for survival.
        labels: (n,) class numbers; for survival whether there was an event, as 0 and 1.
        time: (n,) for survival; else empty.
    """

    classes: tuple[str, ...]
    labels: Index
    time: Floats

    def take(self, rows: NDArray[np.generic]) -> "Outcomes":
        """Those of some lesions."""
        return Outcomes(self.classes, self.labels[rows], self.time[rows] if len(self.time) else self.time)


@dataclass(frozen=True, slots=True, eq=False)
class Standardised:
    """Training features ready to fit on, in as few dimensions as there are lesions.

    With a penalty on the length of the coefficients, these lie in the span of the training lesions; fitting in an
    orthonormal basis of it gives the same head and costs much less where lesions are fewer than features.

    Attributes:
        mean: (d,).
        scale: (d,), 1 where a feature is constant.
        rows: (n, m) training features in the basis.
        basis: (d, m) with orthonormal columns; None where the features are their own basis.
    """

    mean: Floats
    scale: Floats
    rows: Floats
    basis: Floats | None

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> "Standardised":
        """Standardise (n, d) features."""
        mean = values.mean(axis=0, dtype=np.float64)
        scale = values.std(axis=0, dtype=np.float64)
        scale[scale < 1e-12 * np.maximum(1.0, np.abs(mean))] = 1.0
        rows = (values - mean) / scale
        if len(rows) >= rows.shape[1]:
            return cls(mean, scale, rows, None)
        basis, triangle = np.linalg.qr(rows.T)
        return cls(mean, scale, triangle.T, basis)

    def bring(self, values: NDArray[np.floating]) -> Floats:
        """(n, m) other features in the same basis."""
        rows = (values - self.mean) / self.scale
        return rows if self.basis is None else rows @ self.basis

    def head(
        self, kind: HeadKind, classes: tuple[str, ...], coefficients: Floats, intercepts: Floats, **more: Any
    ) -> Head:
        """A head from (k, m) coefficients in the basis; it has no name yet."""
        full = coefficients if self.basis is None else coefficients @ self.basis.T
        return Head("unnamed", kind, classes, self.mean, self.scale, np.ascontiguousarray(full), intercepts, **more)


def fit_head(kind: HeadKind, features: Standardised, outcomes: Outcomes, strength: float) -> Head:
    """Fit a head.

    Args:
        kind: Which.
        features: Of the training lesions.
        outcomes: Of the same.
        strength: C, the inverse of the penalty, of logistic regression; 1 / alpha of ridge and Cox; for kNN the number
            of neighbours.

    Raises:
        ArithmeticError: A Cox regression diverged.
    """
    if kind is HeadKind.KNN:
        near = {"neighbour_classes": outcomes.labels, "neighbours": min(round(strength), len(outcomes.labels))}
        return features.head(kind, outcomes.classes, features.rows, np.empty(0), **near)
    if kind is HeadKind.COX:
        return features.head(kind, (), *_cox(features.rows, outcomes, strength))
    fit = _logistic if kind is HeadKind.LOGISTIC else _ridge
    return features.head(
        kind, outcomes.classes, *_all_classes(*fit(features.rows, outcomes.labels, strength), outcomes)
    )


def _logistic(rows: Floats, labels: Index, strength: float) -> tuple[Floats, Floats, Sequence[int]]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # with next to no penalty: the published code's 1,000 steps
        fitted = LogisticRegression(C=strength, max_iter=1000).fit(rows, labels)
    if len(fitted.classes_) > 2:
        return fitted.coef_, fitted.intercept_, fitted.classes_
    zeros = np.zeros_like(fitted.coef_), np.zeros_like(fitted.intercept_)  # of two classes only the second has scores
    return np.vstack([zeros[0], fitted.coef_]), np.concatenate([zeros[1], fitted.intercept_]), fitted.classes_


def _ridge(rows: Floats, labels: Index, strength: float) -> tuple[Floats, Floats, Sequence[int]]:
    from sklearn.linear_model import RidgeClassifier

    fitted = RidgeClassifier(alpha=1 / strength).fit(rows, labels)
    if len(fitted.classes_) > 2:
        return fitted.coef_, fitted.intercept_, fitted.classes_
    return (
        np.vstack([-fitted.coef_, fitted.coef_]),
        np.concatenate([-fitted.intercept_, fitted.intercept_]),
        fitted.classes_,
    )


def _cox(rows: Floats, outcomes: Outcomes, strength: float) -> tuple[Floats, Floats]:
    from sksurv.linear_model import CoxPHSurvivalAnalysis
    from sksurv.util import Surv

    survival = Surv.from_arrays(outcomes.labels == 1, outcomes.time)
    with np.errstate(over="ignore"):  # of the baseline hazard, which a head does not have
        fitted = CoxPHSurvivalAnalysis(alpha=1 / strength, ties="efron").fit(rows, survival)
    return fitted.coef_[None], np.zeros(1)


def _all_classes(
    coefficients: Floats, intercepts: Floats, found: Sequence[int], outcomes: Outcomes
) -> tuple[Floats, Floats]:
    """Rows of every class; one without a training lesion gets a score that no lesion reaches."""
    full = np.zeros((len(outcomes.classes), coefficients.shape[1]))
    shifts = np.full(len(outcomes.classes), NEVER)
    full[found], shifts[found] = coefficients, intercepts
    return full, shifts
