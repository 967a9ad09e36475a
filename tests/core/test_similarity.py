"""The map and the nearest lesions against numpy's own decomposition and literal loops."""

import numpy as np
import pytest

from fmcib_module.core.similarity import nearest_by_cosine, principal_components


@pytest.mark.parametrize("shape", [(3, 8), (9, 40), (200, 64), (40, 500), (1500, 60)], ids=str)
def test_scores_and_shares_are_those_of_a_singular_value_decomposition(shape):
    rng = np.random.default_rng(1)
    values = (rng.standard_normal(shape) * np.geomspace(30, 0.1, shape[1]) + 5).astype(np.float32)
    scores, shares = principal_components(values)
    left, singular, _ = np.linalg.svd(values.astype(float) - values.mean(axis=0, dtype=float), full_matrices=False)
    np.testing.assert_allclose(np.abs(scores), np.abs(left[:, :2] * singular[:2]), atol=1e-3 * singular[0])
    np.testing.assert_allclose(shares, singular[:2] ** 2 / np.sum(singular**2), rtol=2e-3)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_lesions_give_scores_of_the_same_shape(n):
    scores, shares = principal_components(np.eye(n, 7, dtype=np.float32))
    assert scores.shape == (n, 2)
    assert np.isfinite(scores).all()
    assert shares.sum() <= 1 + 1e-9


def test_a_rerun_draws_the_same_map():
    values = np.random.default_rng(2).standard_normal((50, 30)).astype(np.float32)
    np.testing.assert_array_equal(principal_components(values)[0], principal_components(values)[0])


def test_neighbours_are_those_of_a_literal_comparison():
    values = np.random.default_rng(3).standard_normal((700, 12)).astype(np.float32)
    places, cosines = nearest_by_cosine(values, 4)
    for row in (0, 511, 512, 699):
        by_hand = [
            (values[row] @ other / (np.linalg.norm(values[row]) * np.linalg.norm(other)), n)
            for n, other in enumerate(values)
            if n != row
        ]
        best = sorted(by_hand, reverse=True)[:4]
        assert list(places[row]) == [n for _, n in best]
        np.testing.assert_allclose(cosines[row], [cosine for cosine, _ in best], rtol=1e-5)


@pytest.mark.parametrize(("n", "k"), [(0, 0), (1, 0), (2, 1), (3, 2)])
def test_there_are_no_more_neighbours_than_other_lesions(n, k):
    places, cosines = nearest_by_cosine(np.eye(n, 5, dtype=np.float32))
    assert places.shape == cosines.shape == (n, k)
    assert all(row not in places[row] for row in range(n))


def test_a_vector_of_zeros_is_like_nothing():
    _, cosines = nearest_by_cosine(np.array([[0, 0], [1, 0], [1, 0.1]], dtype=np.float32), 1)
    assert cosines[0, 0] == 0
    assert cosines[1, 0] > 0.99
