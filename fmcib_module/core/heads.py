"""Heads: what turns a lesion's features into a probability or a risk. Fitted in training/, applied here with numpy."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.conventions import Mode
from fmcib_module.core.errors import ConfigError
from fmcib_module.core.naming import is_safe_name

Floats = NDArray[np.float64]

LONGEST_NAME: Final = 32
LONGEST_CLASS: Final = 40
"""Both stand in one CodeMeaning of a DICOM SR, which has 64 characters at most."""

RISK: Final = "risk"
"""What a Cox head gives in place of classes."""


class HeadKind(StrEnum):
    """What a head is."""

    LOGISTIC = "logistic"  # (multinomial) logistic regression: probabilities
    RIDGE = (
        "ridge"  # least squares on classes coded -1 and 1; softmax of the scores, which is no calibrated probability
    )
    KNN = "knn"  # share of each class among the nearest training lesions
    COX = "cox"  # log hazard ratio against the mean training lesion


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A fitted head.

    Attributes:
        name: What outputs call it ("malignancy").
        kind: What it is.
        classes: In the order of its scores; empty for a Cox head.
        mean: (d,) of the training features.
        scale: (d,) their standard deviation, 1 where they are constant.
        coefficients: (k, d) of standardised features, k = classes, or 1 for a Cox head; for kNN the (m, d)
            standardised training features.
        intercepts: (k,); empty for kNN.
        neighbour_classes: (m,) class numbers of kNN's training lesions; else empty.
        neighbours: How many kNN asks; else 0.
        extractor: What made the features it was fitted on.
        weights_sha256: Their weights.
        mode: Their preprocessing mode.
        table_sha256: Lesion table they came from; empty where unknown.
        training_sha256: Over the training lesions' names, outcomes and features.
        version: Version of the software that fitted it.
        sha256: Of the head's file; empty before it is written.
    """

    name: str
    kind: HeadKind
    classes: tuple[str, ...]
    mean: Floats
    scale: Floats
    coefficients: Floats
    intercepts: Floats
    neighbour_classes: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    neighbours: int = 0
    extractor: str = ""
    weights_sha256: str = ""
    mode: str = ""
    table_sha256: str = ""
    training_sha256: str = ""
    version: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise ConfigError(f"the head does not fit together: {problem}", self.name, "save it again with `probe`")

    @property
    def outcomes(self) -> tuple[str, ...]:
        """What its scores are of: its classes, or `RISK`."""
        return self.classes or (RISK,)

    @property
    def facts(self) -> "HeadFacts":
        """What outputs say of it."""
        return HeadFacts(self.name, self.sha256, self.kind, self.outcomes, self.version, self.training_sha256)


@dataclass(frozen=True, slots=True)
class HeadFacts:
    """What outputs say of a head.

    Attributes:
        name: As in `Head`.
        sha256: As in `Head`.
        kind: As in `Head`.
        outcomes: As in `Head`.
        version: As in `Head`.
        training_sha256: As in `Head`.
    """

    name: str
    sha256: str
    kind: HeadKind
    outcomes: tuple[str, ...]
    version: str
    training_sha256: str


@dataclass(frozen=True, slots=True)
class HeadScore:
    """What one head says of one lesion.

    Attributes:
        head: The head.
        values: Probability of each of its outcomes, or the log hazard ratio.
    """

    head: HeadFacts
    values: tuple[float, ...]


def head_scores(head: Head, values: NDArray[np.floating]) -> Floats:
    """Apply a head.

    Args:
        head: Fitted on features of the same weights and mode.
        values: (n, d) features.

    Returns:
        (n, k) float64: probabilities of the classes, which sum to 1; (n, 1) log hazard ratios of a Cox head.
    """
    standardised = (values.astype(np.float64) - head.mean) / head.scale
    if head.kind is HeadKind.KNN:
        return _shares_of_neighbours(head, standardised)
    scores = standardised @ head.coefficients.T + head.intercepts
    return scores if head.kind is HeadKind.COX else softmax(scores)


def score_lesion(head: Head, values: NDArray[np.float32]) -> HeadScore:
    """What a head says of one lesion, (d,) features."""
    return HeadScore(head.facts, tuple(map(float, head_scores(head, values[None])[0])))


def softmax(scores: Floats) -> Floats:
    """(n, k) scores -> probabilities."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def check_head(head: Head, *, weights: str, weights_sha256: str, mode: Mode) -> None:
    """Refuse a head that was fitted on other features than those to come.

    Raises:
        ConfigError: It was made for other weights or another preprocessing mode.
    """
    if head.weights_sha256 != weights_sha256:
        made_for = f"{head.extractor} ({head.weights_sha256[:12] or 'no weights'})"
        what = f"the head was made for other weights: {made_for}, not {weights} ({weights_sha256[:12]})"
        raise ConfigError(what, head.name, "run with its weights, or fit a head on features of these")
    if head.mode != mode.value:
        what = f"the head was made for preprocessing mode {head.mode!r}, not {mode.value!r}"
        raise ConfigError(what, head.name, f"run with --mode {head.mode}, or fit a head on features of this mode")


def _shares_of_neighbours(head: Head, standardised: Floats) -> Floats:
    """Shares of the classes by Euclidean distance; of equally far lesions, the first in the table is the nearer one."""
    kept = head.coefficients
    squares = (standardised**2).sum(axis=1)[:, None] - 2 * standardised @ kept.T + (kept**2).sum(axis=1)
    nearest = np.argsort(squares, axis=1, kind="stable")[:, : head.neighbours]
    votes = head.neighbour_classes[nearest]
    return np.stack([(votes == number).mean(axis=1) for number in range(len(head.classes))], axis=1)


def _problem(head: Head) -> str:
    d, k = len(head.mean), len(head.outcomes)
    rows = len(head.neighbour_classes) if head.kind is HeadKind.KNN else k
    shapes = {
        "scale": (head.scale.shape, (d,)),
        "coefficients": (head.coefficients.shape, (rows, d)),
        "intercepts": (head.intercepts.shape, (0 if head.kind is HeadKind.KNN else k,)),
    }
    for name, (found, expected) in shapes.items():
        if found != expected:
            return f"{name} are {found}, expected {expected}"
    if (head.kind is HeadKind.COX) != (not head.classes) or len(set(head.classes)) != len(head.classes) or k == 0:
        return f"a {head.kind} head has classes {', '.join(head.classes) or 'none'}"
    arrays = (head.mean, head.scale, head.coefficients, head.intercepts)
    if not all(np.isfinite(array).all() for array in arrays) or not (head.scale > 0).all():
        return "its numbers are not finite, or a scale is not positive"
    if head.kind is HeadKind.KNN:
        inside = ((head.neighbour_classes >= 0) & (head.neighbour_classes < k)).all()
        if not inside or not 1 <= head.neighbours <= rows:
            return f"it asks {head.neighbours} of {rows} lesions"
    if not is_safe_name(head.name) or len(head.name) > LONGEST_NAME:
        return (
            f"its name has more than {LONGEST_NAME} characters, or others than letters, digits, dot, dash, underscore"
        )
    if not all(name.isprintable() and 0 < len(name) <= LONGEST_CLASS for name in head.classes):
        return f"a class has no name, more than {LONGEST_CLASS} characters, or some that cannot be printed"
    return ""
