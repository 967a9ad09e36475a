"""Linear probes of labelled points; their penalty is chosen by leaving out whole patients, as they are judged.

Points of one patient are alike: a penalty chosen by leaving out single points is too small, the more so the more
features there are.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from training.evaluation.metrics import Floats, Index, auc, balanced_accuracy

ALPHAS: Final = tuple(10.0**n for n in range(-1, 6))
"""Ridge penalties that a probe chooses from, on its training points."""

FOLDS: Final = 5
"""Of the patients (or blocks) that a penalty is chosen on."""

Bools = NDArray[np.bool_]


def held_out_scores(features: Floats, labels: Index, groups: NDArray[np.str_], fitted: Mapping[str, Bools]) -> Floats:
    """Scores of groups of points, each by a probe that was fitted on others.

    Args:
        features: (n, d).
        labels: (n,) 0, 1, ...
        groups: (n,) patient or block of each point.
        fitted: Group that is judged -> (n,) which points its probe is fitted on; none of the group's own.

    Returns:
        (n, classes), NaN for groups that are not judged.
    """
    scores = np.full((len(labels), int(labels.max()) + 1), np.nan)
    for group, seen in fitted.items():
        inside = groups == group
        alpha = best_penalty(features[seen], labels[seen], groups[seen])
        scores[inside] = _scores(features[seen], labels[seen], features[inside], alpha, scores.shape[1])
    return scores


def best_penalty(features: Floats, labels: Index, groups: NDArray[np.str_]) -> float:
    """The penalty whose probes best tell the classes of groups that they were not fitted on; the least of equals.

    Args:
        features: (n, d).
        labels: (n,).
        groups: (n,).
    """
    n_classes = int(labels.max()) + 1
    folds = GroupKFold(min(FOLDS, len(set(groups)))).split(features, labels, groups) if len(set(groups)) > 1 else ()
    usable = [(seen, left_out) for seen, left_out in folds if len(set(labels[seen])) > 1]
    if not usable:
        return 1.0
    judged = np.concatenate([left_out for _, left_out in usable])
    values = []
    for alpha in ALPHAS:
        parts = [
            _scores(features[seen], labels[seen], features[left_out], alpha, n_classes) for seen, left_out in usable
        ]
        values.append(_value(np.concatenate(parts), labels[judged]))
    return ALPHAS[int(np.argmax(values))]


def _value(scores: Floats, labels: Index) -> float:
    if scores.shape[1] == 2 and len(set(labels)) == 2:
        return auc(scores[:, 1], labels == 1)
    return balanced_accuracy(scores.argmax(axis=1), labels)


def _scores(seen: Floats, labels: Index, features: Floats, alpha: float, n_classes: int) -> Floats:
    """(n, classes) decisions; minus infinity for a class that was not seen."""
    scaler = StandardScaler().fit(seen)
    probe = RidgeClassifier(alpha=alpha, class_weight="balanced").fit(scaler.transform(seen), labels)
    decision = probe.decision_function(scaler.transform(features))
    if decision.ndim == 1:
        decision = np.stack([-decision, decision], axis=1)
    full = np.full((len(features), n_classes), -np.inf)
    full[:, probe.classes_] = decision
    return full
