"""t-SNE against scikit-learn's, and against groups that are known because they were planted."""

import numpy as np
import pytest

from fmcib_module.core.similarity import principal_components
from fmcib_module.core.tsne import joint_affinities, tsne

GROUPS, PER_GROUP = 12, 10


def planted(groups: int = GROUPS, per_group: int = PER_GROUP, *, apart: float = 0.6):
    """(scores, group of each row): groups around centres that point in as many directions, of 200 features."""
    rng = np.random.default_rng(5)
    centres = apart * rng.standard_normal((groups, 200))
    values = np.repeat(centres, per_group, axis=0) + rng.standard_normal((groups * per_group, 200))
    order = rng.permutation(len(values))
    return principal_components(values[order].astype(np.float32), 50)[0], np.arange(len(values))[order] // per_group


def purity(places, groups) -> float:
    """Share of points whose nearest other point is of their own group."""
    distances = np.linalg.norm(places[:, None] - places, axis=2)
    np.fill_diagonal(distances, np.inf)
    return float(np.mean(groups[distances.argmin(axis=1)] == groups))


def test_two_planted_groups_lie_apart():
    scores, groups = planted(2, 20)
    places = tsne(scores)
    assert places.shape == (40, 2)
    centres = np.stack([places[groups == group].mean(axis=0) for group in (0, 1)])
    to_own = np.linalg.norm(places - centres[groups], axis=1)
    assert np.linalg.norm(centres[0] - centres[1]) > 3 * to_own.max()


def test_groups_in_more_directions_than_two_lie_apart_where_two_components_mix_them():
    scores, groups = planted()
    assert purity(scores[:, :2], groups) < 0.7
    assert purity(tsne(scores), groups) > 0.95


def test_without_groups_it_makes_up_none_that_were_planted():
    scores, groups = planted(2, 20, apart=0)
    assert purity(tsne(scores), groups) < 0.8


def test_affinities_are_those_of_scikit_learn():
    from scipy.spatial.distance import pdist, squareform
    from sklearn.manifold._t_sne import _joint_probabilities

    scores, _ = planted()
    theirs = _joint_probabilities(squareform(pdist(scores, "sqeuclidean")).astype(np.float32), 20.0, 0)
    np.testing.assert_allclose(squareform(joint_affinities(scores, 20.0), checks=False), theirs, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("groups", [3, 12])
def test_the_divergence_reached_is_as_low_as_scikit_learns(groups):
    from sklearn.manifold import TSNE

    scores, _ = planted(groups)
    perplexity = min(30, (len(scores) - 1) / 3)
    theirs = TSNE(2, perplexity=perplexity, init="pca", method="exact", random_state=0)
    theirs.fit(scores)
    wanted = joint_affinities(scores, perplexity)
    places = tsne(scores)
    kernel = 1 / (1 + np.sum((places[:, None] - places) ** 2, axis=2))
    np.fill_diagonal(kernel, 0)
    pairs = wanted > 0
    divergence = np.sum(wanted[pairs] * np.log(wanted[pairs] / (kernel / kernel.sum())[pairs]))
    assert divergence < 1.1 * theirs.kl_divergence_


def test_a_rerun_draws_the_same_map():
    scores, _ = planted()
    np.testing.assert_array_equal(tsne(scores), tsne(scores.copy()))


def test_equal_lesions_lie_together_and_lesions_all_alike_in_one_place():
    scores, _ = planted(3)
    places = tsne(np.concatenate([scores, scores[:20]]))
    np.testing.assert_allclose(places[-20:], places[:20], atol=1e-3 * np.ptp(places))
    many = tsne(np.concatenate([np.zeros((60, 4)), np.eye(4)]))  # more equal ones than a neighbourhood holds
    assert np.isfinite(many).all()
    np.testing.assert_array_equal(tsne(np.zeros((40, 3))), np.zeros((40, 2)))
