"""Distance from a reference cohort, against the covariance written out in full and against chi-square."""

import numpy as np
import pytest

from fmcib_module.core.errors import InputError
from fmcib_module.core.reference import MAX_COMPONENTS, fit_reference, reference_distances

CHI_SQUARE_6_995 = 18.548  # any printed table of chi-square: 6 degrees of freedom, upper 0.5 %


def _cohort(n: int = 600, d: int = 12, n_patients: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((d, d)) * np.geomspace(5, 0.5, d)
    values = (rng.standard_normal((n, d)) @ mixing.T + 3.0).astype(np.float32)
    return values, np.array([f"p{k % n_patients}" for k in range(n)])


def test_the_distance_is_mahalanobis_under_the_model_covariance_written_out() -> None:
    values, patients = _cohort()
    reference = fit_reference(values, patients)
    axes, rest = reference.axes, reference.rest_variance
    covariance = axes.T @ np.diag(reference.variances) @ axes + rest * (np.eye(12) - axes.T @ axes)
    inverse = np.linalg.inv(covariance)
    others = np.random.default_rng(5).normal(2.0, 9.0, (20, 12)).astype(np.float32)
    centred = others.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", centred, inverse, centred))
    np.testing.assert_allclose(reference_distances(others, reference), expected, rtol=1e-6)


def test_the_limit_of_a_gaussian_cohort_is_that_of_chi_square() -> None:
    values = np.random.default_rng(3).standard_normal((20_000, 6)).astype(np.float32)
    patients = np.array([f"p{k % 100}" for k in range(20_000)])
    assert fit_reference(values, patients).limit == pytest.approx(np.sqrt(CHI_SQUARE_6_995), rel=0.05)


def test_the_limit_holds_for_patients_that_the_fit_has_not_seen() -> None:
    rng = np.random.default_rng(1)
    shifts = rng.standard_normal((40, 1, 200)) * 3  # each patient's scanner moves all of its lesions
    values = (rng.standard_normal((40, 10, 200)) + shifts).reshape(400, 200).astype(np.float32)
    patients = np.repeat([f"p{k}" for k in range(40)], 10)
    old, new = patients < "p3", patients >= "p3"
    reference = fit_reference(values[old], patients[old])
    assert np.mean(reference_distances(values[old], reference) > reference.limit) < 0.005
    assert np.mean(reference_distances(values[new], reference) > reference.limit) < 0.05


def test_a_lesion_outside_the_cohorts_plane_is_far_although_its_scores_are_small() -> None:
    rng = np.random.default_rng(2)
    plane, noise = rng.standard_normal((500, 2)), rng.standard_normal((500, 50)) * 0.01
    values = np.hstack([plane * 10, np.zeros((500, 48))]) + noise
    reference = fit_reference(values.astype(np.float32), np.array([f"p{k % 20}" for k in range(500)]))
    outside = np.zeros((1, 50), np.float32)
    outside[0, 40] = 1.0
    assert reference_distances(outside, reference)[0] > 5 * reference.limit
    assert len(reference.variances) == 2 <= MAX_COMPONENTS


@pytest.mark.parametrize(("n", "n_patients"), [(49, 10), (100, 4)])
def test_a_cohort_that_is_too_small_is_refused(n: int, n_patients: int) -> None:
    values, patients = _cohort(n=n, n_patients=n_patients)
    with pytest.raises(InputError, match=f"{n} lesions of {n_patients} patients are too few"):
        fit_reference(values, patients)


def test_features_that_do_not_vary_are_refused() -> None:
    with pytest.raises(InputError, match="are equal"):
        fit_reference(np.ones((60, 4), np.float32), np.array([f"p{k % 6}" for k in range(60)]))
