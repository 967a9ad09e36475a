"""Jittered seeds: how they are spread, and that a rerun draws the same ones."""

from dataclasses import replace

import numpy as np

from fmcib_module.core.conventions import Flag
from fmcib_module.core.domain import Seed
from fmcib_module.core.variants import jittered_seeds

SEED = Seed((12.0, -7.0, 30.0), "GTV-1", "1.2.3", roi_number=3)


def _offsets(seed: Seed, count: int, series_uid: str = "1.2") -> np.ndarray:
    return np.array([jittered.lps_mm for jittered in jittered_seeds(seed, series_uid, count)]) - seed.lps_mm


def test_offsets_are_normal_with_a_variance_of_16_mm2_on_each_axis():
    offsets = _offsets(SEED, 900)
    np.testing.assert_allclose(offsets.var(axis=0), 16.0, rtol=0.15)  # standard error 4.7 %
    np.testing.assert_allclose(offsets.mean(axis=0), 0.0, atol=0.5)  # standard error 0.13 mm
    assert np.abs(np.corrcoef(offsets.T) - np.eye(3)).max() < 0.12
    assert 0.65 < np.mean(np.abs(offsets) < 4.0) < 0.72  # 68 % within one standard deviation of a normal distribution


def test_a_rerun_draws_the_same_seeds_and_more_of_them_begin_alike():
    np.testing.assert_array_equal(_offsets(SEED, 5), _offsets(SEED, 5))
    np.testing.assert_array_equal(_offsets(SEED, 50)[:5], _offsets(SEED, 5))
    np.testing.assert_array_equal(_offsets(replace(SEED, flags=(Flag.NEAR_BORDER,)), 5), _offsets(SEED, 5))


def test_lesions_and_series_have_their_own_offsets():
    own = _offsets(SEED, 5)
    assert not np.allclose(_offsets(replace(SEED, label="GTV-2"), 5), own)
    assert not np.allclose(_offsets(SEED, 5, series_uid="1.3"), own)


def test_jittered_seeds_keep_what_the_lesion_is():
    [jittered] = jittered_seeds(SEED, "1.2", 1)
    assert replace(jittered, lps_mm=SEED.lps_mm) == SEED
