"""Linear probes of labelled points; their penalty is chosen by leaving out whole patients, as they are judged.

Points of one patient are alike: a penalty chosen by leaving out single points is too small, the more so the more
features there are.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
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
        scores[inside] = ridge_scores(features[seen], labels[seen], features[inside], (alpha,), scores.shape[1])[0]
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
    truth = labels[np.concatenate([left_out for _, left_out in usable])]
    parts = [
        ridge_scores(features[seen], labels[seen], features[left_out], ALPHAS, n_classes) for seen, left_out in usable
    ]
    return ALPHAS[int(np.argmax([_value(scores, truth) for scores in np.concatenate(parts, axis=1)]))]


def ridge_scores(seen: Floats, labels: Index, features: Floats, alphas: Sequence[float], n_classes: int) -> Floats:
    """Decisions of ridge classifiers on standardised features, classes of equal weight: one decomposition for all.

    Each class is told from the others by least squares on -1 and 1, as scikit-learn's RidgeClassifier does.

    Args:
        seen: (n, d) to fit on.
        labels: (n,) of these, two classes or more.
        features: (m, d) to judge.
        alphas: Penalties.
        n_classes: Of the task.

    Returns:
        (penalties, m, n_classes); minus infinity for a class that was not seen.
    """
    classes, counts = np.unique(labels, return_counts=True)
    weights = np.sqrt(len(labels) / (len(classes) * counts))[np.searchsorted(classes, labels)][:, None]
    scaler = StandardScaler().fit(seen)
    own, other = scaler.transform(seen), scaler.transform(features)
    targets = np.where(labels[:, None] == classes, 1.0, -1.0)
    centre, level = (np.average(values, axis=0, weights=weights[:, 0] ** 2) for values in (own, targets))
    left, sizes, right = np.linalg.svd(weights * (own - centre), full_matrices=False)
    projected, onto = left.T @ (weights * (targets - level)), (other - centre) @ right.T
    decisions = np.full((len(alphas), len(features), n_classes), -np.inf)
    for n, alpha in enumerate(alphas):
        decisions[n][:, classes] = (onto * (sizes / (sizes**2 + alpha))) @ projected + level
    return decisions


def _value(scores: Floats, labels: Index) -> float:
    if scores.shape[1] == 2 and len(set(labels)) == 2:
        return auc(scores[:, 1], labels == 1)
    return balanced_accuracy(scores.argmax(axis=1), labels)
