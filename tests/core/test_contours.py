"""Centroids of contours whose answer is known by geometry."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmcib_module.core.contours import compute_centroid, fit_normal, rasterise, stack_contours
from fmcib_module.core.volume import Grid

RNG = np.random.default_rng(11)


def rectangle(x0, y0, x1, y1, z=0.0):
    return np.array([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]], dtype=float)


def box(z_positions, size=10.0):
    return [rectangle(0, 0, size, size, z) for z in z_positions]


def centroid_of(contours, **options):
    stacks = stack_contours(contours, **options)
    assert len(stacks) == 1
    found = compute_centroid(stacks[0])
    assert found is not None
    return found


def rotation(yaw, pitch, roll):
    (cz, sz), (cy, sy), (cx, sx) = ((np.cos(angle), np.sin(angle)) for angle in (yaw, pitch, roll))
    return (
        np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    )


def test_a_box_has_its_centre_volume_and_extent():
    contours = box([0, 3, 6])
    stack = stack_contours(contours)[0]
    found = compute_centroid(stack)
    assert found is not None
    assert found.lps_mm == pytest.approx((5, 5, 3))
    assert found.volume_mm3 == pytest.approx(100 * 3 * 3)
    assert stack.extent_mm == pytest.approx((10, 10, 6))
    assert found.is_inside


def test_the_order_and_the_direction_of_contours_do_not_matter():
    contours = [rectangle(0, 0, 4, 6, 0), rectangle(0, 0, 4, 8, 2), rectangle(1, 0, 9, 8, 4)]
    turned = [contour[::-1] for contour in reversed(contours)]
    assert centroid_of(turned).lps_mm == pytest.approx(centroid_of(contours).lps_mm)


def test_slices_are_weighted_by_their_areas():
    found = centroid_of([rectangle(0, 0, 2, 2, 0), rectangle(0, 0, 4, 4, 3)])
    assert found.lps_mm[2] == pytest.approx(16 * 3 / 20)


def test_a_repeated_closing_point_changes_nothing():
    closed = [np.vstack([contour, contour[:1]]) for contour in box([0, 3])]
    assert centroid_of(closed).lps_mm == pytest.approx((5, 5, 1.5))


def test_a_contour_given_twice_counts_once_unless_it_is_xor():
    contours = [*box([0, 3]), np.roll(box([3])[0][::-1], 2, axis=0)]
    assert centroid_of(contours).lps_mm == pytest.approx((5, 5, 1.5))
    assert centroid_of(contours, keep_duplicates=True).lps_mm == pytest.approx((5, 5, 0))


def test_planes_missing_in_between_stay_empty_and_their_neighbours_do_not_grow():
    found = centroid_of(box([0, 3, 6, 15]))
    assert found.lps_mm[2] == pytest.approx((0 + 3 + 6 + 15) / 4)
    assert found.volume_mm3 == pytest.approx(4 * 3 * 100)


def test_planes_drawn_closer_together_do_not_count_twice():
    found = centroid_of(box([0, 2, 4, 5, 6, 8, 10, 12]))
    weights = np.array([2, 2, 1.5, 1, 1.5, 2, 2, 2])
    assert found.volume_mm3 == pytest.approx(100 * weights.sum())


def test_one_slice_has_a_centroid_and_the_volume_of_a_slice_of_the_scan():
    found = centroid_of(box([7]), slice_spacing_mm=2.5)
    assert found.lps_mm == pytest.approx((5, 5, 7))
    assert found.volume_mm3 == pytest.approx(250)
    assert centroid_of(box([7])).lps_mm == pytest.approx((5, 5, 7))


def test_positions_that_differ_by_rounding_are_one_plane():
    stack = stack_contours([rectangle(0, 0, 4, 4, 0), rectangle(6, 0, 8, 4, 0.004), rectangle(0, 0, 4, 4, 3)])[0]
    assert [len(plane.rings) for plane in stack.planes] == [2, 1]


def test_a_banana_does_not_hold_its_centroid():
    ring = [rectangle(0, 0, 10, 10, z) for z in (0, 3)] + [rectangle(2, 2, 8, 8, z) for z in (0, 3)]
    found = centroid_of(ring)
    assert found.lps_mm == pytest.approx((5, 5, 1.5))
    assert not found.is_inside


def test_a_centroid_in_the_gap_between_two_islands_is_outside():
    assert not centroid_of(box([0, 3, 30, 33])).is_inside


@pytest.mark.parametrize("axis", [0, 1], ids=["sagittal", "coronal"])
def test_contours_in_other_planes_have_the_same_centroid(axis):
    order = [2, 0, 1] if axis == 0 else [0, 2, 1]
    contours = [contour[:, order] for contour in [rectangle(0, 0, 4, 6, 0), rectangle(0, 0, 4, 6, 2)]]
    assert centroid_of(contours).lps_mm == pytest.approx(np.array([2, 3, 1])[order])


def test_contours_in_two_directions_are_two_stacks_the_larger_first():
    axial, coronal = box([0, 2, 4, 6, 8]), [contour[:, [0, 2, 1]] for contour in box([5])]
    stacks = stack_contours([*coronal, *axial], slice_spacing_mm=2)
    assert [len(stack.planes) for stack in stacks] == [5, 1]


def test_contours_that_enclose_nothing_are_left_out():
    line = np.array([[0, 0, 0], [5, 5, 0], [9, 9, 0]], dtype=float)
    assert stack_contours([line, line[:2], line[:1], np.empty((0, 3))]) == ()
    assert fit_normal(line) is None
    assert centroid_of([*box([0, 3]), line]).lps_mm == pytest.approx((5, 5, 1.5))


def test_contours_that_cancel_out_have_no_centroid():
    stack = stack_contours([*box([0]), *box([0])], keep_duplicates=True)[0]
    assert compute_centroid(stack) is None


@settings(max_examples=60, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    shift=st.tuples(*[st.floats(-800, 800)] * 3),
    seed=st.integers(0, 2**16),
)
def test_moving_and_turning_the_contours_moves_and_turns_the_centroid(angles, shift, seed):
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 14))
    contours = []
    for z in np.arange(4) * 2.5:
        radius = rng.uniform(6, 20, 14)
        outer = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(14, z)], axis=1)
        contours += [outer, outer * [0.3, 0.3, 1]]
    before = centroid_of(contours)
    after = centroid_of([contour @ rotation(*angles).T + shift for contour in contours])
    assert after.lps_mm == pytest.approx(rotation(*angles) @ before.lps_mm + shift, abs=1e-6)
    assert after.volume_mm3 == pytest.approx(before.volume_mm3, rel=1e-6)


def grid(shape=(8, 20, 20), spacing=(1.0, 1.0, 3.0), origin=(-3.0, -3.0, -6.0)):
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = origin
    return Grid.from_matrix(shape, matrix)


def lps_of(grid, first, mask):
    k, j, i = np.nonzero(mask)
    return np.stack([i, j, k + first], axis=1) @ grid.matrix[:3, :3].T + grid.matrix[:3, 3]


def test_a_box_fills_the_voxels_on_and_inside_its_contours():
    filled = rasterise(stack_contours(box([0, 3, 6]))[0], grid())
    assert filled is not None
    first, mask = filled
    assert first == 2
    assert mask.shape == (3, 20, 20)
    points = lps_of(grid(), first, mask)
    assert points.min(axis=0) == pytest.approx((0, 0, 0))
    assert points.max(axis=0) == pytest.approx((10, 10, 6))
    assert mask.sum() == 11 * 11 * 3


def test_planes_half_way_between_slices_fill_as_many_slices_as_there_are_planes():
    filled = rasterise(stack_contours(box([1.5, 4.5, 7.5]))[0], grid())
    assert filled is not None
    assert len(filled[1]) == 3


def test_thick_contours_fill_every_thin_slice_under_them():
    thin = grid(shape=(24, 20, 20), spacing=(1.0, 1.0, 1.0))
    filled = rasterise(stack_contours(box([0, 3, 6]))[0], thin)
    assert filled is not None
    assert filled[1].any(axis=(1, 2)).sum() == 9


def test_coronal_contours_fill_axial_slices():
    coronal = [contour[:, [0, 2, 1]] for contour in box(np.arange(0.2, 8, 0.5), size=9.3)]
    fine = grid(shape=(30, 20, 20), spacing=(1.0, 1.0, 1.0))
    filled = rasterise(stack_contours(coronal)[0], fine)
    assert filled is not None
    points = lps_of(fine, *filled)
    assert points.mean(axis=0) == pytest.approx((4.65, 3.95, 4.65), abs=0.5)
    assert len(points) == pytest.approx(9.3 * 9.3 * 8, rel=0.2)


def test_contours_outside_the_grid_fill_nothing():
    assert rasterise(stack_contours(box([300, 303]))[0], grid()) is None
