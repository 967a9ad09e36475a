"""The 1 mm grid that patches are cut from, worked out by hand from the published rules."""

import numpy as np
import pytest

from fmcib_module.core.conventions import Mode
from fmcib_module.core.patch_grid import RAS_TO_LPS, patch_grid
from fmcib_module.core.volume import Grid


def scan(columns, origin, shape_kji) -> Grid:
    """A scan whose i, j and k steps are three LPS vectors."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.transpose(columns)
    matrix[:3, 3] = origin
    return Grid.from_matrix(shape_kji, matrix)


def turned(degrees, spacing, axis=0) -> np.ndarray:
    """Steps of a scan that is turned about one axis."""
    a, b = (n for n in range(3) if n != axis)
    matrix, angle = np.eye(3), np.deg2rad(degrees)
    matrix[[a, a, b, b], [a, b, a, b]] = [np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)]
    return (matrix * spacing).T


AXIAL = scan([(0.77, 0, 0), (0, 0.9, 0), (0, 0, 2.5)], (-12, 7, 40), (11, 21, 31))
SAGITTAL = scan([(0, 0.8, 0), (0, 0, -0.9), (3, 0, 0)], (5, -6, 70), (9, 40, 30))
FLIPPED = scan([(-0.8, 0, 0), (0, -0.8, 0), (0, 0, -1.5)], (20, 30, 9), (12, 31, 26))
TILTED = scan(turned(20, (0.8, 0.8, 2)), (1, 2, 3), (20, 30, 40))
TWICE_TILTED = scan(turned(25, (1.2, 0.8, 2)) @ turned(-35, (1, 1, 1), axis=2), (-7, 2, 3), (21, 30, 41))


def test_an_axial_scans_grid_starts_at_its_end_in_ras_and_is_counted_in_lps():
    """30 steps of 0.77 mm are 23.1 mm: 24 voxels from RAS x = 12 - 23.1 on, so the last in RAS lies at x = 11.9."""
    target = patch_grid(AXIAL, Mode.PUBLISHED_MONAI16)
    assert target.size == (24, 19, 26)
    assert target.resampled
    expected = [[-1, 0, 0, 11.9], [0, -1, 0, -7], [0, 0, 1, 40], [0, 0, 0, 1]]
    np.testing.assert_allclose(target.to_ras_mm, expected, atol=1e-12)
    to_source = [[1 / 0.77, 0, 0, 0.1 / 0.77], [0, 1 / 0.9, 0, 0], [0, 0, 1 / 2.5, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(target.to_source, to_source, atol=1e-12)


def test_a_sagittal_scan_is_ordered_by_the_patients_axes():
    """i runs along y (29 x 0.8 = 23.2 mm), j down z (39 x 0.9 = 35.1 mm), k along x (8 x 3 = 24 mm)."""
    target = patch_grid(SAGITTAL, Mode.PUBLISHED_MONAI16)
    assert target.size == (25, 24, 36)
    # RAS: x from -29 to -5, y from 6 - 23.2 on for 23 mm, z from 70 - 35.1 on for 35 mm
    expected = [[-1, 0, 0, -5], [0, -1, 0, 5.8], [0, 0, 1, 34.9], [0, 0, 0, 1]]
    np.testing.assert_allclose(target.to_ras_mm, expected, atol=1e-12)
    to_source = [[0, 1 / 0.8, 0, 0.2 / 0.8], [0, 0, -1 / 0.9, 39], [1 / 3, 0, 0, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(target.to_source, to_source, atol=1e-12)


@pytest.mark.parametrize("mode", [Mode.PUBLISHED, Mode.CENTRED])
@pytest.mark.parametrize("grid", [AXIAL, SAGITTAL, FLIPPED], ids=["axial", "sagittal", "flipped"])
def test_older_monai_samples_between_the_voxel_edges_of_one_grid_and_the_centres_of_the_other(grid, mode):
    """k' = k m / (m - 1) - 1/2 and s = (X k' + 1/2) (n - 1) / n, k counted in RAS, as published.

    X from geometry: each scan axis follows one world axis.
    """
    target, source = patch_grid(grid, mode), RAS_TO_LPS @ grid.matrix
    for lps in ([0, 0, 0], [5, 9, 13], np.array(target.size) - 1):
        ras = [target.size[0] - 1 - lps[0], target.size[1] - 1 - lps[1], lps[2]]
        for axis in range(3):
            world = int(np.argmax(np.abs(source[:3, axis])))
            m, n = target.size[world], grid.shape[2 - axis]
            first_mm = min(source[world, 3], source[world, 3] + source[world, axis] * (n - 1))
            k = ras[world] * m / (m - 1) - 0.5
            s = ((first_mm + k - source[world, 3]) / source[world, axis] + 0.5) * (n - 1) / n
            assert (target.to_source @ [*lps, 1])[axis] == pytest.approx(s, abs=1e-9)


@pytest.mark.parametrize("grid", [AXIAL, SAGITTAL, FLIPPED, TILTED, TWICE_TILTED])
def test_the_newer_sampling_takes_each_voxel_from_where_it_lies(grid):
    target = patch_grid(grid, Mode.PUBLISHED_MONAI16)
    np.testing.assert_allclose(grid.matrix @ target.to_source, RAS_TO_LPS @ target.to_ras_mm, atol=1e-9)
    np.testing.assert_allclose(target.to_ras_mm[:3, :3], np.diag([-1, -1, 1]), atol=1e-9)
    older = patch_grid(grid, Mode.PUBLISHED)
    assert older.size == target.size
    np.testing.assert_array_equal(older.to_ras_mm, target.to_ras_mm)


@pytest.mark.parametrize("grid", [TILTED, TWICE_TILTED], ids=["once", "twice"])
def test_an_oblique_scans_grid_is_as_large_as_its_corners_and_centred_by_voxel_counts(grid):
    """Its centre, counted in voxels (n / 2, not (n - 1) / 2), is the scan's, counted likewise."""
    target = patch_grid(grid, Mode.PUBLISHED_MONAI16)
    k, j, i = (np.array([0, n - 1]) for n in grid.shape)
    corners = np.stack([axis.ravel() for axis in np.meshgrid(i, j, k)] + [np.ones(8)])
    extent_mm = np.ptp((grid.matrix @ corners)[:3], axis=1)
    assert target.size == tuple(np.round(extent_mm + 1))
    middle = grid.matrix @ [*(n / 2 for n in grid.shape[::-1]), 1.0]
    # half the voxels on from RAS index 0, which is the LPS-ordered grid's last x and y
    x, y, z = (n / 2 for n in target.size)
    found = RAS_TO_LPS @ target.to_ras_mm @ [target.size[0] - 1 - x, target.size[1] - 1 - y, z, 1]
    np.testing.assert_allclose(found, middle, atol=1e-9)


