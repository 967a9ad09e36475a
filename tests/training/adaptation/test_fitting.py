"""Fitted heads are those of scikit-learn and scikit-survival, also where they were fitted in fewer dimensions."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from fmcib_module.core.errors import InputError
from fmcib_module.core.heads import HeadKind, head_scores
from training.adaptation.fitting import Outcomes, Standardised, fit_head
from training.adaptation.search import Fold, Score, patient_folds, search_strength

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]

FEWER_AND_MORE_FEATURES = pytest.mark.parametrize("d", [6, 120])
CLASSES = pytest.mark.parametrize("k", [2, 4])


def data(d: int, k: int = 2, n: int = 80) -> Arrays:
    """Features of three scales, one of them constant, and labels that depend on the first."""
    rng = np.random.default_rng(d + k)
    values = rng.standard_normal((n + 20, d)) * np.array([1, 50, 0.02])[np.arange(d) % 3] + 3
    labels = np.argsort(np.argsort(values[:, 0] + rng.standard_normal(n + 20))) * k // (n + 20)
    values[:, -1] = 7.0
    return values[:n].astype(np.float32), labels[:n], values[n:].astype(np.float32)


def standardised(values: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scaler = StandardScaler().fit(values.astype(np.float64))
    return scaler.transform(values.astype(np.float64)), scaler.transform(held.astype(np.float64))


def classes(k: int) -> tuple[str, ...]:
    return tuple(map(str, range(k)))


@FEWER_AND_MORE_FEATURES
@CLASSES
def test_logistic_regression_is_scikit_learns(d: int, k: int) -> None:
    values, labels, held = data(d, k)
    head = fit_head(HeadKind.LOGISTIC, Standardised.of(values), Outcomes(classes(k), labels, np.empty(0)), 0.05)
    rows, held_rows = standardised(values, held)
    expected = LogisticRegression(C=0.05, tol=1e-8, max_iter=5000).fit(rows, labels).predict_proba(held_rows)
    np.testing.assert_allclose(head_scores(head, held), expected, atol=2e-3)  # both stop short of the optimum
    assert head.coefficients.shape == (k, d)


@FEWER_AND_MORE_FEATURES
@CLASSES
def test_ridge_decides_as_scikit_learns(d: int, k: int) -> None:
    values, labels, held = data(d, k)
    head = fit_head(HeadKind.RIDGE, Standardised.of(values), Outcomes(classes(k), labels, np.empty(0)), 0.1)
    rows, held_rows = standardised(values, held)
    fitted = RidgeClassifier(alpha=10.0).fit(rows, labels)
    decision = fitted.decision_function(held_rows)
    np.testing.assert_array_equal(head_scores(head, held).argmax(axis=1), fitted.predict(held_rows))
    if k == 2:
        found = head_scores(head, held)
        np.testing.assert_allclose(np.log(found[:, 1] / found[:, 0]), 2 * decision, rtol=1e-6)


@FEWER_AND_MORE_FEATURES
def test_neighbours_are_scikit_learns(d: int) -> None:
    values, labels, held = data(d, 3)
    head = fit_head(HeadKind.KNN, Standardised.of(values), Outcomes(classes(3), labels, np.empty(0)), 7)
    rows, held_rows = standardised(values, held)
    expected = KNeighborsClassifier(7, algorithm="brute").fit(rows, labels).predict_proba(held_rows)
    np.testing.assert_allclose(head_scores(head, held), expected)


@FEWER_AND_MORE_FEATURES
def test_cox_regression_is_scikit_survivals(d: int) -> None:
    values, labels, held = data(d)
    rng = np.random.default_rng(0)
    time, event = rng.exponential(1 + labels).round(1) + 0.1, rng.random(len(labels)) < 0.7  # with ties
    head = fit_head(HeadKind.COX, Standardised.of(values), Outcomes((), event.astype(np.int64), time), 0.1)
    rows, held_rows = standardised(values, held)
    fitted = CoxPHSurvivalAnalysis(alpha=10.0, ties="efron").fit(rows, Surv.from_arrays(event, time))
    np.testing.assert_allclose(head_scores(head, held)[:, 0], fitted.predict(held_rows), rtol=1e-6, atol=1e-8)


def test_a_risk_that_orders_all_events_is_fitted_without_a_warning() -> None:
    time = np.arange(1.0, 11.0)
    values = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32) * 0.1
    values[:, 0] = -time
    head = fit_head(HeadKind.COX, Standardised.of(values), Outcomes((), np.ones(10, dtype=np.int64), time), 1000.0)
    assert np.argsort(-head_scores(head, values)[:, 0]).tolist() == list(range(10))


def test_a_class_without_training_lesions_has_no_probability() -> None:
    values, labels, held = data(6, 2)
    head = fit_head(HeadKind.LOGISTIC, Standardised.of(values), Outcomes(classes(3), labels, np.empty(0)), 1.0)
    np.testing.assert_array_equal(head_scores(head, held)[:, 2], 0.0)


def test_folds_hold_whole_patients() -> None:
    values, labels, _ = data(6, 2)
    values[:, 0] = np.arange(80)
    patients = np.array([str(n // 4) for n in range(80)])
    outcomes = Outcomes(classes(2), labels, np.empty(0))
    folds = patient_folds(values, outcomes, patients, folds=4, seed=0)
    assert sum(len(fold.judged.labels) for fold in folds) == 80
    for fold in folds:
        fitted = fold.features.rows[:, 0] * fold.features.scale[0] + fold.features.mean[0]
        held = fold.held_out[:, 0] * fold.features.scale[0] + fold.features.mean[0]
        assert not set(fitted.round() // 4) & set(held.round() // 4)
    with pytest.raises(InputError, match="20 patients cannot make 21 folds"):
        patient_folds(values, outcomes, patients, folds=21, seed=0)


@pytest.mark.parametrize("kind", [HeadKind.LOGISTIC, HeadKind.KNN])
def test_the_search_finds_a_penalty_that_predicts(kind: HeadKind) -> None:
    values, labels, _ = data(20, 2, n=160)
    outcomes = Outcomes(classes(2), labels, np.empty(0))
    fold = Fold.of(values[:80], outcomes.take(np.arange(80)), values[80:], outcomes.take(np.arange(80, 160)))
    found = search_strength(kind, [fold], score=Score.AUTO, n_trials=5, seed=0)
    assert found.n_trials == 5
    assert found.score > 0.6  # one of 20 features tells
    assert found == search_strength(kind, [fold], score=Score.AUTO, n_trials=5, seed=0)


def test_a_tuning_set_of_one_class_cannot_choose() -> None:
    values, labels, _ = data(6, 2)
    outcomes = Outcomes(classes(2), labels, np.empty(0))
    one = np.flatnonzero(labels == 0)
    fold = Fold.of(values, outcomes, values[one], outcomes.take(one))
    with pytest.raises(InputError, match="no strength of the penalty could be scored"):
        search_strength(HeadKind.LOGISTIC, [fold], score=Score.AUC, n_trials=2, seed=0)
