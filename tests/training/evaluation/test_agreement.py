"""Agreement against Shrout and Fleiss's table, pingouin and its documented example, and SciPy."""

import numpy as np
import pingouin
import pytest
from scipy.stats import linregress, spearmanr

from training.evaluation.agreement import IRR_DEFAULT, Icc, icc, icc_estimates, r_squared, spearman

JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float)
"""Shrout and Fleiss 1979, Table 2: six targets, four judges."""

ANXIETY = np.array(
    [
        [3, 3, 3, 4, 5, 5, 2, 3, 5, 2, 2, 6, 1, 5, 2, 2, 1, 2, 4, 3],
        [3, 6, 4, 6, 2, 4, 2, 4, 3, 3, 2, 3, 3, 3, 2, 2, 1, 3, 3, 4],
        [2, 1, 4, 4, 3, 2, 1, 6, 1, 1, 1, 2, 3, 3, 1, 1, 3, 3, 2, 2],
    ],
    dtype=float,
).T
"""R's irr package, data set "anxiety": 20 subjects, three raters."""

TABLE_4 = dict(zip(Icc, (0.17, 0.29, 0.71, 0.44, 0.62, 0.91), strict=True))


@pytest.mark.parametrize("form", Icc)
def test_the_six_forms_are_those_of_shrout_and_fleiss(form: Icc) -> None:
    assert icc(JUDGES[:, :, None], form)[0] == pytest.approx(TABLE_4[form], abs=0.005)
    assert icc_estimates(JUDGES)[form].value == pytest.approx(TABLE_4[form], abs=0.005)


@pytest.mark.parametrize("form", Icc)
def test_many_features_at_once_are_pingouins_one_by_one(form: Icc) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((12, 1, 3)) + 0.5 * rng.standard_normal((12, 3, 3)) + np.arange(3)[:, None]
    expected = [icc_estimates(values[:, :, d])[form].value for d in range(3)]
    np.testing.assert_allclose(icc(values, form), expected, rtol=1e-10)


def test_intervals_are_those_of_pingouins_documented_example() -> None:
    # pingouin.intraclass_corr's docstring: ICC(1,1) = 0.728, F = 11.680, [0.43, 0.93]; ICC(3,k) = 0.915, [0.75, 0.98]
    wines = pingouin.read_dataset("icc").pivot(index="Wine", columns="Judge", values="Scores").to_numpy(dtype=float)
    rounding = dict(pingouin.options)
    found = icc_estimates(wines)
    single, mean = found[Icc.ONE_WAY], found[Icc.TWO_WAY_CONSISTENCY_MEAN]
    assert (round(single.value, 3), round(single.f, 3), single.df1, single.df2) == (0.728, 11.68, 7, 24)
    assert (round(single.low, 2), round(single.high, 2)) == (0.43, 0.93)
    assert (round(mean.value, 3), round(mean.low, 2), round(mean.high, 2)) == (0.915, 0.75, 0.98)
    assert single.low != round(single.low, 2)
    assert dict(pingouin.options) == rounding


def test_the_example_of_rs_irr_manual() -> None:
    # icc(anxiety, model="twoway", type="agreement") prints: ICC(A,1) = 0.198, F(19,39.7) = 1.83,
    # 95%-Confidence Interval for ICC Population Values: -0.039 < ICC < 0.494
    found = icc_estimates(ANXIETY)[Icc.TWO_WAY_AGREEMENT]
    assert (found.value, found.low, found.high) == pytest.approx((0.198, -0.039, 0.494), abs=5e-4)
    assert (found.f, found.df1) == (pytest.approx(1.83, abs=5e-3), 19)


def test_the_default_is_what_rs_irr_gives_without_arguments() -> None:
    # irr::icc: "icc(ratings, model = c("oneway", "twoway"), type = ..., unit = c("single", "average"))": first of each
    assert IRR_DEFAULT is Icc.ONE_WAY


def test_icc_is_1_without_error_and_unknown_for_a_constant() -> None:
    rows = np.arange(5.0)
    values = np.stack([np.stack([rows, rows], axis=1), np.ones((5, 2))], axis=2)
    for form in Icc:
        assert icc(values, form)[0] == 1
        assert np.isnan(icc(values, form)[1])


def test_spearman_and_r_squared_of_flattened_features_are_scipys() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((7, 5)).round(1)  # with ties
    b = a + rng.standard_normal((7, 5))
    assert spearman(a, b) == pytest.approx(spearmanr(a.ravel(), b.ravel()).statistic, abs=1e-12)
    assert r_squared(a, b) == pytest.approx(linregress(a.ravel(), b.ravel()).rvalue ** 2, abs=1e-12)
    assert np.isnan(spearman(a, np.ones((7, 5))))
    assert np.isnan(r_squared(a, np.ones((7, 5))))
