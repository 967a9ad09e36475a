"""How strong a head's penalty should be: optuna on the tuning set, or on folds of whole patients."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.errors import InputError
from fmcib_module.core.heads import Floats, Head, HeadKind, head_scores
from training.adaptation.fitting import Outcomes, Standardised, fit_head
from training.evaluation.metrics import (
    ClassScores,
    RiskScores,
    balanced_accuracy_of_scores,
    concordance,
    mean_auc,
    mean_average_precision,
    once,
)

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

STRENGTHS: Final = (1e-6, 1e3)
"""C is searched between these, log-uniform, as the paper's code does."""

MOST_NEIGHBOURS: Final = 100


class Score(StrEnum):
    """What the search maximises."""

    AUTO = "auto"  # AUC of two classes, balanced accuracy of more, c-index of survival
    AUC = "auc"
    BALANCED_ACCURACY = "balanced_accuracy"
    MEAN_AVERAGE_PRECISION = "mean_average_precision"
    ACCURACY = "accuracy"  # the published code's for more than two classes


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        strength: As `fit_head` takes it.
        score: Its score.
        n_trials: How many strengths were tried, without those on which a fit diverged.
    """

    strength: float
    score: float
    n_trials: int


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """Something to fit on, and something else to be judged on."""

    features: Standardised
    fitted: Outcomes
    held_out: Floats
    judged: Outcomes

    @classmethod
    def of(cls, values: NDArray[np.float32], outcomes: Outcomes, held: NDArray[np.float32], judged: Outcomes) -> "Fold":
        """Standardise by the training lesions alone."""
        features = Standardised.of(values)
        return cls(features, outcomes, features.bring(held), judged)


def patient_folds(
    values: NDArray[np.float32], outcomes: Outcomes, patients: NDArray[np.str_], *, folds: int, seed: int
) -> list[Fold]:
    """Folds of whole patients, with classes as evenly spread as that allows.

    Raises:
        InputError: There are fewer patients than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    n_patients = len(np.unique(patients))
    if n_patients < folds:
        raise InputError(f"{n_patients} patients cannot make {folds} folds", "cross-validation", "use fewer folds")
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    found = splitter.split(values, outcomes.labels, patients)
    return [Fold.of(values[i], outcomes.take(i), values[j], outcomes.take(j)) for i, j in found]


def search_strength(kind: HeadKind, folds: list[Fold], *, score: Score, n_trials: int, seed: int) -> Found:
    """Try strengths; the best is the one with the highest mean score over the folds, the first of equals.

    Raises:
        InputError: No trial could be scored: the tuning set has one class, or no pair of known order.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(_objective(kind, folds, score), n_trials=n_trials)
    done = [trial for trial in study.trials if trial.value is not None and np.isfinite(trial.value)]
    if not done:
        raise InputError("no strength of the penalty could be scored", "search", "check the classes of the tuning set")
    best = max(done, key=lambda trial: float(trial.value or 0.0))
    return Found(float(best.params["strength"]), float(best.value or 0.0), len(done))


def _objective(kind: HeadKind, folds: list[Fold], score: Score) -> "Callable[[optuna.Trial], float]":
    import optuna

    most = min(MOST_NEIGHBOURS, *(len(fold.fitted.labels) for fold in folds))

    def objective(trial: optuna.Trial) -> float:
        if kind is HeadKind.KNN:
            strength = float(trial.suggest_int("strength", 1, most))
        else:
            strength = trial.suggest_float("strength", *STRENGTHS, log=True)
        try:
            scores = [_judge(_in_basis(kind, fold, strength), fold, score) for fold in folds]
        except ArithmeticError as error:
            raise optuna.TrialPruned from error
        if not np.isfinite(scores).any():
            raise optuna.TrialPruned
        return float(np.nanmean(scores))

    return objective


def _in_basis(kind: HeadKind, fold: Fold, strength: float) -> Head:
    """A head on the fold's own basis, so that nothing is carried back to all features for each trial."""
    m = fold.features.rows.shape[1]
    plain = Standardised(np.zeros(m), np.ones(m), fold.features.rows, None)
    return fit_head(kind, plain, fold.fitted, strength)


def _judge(head: Head, fold: Fold, score: Score) -> float:
    found, judged = head_scores(head, fold.held_out), fold.judged
    if head.kind is HeadKind.COX:
        return float(concordance(RiskScores(judged.time, judged.labels == 1, found[:, 0]), once(len(found)))[0])
    if score is Score.ACCURACY:
        return float((found.argmax(axis=1) == judged.labels).mean())
    metrics = {
        Score.AUC: mean_auc,
        Score.BALANCED_ACCURACY: balanced_accuracy_of_scores,
        Score.MEAN_AVERAGE_PRECISION: mean_average_precision,
    }
    usual = Score.AUC if found.shape[1] == 2 else Score.BALANCED_ACCURACY
    metric = metrics[usual if score is Score.AUTO else score]
    return float(metric(ClassScores(judged.labels, found), once(len(found)))[0])
