"""Cosine and relative L2, on vectors whose angle and length are known."""

import numpy as np
import pytest

from fmcib_module.core.comparison import Stability, cosine, measure_drift, measure_stability
from fmcib_module.core.conventions import Mode


def _at(degrees: float, length: float = 1.0) -> np.ndarray:
    angle = np.radians(degrees)
    return (length * np.array([np.cos(angle), np.sin(angle), 0.0])).astype(np.float32)


def test_the_cosine_is_that_of_the_angle_whatever_the_lengths():
    assert cosine(_at(0), _at(60, length=5)) == pytest.approx(0.5, abs=1e-6)
    assert cosine(_at(10), -_at(10)) == pytest.approx(-1.0, abs=1e-6)
    assert cosine(_at(0), np.zeros(3, np.float32)) == 0.0


def test_stability_is_mean_and_lowest_cosine_and_counts_lost_seeds():
    found = measure_stability(_at(0), [_at(0), _at(60), _at(90)], n_seeds=5)
    assert (found.n_seeds, found.n_lost) == (5, 2)
    assert (found.cosine_mean, found.cosine_min) == pytest.approx((0.5, 0.0), abs=1e-6)
    assert measure_stability(_at(0), [], n_seeds=3) == Stability(3, 3, None, None)


def test_drift_compares_each_two_modes_with_the_first_as_the_measure():
    first, second = measure_drift({Mode.CENTRED: _at(0, 4.0), Mode.PUBLISHED: _at(0, 2.0)}), measure_drift({})
    assert [(d.mode, d.other) for d in first] == [(Mode.PUBLISHED, Mode.CENTRED)]
    assert (first[0].cosine, first[0].relative_l2) == pytest.approx((1.0, 1.0))
    assert second == ()
    three = measure_drift({mode: _at(n) for n, mode in enumerate(Mode)})
    assert [(d.mode, d.other) for d in three] == [
        (Mode.PUBLISHED, Mode.PUBLISHED_MONAI16),
        (Mode.PUBLISHED, Mode.CENTRED),
        (Mode.PUBLISHED_MONAI16, Mode.CENTRED),
    ]
