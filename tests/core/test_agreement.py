"""ICC(2,1) on published examples, and against the formula in plain loops."""

import numpy as np
import pytest

from fmcib_module.core.agreement import Agreement

SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)
"""Six targets, four judges: Shrout and Fleiss 1979, doi:10.1037/0033-2909.86.2.420, tables 2 and 4: ICC(2,1) = .29."""

WINES = np.array(
    [[1, 2, 0, 1], [1, 3, 3, 2], [3, 8, 1, 4], [6, 4, 3, 3], [6, 5, 5, 6], [7, 5, 6, 2], [8, 7, 7, 9], [9, 9, 9, 8]],
    float,
)
"""Eight wines, four judges: the example of pingouin.intraclass_corr (data set "icc"), documented as ICC2 = 0.728."""


def _icc(values: np.ndarray) -> np.ndarray:
    """(n, k, d) -> (d,)."""
    agreement = Agreement()
    for lesion in values:
        agreement.add(lesion)
    return agreement.icc()


def _icc_in_loops(table: np.ndarray) -> float:
    """Shrout and Fleiss 1979, the mean squares of table 3 and the formula of case 2, term by term."""
    n, k = table.shape
    grand = sum(sum(row) for row in table) / (n * k)
    between = sum(k * (sum(row) / k - grand) ** 2 for row in table) / (n - 1)
    judges = sum(n * (sum(table[i][j] for i in range(n)) / n - grand) ** 2 for j in range(k)) / (k - 1)
    error = 0.0
    for i in range(n):
        for j in range(k):
            row_mean, column_mean = sum(table[i]) / k, sum(table[m][j] for m in range(n)) / n
            error += (table[i][j] - row_mean - column_mean + grand) ** 2
    error /= (n - 1) * (k - 1)
    return (between - error) / (between + (k - 1) * error + k * (judges - error) / n)


def test_the_example_of_shrout_and_fleiss_has_its_published_value():
    assert _icc(SHROUT_FLEISS[:, :, None])[0] == pytest.approx(0.29, abs=0.005)


def test_the_example_of_pingouin_has_its_documented_value():
    assert _icc(WINES[:, :, None])[0] == pytest.approx(0.728, abs=0.0005)


def test_many_features_at_once_equal_the_formula_in_loops():
    rng = np.random.default_rng(0)
    values = (
        rng.normal(size=(12, 1, 40)) * rng.uniform(0, 2, 40) + rng.normal(size=(12, 5, 40)) + rng.normal(size=(5, 1))
    )
    expected = [_icc_in_loops(values[:, :, d]) for d in range(40)]
    np.testing.assert_allclose(_icc(values), expected, rtol=1e-10)


def test_a_large_mean_costs_no_digits():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(20, 1, 8)) + 0.3 * rng.normal(size=(20, 4, 8))
    np.testing.assert_allclose(_icc(values + 1e6), _icc(values), atol=1e-6)


def test_raters_that_repeat_each_other_agree_fully_and_constant_features_have_no_icc():
    lesions = np.random.default_rng(2).normal(size=(6, 1, 3))
    lesions[..., 2] = 1.5
    icc = _icc(np.repeat(lesions, 4, axis=1))
    np.testing.assert_allclose(icc[:2], 1.0)
    assert np.isnan(icc[2])


def test_an_offset_of_one_rater_lowers_agreement():
    lesions = np.repeat(np.arange(5.0)[:, None, None], 3, axis=1)
    lesions[:, 2] += 10  # consistency, ICC(3,1), would still be 1
    assert _icc(lesions)[0] < 0.2


@pytest.mark.parametrize("shape", [(1, 4, 2), (5, 1, 2)])
def test_one_lesion_or_one_rater_gives_no_icc(shape):
    assert np.isnan(_icc(np.random.default_rng(0).normal(size=shape))).all()
    assert Agreement().icc().size == 0
