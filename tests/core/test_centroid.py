"""Centroids of masks whose answer is known by geometry."""

import numpy as np
import pytest

from fmcib_module.core.centroid import (
    Block,
    compute_mask_centroid,
    crop,
    crop_slices,
    index_box,
    mask_on_grid,
    sphere_on_grid,
)
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


def test_a_block_is_cut_to_its_voxels_and_keeps_their_places():
    weights = np.zeros((6, 7, 9), dtype=bool)
    weights[1, 4, 6] = weights[2, 2, 3] = True
    block = crop(weights, OBLIQUE)
    assert block is not None
    assert block.weights.shape == (2, 3, 4)
    assert np.argwhere(block.weights).tolist() == [[0, 2, 3], [1, 0, 0]]
    assert block.affine @ [0, 0, 0, 1] == pytest.approx(OBLIQUE @ [3, 2, 1, 1])


def test_an_empty_block_does_not_hide_the_next():
    empty, voxel = np.zeros((1, 1, 1), dtype=bool), np.ones((1, 1, 1), dtype=bool)
    found = compute_mask_centroid([Block(empty, axial()), Block(voxel, axial(origin=(4, 5, 6)))])
    assert found is not None
    assert found.lps_mm == pytest.approx((4, 5, 6))


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


def centres_of(grid):
    k, j, i = np.indices(grid.shape)
    return np.stack([i, j, k], axis=-1) @ grid.matrix[:3, :3].T + grid.matrix[:3, 3]


def on_whole_grid(found, grid):
    """The mask that a first slice and the slices from there on stand for."""
    assert found is not None
    first, part = found
    assert part.dtype == bool
    assert part[0].any()
    assert part[-1].any()
    mask = np.zeros(grid.shape, dtype=bool)
    mask[first : first + len(part)] = part
    return mask


def test_blocks_that_touch_on_a_grid_hold_the_voxels_of_both():
    blocks = [
        Block(np.ones((1, 2, 3), dtype=bool), axial(origin=(5, 12, 8))),
        Block(np.diag([True, False, True])[None], axial(origin=(6, 12, 8))),
    ]
    grid = Grid.from_matrix((15, 19, 12), axial(spacing=(1, 1, 1), origin=(0, 0, 0)))
    x, y, z = np.moveaxis(centres_of(grid), -1, 0)
    slab = (z >= 7) & (z < 9)  # voxels are 2 mm high, half-open
    expected = slab & (x >= 5) & (x <= 7) & (y >= 12) & (y <= 13)
    for place in (6, 8):  # the diagonal's two voxels
        expected |= slab & (x == place) & (y == place + 6)
    assert (on_whole_grid(mask_on_grid(blocks, grid), grid) == expected).all()


def test_a_large_voxel_holds_every_voxel_of_a_fine_grid_up_to_its_edges():
    block = Block(np.ones((1, 1, 1), dtype=bool), axial(spacing=(4, 4, 4), origin=(8, 10, 12)))
    grid = Grid.from_matrix((40, 38, 36), axial(spacing=(0.5, 0.5, 0.5)))
    inside = (centres_of(grid) >= np.array([6, 8, 10])) & (centres_of(grid) < np.array([10, 12, 14]))
    assert (on_whole_grid(mask_on_grid([block], grid), grid) == inside.all(axis=-1)).all()


def test_a_centre_on_the_edge_between_two_voxels_has_one_owner_whichever_they_are():
    grid = Grid.from_matrix((1, 1, 13), axial(spacing=(0.5, 1, 2)))
    for i in range(1, 5):
        weights = np.zeros((1, 1, 6), dtype=bool)
        weights[0, 0, i] = True
        found = on_whole_grid(mask_on_grid([Block(weights, axial())], grid), grid)
        assert np.flatnonzero(found[0, 0]).tolist() == [2 * i - 1, 2 * i]


@pytest.mark.parametrize("index", [(0, 12, 3), (14, 5, 0), (7, 3, 8), (14, 12, 8), (0, 0, 0)])
def test_a_sphere_is_every_voxel_within_the_radius_also_at_the_edges(index):
    grid = Grid.from_matrix((9, 13, 15), OBLIQUE)
    center = (OBLIQUE @ [*index, 1])[:3] + np.array([0.1, -0.15, 0.2])
    expected = np.sqrt(((centres_of(grid) - center) ** 2).sum(axis=-1)) <= 3.3
    found = sphere_on_grid(tuple(center), 3.3, grid)
    assert expected.sum() > 10
    assert (on_whole_grid(found, grid) == expected).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_last_voxel_of_a_grid_can_hold_a_sphere_and_the_next_place_cannot(axis):
    grid = Grid.from_matrix((4, 6, 9), axial(spacing=(10, 10, 10), origin=(-100, 50, 7)))
    last = np.array([8, 5, 3])
    assert sphere_on_grid(tuple(last * 10.0 + (-100, 50, 7)), 1.0, grid) is not None
    last[axis] += 1
    assert sphere_on_grid(tuple(last * 10.0 + (-100, 50, 7)), 1.0, grid) is None


def test_the_box_around_a_body_holds_its_voxels_and_at_most_one_more_on_each_side():
    grid = Grid.from_matrix((30, 20, 10), axial(spacing=(2, 3, 4), origin=(100, -50, 10)))
    corners_ijk = np.array([[2.2, 11.5, 20.3], [6.9, 13.1, 24.8]])
    first, stop = index_box(corners_ijk * (2, 3, 4) + (100, -50, 10), grid)
    assert (first <= np.ceil(corners_ijk[0])).all()
    assert (first >= corners_ijk[0] - 1).all()
    assert (stop > np.floor(corners_ijk[1])).all()
    assert (stop - 1 <= corners_ijk[1] + 1).all()


@pytest.mark.parametrize("beyond", [-1, 1])
def test_the_box_around_a_body_outside_the_grid_is_empty_and_within_it(beyond):
    grid = Grid.from_matrix((30, 20, 10), axial(spacing=(1, 1, 1)))
    first, stop = index_box(np.array([[5.0, 5, 5], [7, 7, 7]]) + beyond * 90, grid)
    assert (first >= stop).all()
    for edge in (first, stop):
        assert (edge >= 0).all()
        assert (edge <= (10, 20, 30)).all()


def test_slices_without_a_voxel_are_cut_off_at_both_ends_only():
    mask = np.zeros((7, 2, 2), dtype=bool)
    mask[[2, 4], 0, 1] = True
    found = crop_slices(mask)
    assert found is not None
    assert found[0] == 2
    assert found[1].any(axis=(1, 2)).tolist() == [True, False, True]
