"""How contours become planes and slabs, and which voxels of any grid lie in them: against plain geometry."""

import numpy as np
import pytest

from fmcib_module.core.contours import compute_centroid, fit_normal, rasterise, stack_contours
from fmcib_module.core.volume import Grid
from tests.core.test_contours import box, centroid_of, rectangle, rotation

TURNS = [(0.0, 0.0, 0.0), (0.4, 0.0, 0.0), (0.3, 0.5, -0.2), (-1.0, 1.2, 0.7), (2.0, -0.4, 2.5)]


def turned(contours, angles, shift=(0.0, 0.0, 0.0)):
    return [contour @ rotation(*angles).T + shift for contour in contours]


@pytest.mark.parametrize("angles", TURNS)
def test_a_stack_has_its_own_right_handed_axes_in_which_its_rings_lie_where_the_contours_do(angles):
    contours = turned([rectangle(0, 0, 9, 4, z) for z in (0, 2, 4)], angles, (20, -30, 50))
    (stack,) = stack_contours(contours)
    np.testing.assert_allclose(stack.axes @ stack.axes.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(stack.axes) == pytest.approx(1)
    assert stack.axes[2][np.abs(stack.axes[2]).argmax()] > 0
    found = [
        stack.origin_mm + ring @ stack.axes[:2] + plane.offset_mm * stack.axes[2]
        for plane in stack.planes
        for ring in plane.rings
    ]
    for contour in contours:
        assert min(np.abs(contour - ring).max() for ring in found if len(ring) == len(contour)) < 1e-6
    assert [plane.offset_mm for plane in stack.planes] == sorted(plane.offset_mm for plane in stack.planes)
    points = np.concatenate(contours)
    np.testing.assert_allclose(stack.lower_mm, points.min(axis=0))
    np.testing.assert_allclose(stack.upper_mm, points.max(axis=0))
    np.testing.assert_allclose(stack.extent_mm, np.ptp(points, axis=0))


def test_a_slab_reaches_half_way_to_its_neighbours_and_no_farther_than_half_the_median():
    (stack,) = stack_contours(box([0, 2, 4, 5, 6, 9, 11]))  # distances 2 2 1 1 3 2: median 2
    assert stack.spacing_mm == pytest.approx(2)
    assert [plane.below_mm for plane in stack.planes] == pytest.approx([1, 1, 1, 0.5, 0.5, 1, 1])
    assert [plane.above_mm for plane in stack.planes] == pytest.approx([1, 1, 0.5, 0.5, 1, 1, 1])


def test_a_single_plane_is_as_thick_as_the_scans_slices_and_1_mm_counts_where_nothing_is_known():
    (stack,) = stack_contours(box([7]), slice_spacing_mm=2.5)
    assert (stack.spacing_mm, stack.planes[0].below_mm, stack.planes[0].above_mm) == pytest.approx((2.5, 1.25, 1.25))
    (unknown,) = stack_contours(box([7]))
    assert (unknown.spacing_mm, unknown.planes[0].below_mm) == (0, 0)
    assert centroid_of(box([7])).volume_mm3 == pytest.approx(100)


@pytest.mark.parametrize(("gap", "planes"), [(0.09, 1), (0.11, 2)])
def test_planes_are_told_apart_from_a_tenth_of_a_millimetre_on(gap, planes):
    (stack,) = stack_contours([rectangle(0, 0, 4, 4, 0), rectangle(6, 0, 8, 4, gap)])
    assert len(stack.planes) == planes


@pytest.mark.parametrize(("degrees", "stacks"), [(2.5, 1), (2.7, 2), (178, 1), (177, 2)])
def test_directions_are_told_apart_from_two_and_a_half_degrees_on_whichever_way_they_look(degrees, stacks):
    tilted = turned(box([9]), (0.0, 0.0, np.radians(degrees)))
    assert len(stack_contours([*box([0, 3]), *tilted])) == stacks


def test_the_largest_ring_gives_the_direction():
    """Of three rings each 2 degrees from the next, the middle one is the largest: all are of its direction."""
    large = [contour * [3, 3, 1] for contour in box([0])]
    aside = [turned(box([z]), (0.0, 0.0, np.radians(sign * 2)))[0] for z, sign in ((5, 1), (-5, -1))]
    far = [contour + np.array([500, 0, 0]) for contour in aside]
    for contours in ([*aside, *large], [*large, *aside], [*far, *large]):
        (stack,) = stack_contours(contours)
        assert stack.axes[2] == pytest.approx((0, 0, 1), abs=1e-6)
        assert stack.origin_mm.shape == (3,)


def test_a_long_line_hides_no_contour():
    line = np.array([[0, 0, 0], [50, 50, 0], [90, 90, 0]], dtype=float)
    assert centroid_of([line, *box([0, 3])]).lps_mm == pytest.approx((5, 5, 1.5))


def test_stacks_are_sorted_by_their_volume_and_not_by_their_number_of_planes():
    thin = [rectangle(0, 0, 1, 1, z) for z in range(5)]
    wide = [contour[:, [0, 2, 1]] for contour in box([40, 45], size=30)]
    for contours in ([*thin, *wide], [*wide, *thin]):
        assert [len(stack.planes) for stack in stack_contours(contours)] == [2, 5]


def test_points_drawn_twice_are_one():
    square = rectangle(0, 0, 4, 4)
    doubled = np.repeat(square, 2, axis=0)
    doubled[1] += 0.0005  # under a thousandth of a millimetre
    (stack,) = stack_contours([doubled, rectangle(0, 0, 4, 4, 3)])
    assert [len(plane.rings[0]) for plane in stack.planes] == [4, 4]
    near = np.insert(square, 1, square[0] + [0.002, 0, 0], axis=0)
    assert len(stack_contours([near])[0].planes[0].rings[0]) == 5


def test_a_contour_is_repeated_if_it_has_the_same_points_to_the_thousandth_of_a_millimetre():
    again = np.roll(rectangle(0, 0, 4, 4), 1, axis=0)[::-1] - 0.0002
    other = rectangle(0.002, 0, 4.002, 4)
    assert len(stack_contours([rectangle(0, 0, 4, 4), again])[0].planes[0].rings) == 1
    assert len(stack_contours([rectangle(0, 0, 4, 4), other])[0].planes[0].rings) == 2
    assert len(stack_contours([rectangle(0, 0, 4, 4), again], keep_duplicates=True)[0].planes[0].rings) == 2


def test_the_normal_is_that_of_the_plane_through_the_points():
    points = np.array([[0, 0, 0], [3, 0, 4], [0, 5, 0]], dtype=float)  # 3-4-5: normal (4, 0, -3) / 5
    normal = fit_normal(points)
    assert normal is not None
    assert abs(normal @ [0.8, 0, -0.6]) == pytest.approx(1)
    assert fit_normal(points[:2]) is None
    assert fit_normal(np.array([[0, 0, 0], [9, 0, 0], [4, 0.0005, 0]])) is None
    assert fit_normal(np.array([[0, 0, 0], [9, 0, 0], [4, 0.01, 0]])) is not None


def test_a_centroid_between_planes_is_inside_where_a_ring_within_half_a_spacing_holds_it():
    """Two planes 4 mm apart, the upper ring four times as large: z = 4 x 16 / 20 = 3.2, nearest to the upper plane."""
    lower, upper = rectangle(0, 0, 2, 2, 0), rectangle(0, 0, 4, 4, 4)
    found = centroid_of([lower, upper])
    assert found.lps_mm == pytest.approx(((1 * 4 + 2 * 16) / 20, (1 * 4 + 2 * 16) / 20, 3.2))
    assert found.is_inside
    # hollow upper plane: the centroid, at its height, is in the hole, and the lower ring is too far away to count
    hollow = [rectangle(0, 0, 20, 20, 4), rectangle(2, 2, 18, 18, 4)]
    assert not centroid_of([rectangle(8, 8, 12, 12, 0), *hollow]).is_inside


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_half_way_between_two_planes_either_ring_can_hold_the_centroid(shift):
    solid, hollow = rectangle(0, 0, 6, 6, 0), [rectangle(0, 0, 6, 6, 4), rectangle(1, 1, 5, 5, 4 + 1e-6)]
    lone = [rectangle(0, 0, 6 - shift, 6, -40)]
    (stack,) = stack_contours([solid, *hollow])
    found = compute_centroid(stack)
    assert found is not None
    assert found.lps_mm[2] == pytest.approx(4 * 20 / 56, abs=1e-5)
    assert found.is_inside
    assert not centroid_of([*lone, solid, *hollow]).is_inside


def test_a_centroid_half_way_between_two_planes_is_inside():
    assert centroid_of(box([0, 4])).is_inside
    assert centroid_of(box([0, 3, 6, 9])).is_inside


def test_contours_that_enclose_next_to_nothing_have_a_centroid_all_the_same():
    tiny = [rectangle(0, 0, 0.01, 0.01, z) for z in (0, 1)]
    assert centroid_of(tiny).volume_mm3 == pytest.approx(2e-4)


def grid_of(shape, spacing, origin, angles=(0.0, 0.0, 0.0)) -> Grid:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(*angles) * spacing
    matrix[:3, 3] = origin
    return Grid.from_matrix(shape, matrix)


def margin(points, lower, upper):
    """How far inside a box points lie, negative outside."""
    return np.minimum(points - lower, upper - points).min(axis=-1)


GRIDS = {
    "axial": grid_of((14, 25, 30), (1, 1, 1), (-6, -5, -4)),
    "coarse": grid_of((7, 17, 21), (1.1, 1.3, 2.2), (-6, -5, -4)),
    "oblique": grid_of((18, 26, 24), (0.9, 1.1, 1.2), (-6, -8, -9), (0.2, -0.3, 0.25)),
    "beginning in it": grid_of((5, 6, 7), (1, 1, 1), (3, 2, 1)),
}


@pytest.mark.parametrize("angles", TURNS[:4], ids=["as it is", "turned", "oblique", "steep"])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_a_turned_box_fills_the_voxels_whose_centres_lie_in_it(grid, angles):
    """Contours of 10 x 8 mm at 0, 3 and 6 mm: a box from -1.5 to 7.5 mm, half-open."""
    (stack,) = stack_contours(turned([rectangle(0, 0, 10, 8, z) for z in (0, 3, 6)], angles))
    k, j, i = np.indices(grid.shape)
    lps = np.stack([i, j, k], axis=-1) @ grid.matrix[:3, :3].T + grid.matrix[:3, 3]
    depth = margin(lps @ rotation(*angles), (0, 0, -1.5), (10, 8, 7.5))
    mask = np.zeros(grid.shape, dtype=bool)
    found = rasterise(stack, grid)
    if found is not None:  # one of the grids does not reach into the steep box
        first, part = found
        assert part[0].any()
        assert part[-1].any()
        mask[first : first + len(part)] = part
    assert mask[depth > 0.05].all()
    assert not mask[depth < -0.05].any()


def test_planes_far_apart_fill_every_slice_of_their_slabs():
    grid = grid_of((40, 14, 14), (1, 1, 1), (-2, -2, -10.5))
    found = rasterise(stack_contours(box([0, 12]))[0], grid)
    assert found is not None
    assert (found[0], len(found[1])) == (5, 24)  # from -6 to 18 mm
    assert found[1].all(axis=0).sum() == 11 * 11


@pytest.mark.parametrize(
    "angles", [*TURNS[:3], (np.pi, 0.0, 0.0)], ids=["as it is", "turned", "oblique", "half a turn"]
)
def test_a_shape_without_symmetry_is_filled_as_it_lies(angles):
    """An L of 9 x 2 and 3 x 6 mm."""
    corners = np.array([[0, 0], [9, 0], [9, 2], [3, 2], [3, 8], [0, 8]]) + 0.07
    contours = [np.column_stack([corners, np.full(6, z)]) for z in (0.0, 3.0)]
    grid = grid_of((24, 32, 34), (0.8, 0.9, 1.1), (-12, -13, -12))
    (stack,) = stack_contours(turned(contours, angles))
    found = rasterise(stack, grid)
    assert found is not None
    first, part = found
    assert part.dtype == bool
    mask = np.zeros(grid.shape, dtype=bool)
    mask[first : first + len(part)] = part
    k, j, i = np.indices(grid.shape)
    own = (np.stack([i, j, k], axis=-1) @ grid.matrix[:3, :3].T + grid.matrix[:3, 3]) @ rotation(*angles)
    arms = [margin(own, (0.07, 0.07, -1.5), (9.07, 2.07, 4.5)), margin(own, (0.07, 0.07, -1.5), (3.07, 8.07, 4.5))]
    depth = np.maximum(*arms)
    assert mask[depth > 0.05].all()
    assert not mask[depth < -0.05].any()


@pytest.mark.parametrize("angles", TURNS[:3], ids=["as it is", "turned", "oblique"])
def test_a_single_contour_of_unknown_thickness_fills_one_step_of_the_grid(angles):
    grid = grid_of((20, 22, 24), (1, 1, 1), (-8, -6, -7))
    (stack,) = stack_contours(turned([rectangle(0, 0, 10, 8, 0.2)], angles))
    found = rasterise(stack, grid)
    assert found is not None
    step = np.abs(rotation(*angles)[:, 2]).max()  # the normal's longest component
    assert found[1].sum() == pytest.approx(11 * 9 * step, rel=0.25)
    if angles == TURNS[0]:
        assert (found[0], len(found[1]), found[1].sum()) == (7, 1, 11 * 9)


def test_contours_beside_between_and_beyond_the_slices_fill_nothing():
    grid = GRIDS["axial"]
    for contours in (
        [rectangle(40, 0, 50, 8, z) for z in (0, 3)],
        [rectangle(0, 0, 10, 8, z) for z in (-40, -37)],
        [rectangle(0.2, 0.2, 0.8, 0.8, z) for z in (0, 3)],  # between the pixel centres
    ):
        assert rasterise(stack_contours(contours)[0], grid) is None


@pytest.mark.parametrize(("shift", "first"), [(0.06, 2), (-0.06, 1)])
def test_a_slice_that_is_all_but_parallel_counts_by_its_middle(shift, first):
    """Turned by 0.2 degrees, slices of 400 mm rise by 1.4 mm; the contours, in their middle, see nothing of it."""
    turn = np.radians(0.2)
    grid = grid_of((9, 201, 401), (1, 1, 1), (-200 * np.cos(turn), -100, -200 * np.sin(turn)), (0.0, -turn, 0.0))
    contours = [rectangle(-3, -3, 3, 3, 2.5 + shift + z) for z in (0, 3)]  # from 1 to 7 mm, and the shift
    found = rasterise(stack_contours(contours)[0], grid)
    assert found is not None
    assert (found[0], len(found[1])) == (first, 6)