def test_noise_of_a_direction_moves_the_grid_as_it_does_in_the_published_pipeline():
    """No corner is the minimum on all axes within 1e-8 mm, so voxel counts centre the grid: by 1 mm at 3 mm slices."""
    noisy = scan([(0.8, 0, 1e-7), (0, 0.8, 0), (-1e-7, 0, 3)], (0, 0, 0), (20, 30, 40))
    exact = scan([(0.8, 0, 0), (0, 0.8, 0), (0, 0, 3)], (0, 0, 0), (20, 30, 40))
    z = patch_grid(noisy, Mode.PUBLISHED).to_ras_mm[2, 3] - patch_grid(exact, Mode.PUBLISHED).to_ras_mm[2, 3]
    assert z == pytest.approx((20 * 3 - 58) / 2, abs=1e-4)


@pytest.mark.parametrize("mode", list(Mode))
def test_a_scan_on_the_grid_is_taken_as_it_is(mode):
    ras = scan([(-1, 0, 0), (0, -1, 0), (0, 0, 1)], (10, 20, 30), (7, 8, 9))
    target = patch_grid(ras, mode)
    assert not target.resampled
    assert target.size == (9, 8, 7)
    np.testing.assert_array_equal(target.to_source, [[-1, 0, 0, 8], [0, -1, 0, 7], [0, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(
        target.to_ras_mm, ras_affine := [[-1, 0, 0, -2], [0, -1, 0, -13], [0, 0, 1, 30], [0, 0, 0, 1]]
    )
    assert patch_grid(scan([(1, 0, 0), (0, 1, 0), (0, 0, 1)], (2, 13, 30), (7, 8, 9)), mode).resampled
    np.testing.assert_array_equal(
        patch_grid(scan([(1, 0, 0), (0, 1, 0), (0, 0, 1)], (2, 13, 30), (7, 8, 9)), mode).to_ras_mm, ras_affine
    )


@pytest.mark.parametrize(("spacing", "kept"), [(1.0009, True), (0.9991, True), (1.0011, False), (0.9989, False)])
def test_an_axis_within_a_thousandth_of_a_millimetre_keeps_its_spacing(spacing, kept):
    target = patch_grid(scan([(2, 0, 0), (0, spacing, 0), (0, 0, 2)], (0, 0, 0), (5, 6, 7)), Mode.PUBLISHED_MONAI16)
    assert target.to_ras_mm[1, 1] == pytest.approx(-spacing if kept else -1, abs=1e-12)
    assert target.resampled


def test_one_slice_gives_one_layer_sampled_where_the_slice_is():
    flat = scan([(0.8, 0, 0), (0, 0.8, 0), (0, 0, 5)], (0, 0, 12), (1, 11, 21))
    target = patch_grid(flat, Mode.PUBLISHED)
    assert target.size == (17, 9, 1)
    # n is 1: (n - 1) / n is 0, so every sample lies on the slice
    np.testing.assert_allclose(target.to_source[2], [0, 0, 0, 0], atol=1e-12)
