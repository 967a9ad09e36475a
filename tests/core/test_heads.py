"""Heads: arithmetic by hand, and refusal of what does not fit together or was made for other features."""

from dataclasses import replace

import numpy as np
import pytest

from fmcib_module.core.conventions import Mode
from fmcib_module.core.errors import ConfigError
from fmcib_module.core.heads import Head, HeadKind, check_head, head_scores, score_lesion, softmax


def logistic() -> Head:
    return Head(
        name="malignancy",
        kind=HeadKind.LOGISTIC,
        classes=("0", "1"),
        mean=np.array([1.0, 2.0]),
        scale=np.array([2.0, 1.0]),
        coefficients=np.array([[0.0, 0.0], [1.0, -1.0]]),
        intercepts=np.array([0.0, np.log(3.0)]),
        extractor="mini",
        weights_sha256="ab" * 32,
        mode="published",
        sha256="cd" * 32,
    )


def test_a_probability_by_hand() -> None:
    # standardised (1, 1): score log 3, odds 3; standardised (1, 0): score 1 + log 3
    found = head_scores(logistic(), np.array([[3.0, 3.0], [3.0, 2.0]], dtype=np.float32))
    np.testing.assert_allclose(found[:, 1], [3 / 4, 3 * np.e / (1 + 3 * np.e)])
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert score_lesion(logistic(), np.array([3.0, 3.0], dtype=np.float32)).values == pytest.approx((0.25, 0.75))


def test_a_log_hazard_ratio_by_hand() -> None:
    head = replace(
        logistic(), kind=HeadKind.COX, classes=(), coefficients=np.array([[0.5, 2.0]]), intercepts=np.zeros(1)
    )
    assert score_lesion(head, np.array([3.0, 3.0], dtype=np.float32)).values == (2.5,)


def test_neighbours_vote() -> None:
    head = replace(
        logistic(),
        kind=HeadKind.KNN,
        mean=np.zeros(1),
        scale=np.ones(1),
        coefficients=np.array([[0.0], [1.0], [2.0], [9.0]]),
        intercepts=np.empty(0),
        neighbour_classes=np.array([0, 1, 1, 0]),
        neighbours=3,
    )
    np.testing.assert_allclose(head_scores(head, np.array([[0.4]], dtype=np.float32)), [[1 / 3, 2 / 3]])
    with pytest.raises(ConfigError, match="it asks 5 of 4 lesions"):
        replace(head, neighbours=5)


def test_softmax_does_not_overflow() -> None:
    np.testing.assert_allclose(softmax(np.array([[1e4, 1e4, -1e6]])), [[0.5, 0.5, 0.0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": np.array([1.0, 0.0])}, "a scale is not positive"),
        ({"mean": np.array([1.0, np.nan])}, "not finite"),
        ({"classes": ("0", "0")}, "has classes 0, 0"),
        ({"classes": ()}, "coefficients are .2, 2., expected .1, 2."),
        ({"intercepts": np.zeros(3)}, "intercepts are .3,., expected .2,."),
        ({"name": "a b"}, "its name has more than 32 characters"),
        ({"classes": ("0", "1" * 41)}, "a class has no name, more than 40"),
    ],
)
def test_a_head_that_does_not_fit_together_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(logistic(), **change)  # type: ignore[arg-type]


def test_a_head_for_other_weights_or_another_mode_is_refused() -> None:
    head = logistic()
    check_head(head, weights="mini", weights_sha256="ab" * 32, mode=Mode.PUBLISHED)
    with pytest.raises(ConfigError, match=r"made for other weights: mini \(abababababab\), not fmcib \(efefefefefef\)"):
        check_head(head, weights="fmcib", weights_sha256="ef" * 32, mode=Mode.PUBLISHED)
    with pytest.raises(ConfigError, match=r"made for preprocessing mode 'published', not 'centred' .malignancy"):
        check_head(head, weights="mini", weights_sha256="ab" * 32, mode=Mode.CENTRED)
