"""Samples on planes anywhere in a scan, against a field that is linear in position and against plain geometry."""

import numpy as np
import pytest

from fmcib_module.core.conventions import AIR_HU
from fmcib_module.core.plane_sampling import PartialScan, trilinear
from fmcib_module.core.volume import Grid, Volume

AFFINE = np.array([[0.8, 0, 0, -20], [0, -1.1, 0, 30], [0, 0, 2.5, 5], [0, 0, 0, 1]])
SHAPE = (9, 30, 40)
GRADIENT = np.array([3.0, -7.0, 11.0])
S = np.sqrt(0.5)

# first sample (i, j, k) and steps of a row and of a column, in voxels of (i, j, k)
PLANES = {
    "axial": ((3.2, 4.1, 3.7), (0, 0.6, 0), (0.9, 0, 0)),
    "axial, columns first": ((3.2, 4.1, 3.7), (0.9, 0, 0), (0, 0.6, 0)),
    "coronal": ((3.2, 11.4, 1.1), (0, 0, 0.25), (0.9, 0, 0)),
    "coronal, upwards": ((3.2, 11.4, 7.3), (0, 0, -0.25), (0.9, 0, 0)),
    "sagittal": ((17.6, 4.1, 1.1), (0, 0, 0.25), (0, 0.6, 0)),
    "sagittal, columns first": ((17.6, 4.1, 1.1), (0, 0.6, 0), (0, 0, 0.25)),
    "turned in plane": ((15.0, 5.0, 3.7), (-0.5 * S, 0.5 * S, 0), (0.5 * S, 0.5 * S, 0)),
    "oblique": ((3.0, 4.0, 1.0), (0.1, 0.5, 0.1), (0.6, -0.05, 0.15)),
}
EACH_PLANE = pytest.mark.parametrize("plane", PLANES.values(), ids=PLANES.keys())


def positions(plane, size):
    """Continuous (i, j, k) of every sample, (size, size, 3)."""
    start, per_row, per_column = map(np.array, plane)
    rows, columns = np.mgrid[:size, :size]
    return start + rows[..., None] * per_row + columns[..., None] * per_column


def in_mm(plane):
    start, per_row, per_column = map(np.array, plane)
    return AFFINE[:3, :3] @ start + AFFINE[:3, 3], np.stack([AFFINE[:3, :3] @ step for step in (per_row, per_column)])


def linear_scan(reads=None, shape=SHAPE) -> Volume:
    k, j, i = np.indices(shape)
    lps = np.stack([i, j, k], axis=-1) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    hu = (lps @ GRADIENT).astype(np.float32)

    def read_slab(first, stop, rows, columns):
        assert 0 <= first < stop <= shape[0]
        if reads is not None:
            reads.append((first, stop))
        return hu[first:stop, rows, columns]

    return Volume(Grid.from_matrix(shape, AFFINE), "1.2", read_slab)


def linear_hu(ijk):
    return (ijk @ AFFINE[:3, :3].T + AFFINE[:3, 3]) @ GRADIENT


@EACH_PLANE
def test_a_linear_field_is_sampled_exactly(plane):
    found = PartialScan(linear_scan(), 0, 9, None).sample(*in_mm(plane), 20)
    np.testing.assert_allclose(found.hu, linear_hu(positions(plane, 20)), atol=1e-3)
    assert found.hu.dtype == np.float32
    assert found.hu.shape == (20, 20)
    assert not (found.outside | found.unread | found.roi).any()
    assert found.outside.shape == found.unread.shape == found.roi.shape == (20, 20)


@EACH_PLANE
def test_half_a_voxel_beyond_the_last_centres_the_scan_ends_and_air_begins(plane):
    start = np.array(plane[0]) - np.array([6.1, 7.2, 3.15]) * (np.array(plane[1]) + plane[2] != 0)
    moved = (start, *(np.array(step) * 2.5 for step in plane[1:]))
    ijk = positions(moved, 24)
    beyond = np.maximum(-0.5 - ijk, ijk - (np.array(SHAPE[::-1]) - 0.5)).max(axis=-1)
    found = PartialScan(linear_scan(), 0, 9, None).sample(*in_mm(moved), 24)
    assert 0.05 < (beyond > 0).mean() < 1
    sure = np.abs(beyond) > 1e-6
    assert (found.outside == (beyond > 0))[sure].all()
    assert (found.hu[found.outside] == AIR_HU).all()
    nearest = np.clip(ijk, 0, np.array(SHAPE[::-1]) - 1)  # in the outer half of a border voxel: its value
    np.testing.assert_allclose(found.hu[~found.outside], linear_hu(nearest)[~found.outside], atol=1e-3)


