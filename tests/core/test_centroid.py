"""Centroids of masks whose answer is known by geometry."""

import numpy as np
import pytest

from fmcib_module.core.centroid import Block, compute_mask_centroid, crop, mask_on_grid, sphere_on_grid
from fmcib_module.core.volume import Grid

OBLIQUE = np.eye(4)  # orthonormal directions times spacing 0.5, 0.75, 2
OBLIQUE[:3, :3] = np.array([[0.8, -0.6, 0], [0.48, 0.64, -0.6], [0.36, 0.48, 0.8]]) * (0.5, 0.75, 2)
OBLIQUE[:3, 3] = -20, 5, 9


def axial(spacing=(1.0, 1.0, 2.0), origin=(0.0, 0.0, 0.0)):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


def test_a_box_of_voxels_has_its_centre_edges_and_volume():
    weights = np.zeros((6, 7, 8), dtype=bool)
    weights[1:3, 2:6, 3:4] = True
    found = compute_mask_centroid([Block(weights, axial(origin=(10, 20, 30)))])
    assert found is not None
    assert found.lps_mm == pytest.approx((13, 23.5, 33))
    assert found.extent_mm == pytest.approx((1, 4, 4))
    assert found.volume_mm3 == pytest.approx(8 * 2)
    assert found.is_inside


def test_an_oblique_voxel_is_where_its_affine_says():
    weights = np.zeros((3, 4, 5), dtype=bool)
    weights[2, 1, 3] = True
    found = compute_mask_centroid([Block(weights, OBLIQUE)])
    assert found is not None
    assert found.lps_mm == pytest.approx(OBLIQUE[:3] @ [3, 1, 2, 1])
    assert found.volume_mm3 == pytest.approx(0.5 * 0.75 * 2)
    assert found.extent_mm == pytest.approx((0.4 + 0.45, 0.24 + 0.48 + 1.2, 0.18 + 0.36 + 1.6))


def test_fractions_weigh_the_centroid_and_the_volume_but_not_the_extent():
    weights = np.zeros((1, 1, 5), dtype=np.float32)
    weights[0, 0, [1, 4]] = 0.25, 0.75
    found = compute_mask_centroid([Block(weights, axial())])
    assert found is not None
    assert found.lps_mm[0] == pytest.approx(0.25 * 1 + 0.75 * 4)
    assert found.volume_mm3 == pytest.approx(2)
    assert found.extent_mm[0] == pytest.approx(4)
    assert not found.is_inside


def test_frames_in_blocks_of_their_own_equal_one_mask():
    weights = np.random.default_rng(5).random((6, 9, 8)) > 0.7
    whole = compute_mask_centroid([Block(weights, OBLIQUE)])
    frames = []
    for k in reversed(range(6)):
        affine = OBLIQUE.copy()
        affine[:3, 3] += k * OBLIQUE[:3, 2]
        frames += [crop(weights[k : k + 1], affine)]
    parts = compute_mask_centroid([block for block in frames if block is not None])
    assert whole is not None
    assert parts is not None
    assert parts.lps_mm == pytest.approx(whole.lps_mm)
    assert parts.extent_mm == pytest.approx(whole.extent_mm)
    assert parts.volume_mm3 == pytest.approx(whole.volume_mm3)


def test_an_empty_mask_has_no_centroid():
    empty = np.zeros((2, 3, 4), dtype=bool)
    assert crop(empty, axial()) is None
    assert compute_mask_centroid([Block(empty, axial())]) is None
    assert compute_mask_centroid([]) is None


def test_a_mask_on_its_own_grid_stays_as_it_is():
    weights = np.random.default_rng(6).random((6, 9, 8)) > 0.8
    weights[0] = weights[5] = False
    block = crop(weights, OBLIQUE)
    assert block is not None
    found = mask_on_grid([block], Grid.from_matrix((6, 9, 8), OBLIQUE))
    assert found is not None
    assert found[0] == 1
    assert (found[1] == weights[1:5]).all()


def test_a_mask_is_resampled_to_the_nearest_voxel_of_a_finer_grid():
    weights = np.zeros((3, 5, 5), dtype=bool)
    weights[1, 2, 3] = True
    fine = Grid.from_matrix((12, 10, 10), axial(spacing=(0.5, 0.5, 0.5), origin=(0.25, 0.25, 0.25)))
    found = mask_on_grid([Block(weights, axial())], fine)
    assert found is not None
    assert found[1].sum() == 2 * 2 * 4
    assert found[0] == 2  # 1.25 mm is the first centre between the voxel's edges at 1 and 3 mm


def test_a_sphere_holds_the_voxels_within_its_radius():
    grid = Grid.from_matrix((9, 9, 9), axial(spacing=(1, 1, 1)))
    found = sphere_on_grid((4.0, 4.0, 4.0), 2.0, grid)
    assert found is not None
    first, mask = found
    assert first == 2
    assert mask.shape == (5, 9, 9)
    assert mask.sum() == 33  # integer points with x2 + y2 + z2 <= 4


def test_a_sphere_smaller_than_a_voxel_is_the_nearest_voxel():
    grid = Grid.from_matrix((4, 9, 9), axial(spacing=(8, 8, 10)))
    found = sphere_on_grid((19.0, 12.1, 14.0), 2.0, grid)
    assert found is not None
    assert (found[0], np.argwhere(found[1]).tolist()) == (1, [[0, 2, 2]])


def test_a_point_outside_the_grid_has_no_sphere():
    assert sphere_on_grid((-3.0, 0.0, 0.0), 2.0, Grid.from_matrix((4, 4, 4), axial())) is None
