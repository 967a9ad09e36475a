"""Predictions with a known truth, for the tests of metrics and intervals."""

import numpy as np

from training.evaluation.metrics import ClassScores, RiskScores

PREVALENCES = np.array([0.3, 0.2, 0.15, 0.12, 0.1, 0.06, 0.04, 0.03])


def eight_classes(n: int, seed: int, decimals: int | None = None) -> ClassScores:
    """Probabilities of eight classes, some of them rare; few decimals make ties."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(8, size=n, p=PREVALENCES)
    logits = rng.standard_normal((n, 8))
    logits[np.arange(n), truth] += 1.5
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return ClassScores(truth, probabilities if decimals is None else probabilities.round(decimals))


def two_classes(n: int, seed: int, shift: float = 1.0, prevalence: float = 0.4) -> ClassScores:
    """Scores of positives and negatives from two normal distributions `shift` apart: AUC = Phi(shift / sqrt 2)."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < prevalence).astype(np.int64)
    score = rng.standard_normal(n) + shift * truth
    return ClassScores(truth, np.column_stack([-score, score]))


def risks(n: int, seed: int, effect: float = 1.0) -> RiskScores:
    """Exponential times, a third censored, times and risks rounded so that there are ties."""
    rng = np.random.default_rng(seed)
    risk = rng.standard_normal(n).round(1)
    until_event = rng.exponential(np.exp(-effect * risk))
    until_end = rng.exponential(2.0, n)
    time = np.minimum(until_event, until_end).round(2) + 0.01
    return RiskScores(time, until_event <= until_end, risk)