@EACH_PLANE
def test_slices_that_may_not_be_read_are_air_and_said_so(plane):
    reads = []
    found = PartialScan(linear_scan(reads), 3, 6, None).sample(*in_mm(plane), 20)
    ijk = positions(plane, 20)
    k = ijk[..., 2]
    unread = (k < 2.5) | (k > 5.5)
    assert (found.unread == unread).all()
    assert (found.hu[unread] == AIR_HU).all()
    ijk[..., 2] = np.clip(k, 3, 5)
    np.testing.assert_allclose(found.hu[~unread], linear_hu(ijk)[~unread], atol=1e-3)
    assert not found.outside.any()
    assert all(first >= 3 and stop <= 6 for first, stop in reads)


def test_where_no_slice_may_be_read_all_is_air():
    reads = []
    found = PartialScan(linear_scan(reads), 4, 4, None).sample(*in_mm(PLANES["coronal"]), 20)
    assert (found.hu == AIR_HU).all()
    assert found.hu.dtype == np.float32
    assert reads == []


def test_what_is_outside_is_not_also_unread():
    plane = ((3.2, 11.4, -4.0), (0, 0, 0.5), (0.9, 0, 0))
    found = PartialScan(linear_scan(), 3, 6, None).sample(*in_mm(plane), 20)
    k = positions(plane, 20)[..., 2]
    assert (found.outside == (k < -0.5)).all()
    assert (found.unread == ((k >= -0.5) & ((k < 2.5) | (k > 5.5)))).all()


@EACH_PLANE
def test_an_outline_runs_half_way_between_voxels_of_the_roi_and_others(plane):
    """A box of voxels 5..24 x 6..15 x 2..5: its outline is where the interpolated mask is one half."""
    mask = np.zeros((4, 30, 40), dtype=bool)
    mask[:, 6:16, 5:25] = True
    found = PartialScan(linear_scan(), 0, 9, (2, mask)).sample(*in_mm(plane), 20)
    ijk = positions(plane, 20)
    depth = np.minimum(ijk - (4.5, 5.5, 1.5), (24.5, 15.5, 5.5) - ijk)
    inside = depth.min(axis=-1)
    shares = np.clip(depth + 0.5, 0, 1)[..., :2].prod(axis=-1)  # of the four voxels in plane; slices end sharply
    sure = np.abs(shares - 0.5) > 1e-6
    assert (found.roi == ((shares >= 0.5) & (depth[..., 2] >= 0)))[sure].all()
    assert found.roi[inside > 0.5].all()
    assert not found.roi[inside < 0].any()
    assert found.roi.dtype == bool


def test_a_single_slice_is_sampled_as_it_is():
    found = PartialScan(linear_scan(shape=(1, 30, 40)), 0, 1, None)
    flat = ((3.2, 4.1, 0.3), (0, 0.6, 0), (0.9, 0, 0))
    expected = positions(flat, 20)
    expected[..., 2] = 0
    np.testing.assert_allclose(found.sample(*in_mm(flat), 20).hu, linear_hu(expected), atol=1e-3)
    steep = ((3.2, 4.1, -0.3), (0, 0.6, 0.01), (0.9, 0, 0.01))
    expected = positions(steep, 20)
    expected[..., 2] = 0
    np.testing.assert_allclose(found.sample(*in_mm(steep), 20).hu, linear_hu(expected), atol=1e-3)


def test_only_the_box_under_the_samples_is_read():
    voxels = np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)
    boxes = []

    def read(*box):
        boxes.append(box)
        return voxels[box]

    last = trilinear(read, SHAPE, [np.full((1, 1), 7.75), np.full((1, 1), 28.5), np.full((1, 1), 39.0)], (1, 1))
    expected = voxels[7:9, 28:30, 39].mean(axis=1) @ [0.25, 0.75]  # between the last two slices and rows
    assert last[0, 0] == pytest.approx(expected, abs=1e-6)
    boxes.clear()
    axes = [np.full((1, 1), 3.25), np.linspace(4, 9.5, 12)[:, None], np.linspace(20.5, 26, 12)[None, :]]
    found = trilinear(read, SHAPE, axes, (12, 12))
    assert boxes == [(slice(3, 5), slice(4, 11), slice(20, 28))]
    k, j, i = (np.broadcast_to(axis, (12, 12)) for axis in axes)
    expected = np.zeros((12, 12))
    for taps in np.ndindex(2, 2, 2):
        place = [np.floor(axis).astype(int) + tap for axis, tap in zip((k, j, i), taps, strict=True)]
        share = [1 - np.abs(axis - low) for axis, low in zip((k, j, i), place, strict=True)]
        expected += share[0] * share[1] * share[2] * voxels[tuple(place)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
