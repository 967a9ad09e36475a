"""Where the tolerances of stacking end, how slices are sorted and grouped, and what messages say."""

from dataclasses import replace

import numpy as np
import pytest

from fmcib_module.core.conventions import AIR_HU, Flag
from fmcib_module.core.errors import NotOneVolumeError
from fmcib_module.core.resampling import plan_resampling, resample_slab
from fmcib_module.core.stacking import (
    alike_in_plane,
    in_plane_difference,
    irregularity,
    is_tilted,
    is_unevenly_spaced,
    sorted_along_normal,
    stack_slices,
    uniform_grid,
    why_not_one_volume,
    why_not_stackable,
)
from tests.core.test_stacking import (
    AXIAL,
    OBLIQUE,
    a_slice,
    linear_hu,
    slice_of_linear_hu,
    slices_at,
    voxel_positions,
)


def moved(slices, n, by_mm):
    """The n-th slice, 0-based, moved in LPS."""
    place = tuple(np.array(slices[n].position_mm) + by_mm)
    return [*slices[:n], replace(slices[n], position_mm=place), *slices[n + 1 :]]


def slice_at(z, **fields):
    return a_slice((0, 0, z), 9, **fields)


@pytest.mark.parametrize(
    ("slices", "accepted"),
    [
        (moved(slices_at([0, 2, 4, 6, 8]), 2, (0, 0, 0.09)), True),  # position tolerance 0.1 mm
        (moved(slices_at([0, 2, 4, 6, 8]), 2, (0, 0, 0.11)), False),
        (moved(slices_at([0, 0.2, 0.4, 0.6]), 1, (0, 0, 0.045)), True),  # a quarter of a step under 0.4 mm
        (moved(slices_at([0, 0.2, 0.4, 0.6]), 1, (0, 0, 0.055)), False),
        (moved(slices_at([0, 2, 4, 6]), 1, (0.101, 0, 0)), True),  # sideways 0.1 mm and a thousandth of 2 mm
        (moved(slices_at([0, 2, 4, 6]), 1, (0, 0.103, 0)), False),
        (moved(slices_at(np.arange(101) * 2.0), 100, (0.29, 0, 0)), True),  # 0.1 and a thousandth of 200 mm
        (moved(slices_at(np.arange(101) * 2.0), 100, (0.31, 0, 0)), False),
        (slices_at([0, 0.011]), True),  # one position: under 0.01 mm
        (slices_at([0, 0.009]), False),
        (slices_at([0, 2], orientation=(1, 0.0009, 0, 0, 1, 0)), True),  # right angle within 1e-3
        (slices_at([0, 2], orientation=(1, 0.0011, 0, 0, 1, 0)), False),
        (slices_at([0, 2], orientation=(1.0009, 0, 0, 0, 0.9991, 0)), True),  # unit length within 1e-3
        (slices_at([0, 2], orientation=(1.0011, 0, 0, 0, 1, 0)), False),
        (slices_at([0, 2], orientation=(1, 0, 0, 0, 0.9989, 0)), False),
        (slices_at([0, 2], orientation=(0, 0, 0, 0, 1, 0)), False),
        (slices_at([0, 2], spacing_mm=(0.8, 0.0)), False),
        (slices_at([0, 2], spacing_mm=(-0.8, 0.8)), False),
        (slices_at([0], slice_thickness_mm=0.5), True),
        (slices_at([0], slice_thickness_mm=0.0), False),
        (slices_at([0], slice_thickness_mm=None), False),
        ([slice_at(0), slice_at(2, spacing_mm=(0.8007, 0.7))], True),  # spacings within a thousandth
        ([slice_at(0), slice_at(2, spacing_mm=(0.8009, 0.7))], False),
        ([slice_at(0), slice_at(2, spacing_mm=(0.8, 0.6992))], False),
        ([slice_at(0), slice_at(2, orientation=(1, 0.0009, 0, 0, 1, 0))], True),
        ([slice_at(0), slice_at(2, orientation=(0.9998, 0.02, 0, -0.02, 0.9998, 0))], False),
    ],
)
def test_slices_are_one_volume_within_the_tolerances_and_not_beyond(slices, accepted):
    assert (why_not_one_volume(slices, "1.2") is None) is accepted
    if accepted:
        assert uniform_grid(stack_slices(slices, "1.2")).shape[0] == len(slices)
    else:
        with pytest.raises(NotOneVolumeError):
            uniform_grid(stack_slices(slices, "1.2"))


def test_a_unit_row_and_an_orthogonal_column_make_the_grid_of_rounded_cosines():
    matrix = uniform_grid(stack_slices(slices_at([0, 2], orientation=(1.0009, 0, 0, 0.0009, 0.9991, 0)), "1.2")).matrix
    np.testing.assert_allclose(matrix[:3, :3], np.diag([0.7, 0.8, 2]), atol=2e-3)
    np.testing.assert_allclose(matrix[:3, 0], (0.7, 0, 0), atol=1e-12)
    np.testing.assert_allclose(matrix[:3, 1], (0, 0.8, 0), atol=1e-12)


def test_slices_at_one_place_are_sorted_by_uid_frame_and_path():
    slices = [replace(a_slice((0, 0, 0), 1), sop_instance_uid=uid, frame=frame) for uid in "ab" for frame in (0, 1)]
    slices.append(replace(a_slice((0, 0, 0), 0), sop_instance_uid="a", frame=0))
    upper = a_slice((0, 0, 3), 7, uid="0")
    found = sorted_along_normal([upper, *reversed(slices)])
    order = [(s.sop_instance_uid, s.frame, s.path.name) for s in found]
    assert order[:-1] == [("a", 0, "0.dcm"), ("a", 0, "1.dcm"), ("a", 1, "1.dcm"), ("b", 0, "1.dcm"), ("b", 1, "1.dcm")]
    assert found[-1] == upper
    assert sorted_along_normal([]) == ()


def test_the_normal_that_slices_are_sorted_along_is_that_of_the_first_by_uid():
    """Two of opposite normals: 1.2.3.1 looks down, so that the higher of them comes first."""
    down = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    slices = [a_slice((0, 0, 5), 1, orientation=down), a_slice((0, 0, 9), 2)]
    for given in (slices, slices[::-1]):
        assert [s.position_mm[2] for s in sorted_along_normal(given)] == [9, 5]


def test_slices_alike_in_plane_are_grouped_in_their_order():
    wide, turned = slice_at(1, shape=(6, 9)), slice_at(2, orientation=OBLIQUE)
    slices = [slice_at(0), wide, slice_at(3), turned, slice_at(4, shape=(6, 9))]
    assert [[s.position_mm[2] for s in group] for group in alike_in_plane(slices)] == [[0, 3], [1, 4], [2]]
    assert in_plane_difference(slices[0], slices[2]) == ""


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (slice_at(9, shape=(6, 4)), "Rows and Columns expected (6, 5), found (6, 4)"),
        (slice_at(9, spacing_mm=(0.9, 0.7)), "PixelSpacing expected (0.8, 0.7), found (0.9, 0.7) mm"),
        (slice_at(9, orientation=OBLIQUE), f"ImageOrientationPatient expected {AXIAL}, found {OBLIQUE}"),
    ],
)
def test_the_rarer_kind_of_slice_is_the_odd_one(odd, words):
    usual = [a_slice((0, 0, z), z) for z in (20, 22)]
    for given in ([odd, *usual], [*usual, odd]):
        problem = why_not_stackable(given, "1.2")
        assert problem is not None
        assert problem.what == f"slices differ: {words}"
        assert problem.where == "SeriesInstanceUID 1.2, SOPInstanceUID 1.2.3.9"


def test_gaps_and_tilts_can_be_stacked_and_are_no_volume():
    gap, tilt, even = slices_at([0, 2, 6, 8]), slices_at([0, 5, 10], tilt_degrees=12), slices_at([0, 2, 4])
    for slices, tilted, uneven in ((gap, False, True), (tilt, True, False), (even, False, False)):
        assert why_not_stackable(slices, "1.2") is None
        assert (why_not_one_volume(slices, "1.2") is None) is (slices is even)
        stack = stack_slices(slices, "1.2")
        assert (is_tilted(stack), is_unevenly_spaced(stack)) == (tilted, uneven)
        assert (irregularity(stack) is None) is (slices is even)
    assert why_not_one_volume([], "1.2") is None
    assert not is_unevenly_spaced(stack_slices(slices_at([0]), "1.2"))


@pytest.mark.parametrize("frame", [None, 4])
def test_messages_name_slice_and_frame_and_what_to_do(frame):
    slices = [replace(s, frame=frame) for s in slices_at([0, 2, 6, 8, 10])]
    problem = why_not_one_volume(slices, "1.2.840")
    assert problem is not None
    where = "SeriesInstanceUID 1.2.840, SOPInstanceUID 1.2.3.3"
    assert problem.where == (where if frame is None else f"{where}, frame 5")
    assert "irregular: resample" in problem.fix


@pytest.mark.parametrize(
    ("slices", "what"),
    [
        (slices_at([0, 2, 8, 10, 12]), "gap expected 2.000 mm, found 6.000 mm (2 missing before this slice)"),
        (slices_at([0, 2, 5, 7, 9]), "gap expected 2.000 mm, found 3.000 mm"),
        (slices_at([0, 2, 6.1, 8.1, 10.1]), "gap expected 2.000 mm, found 4.100 mm (1 missing before this slice)"),
        (slices_at([0, 2, 6.3, 8.3, 10.3]), "gap expected 2.000 mm, found 4.300 mm"),
        (slices_at([0, 2, 2.5, 4.5, 6.5]), "gap expected 2.000 mm, found 0.500 mm"),
    ],
)
def test_a_gap_is_told_with_the_slices_that_it_could_hold(slices, what):
    problem = why_not_one_volume(slices, "1.2")
    assert problem is not None
    assert problem.what.endswith(what)
    assert "SOPInstanceUID 1.2.3.3" in problem.where


def test_a_tilt_is_told_with_its_angle_and_the_place_where_the_slice_should_lie():
    problem = why_not_one_volume(slices_at([0, 5, 10], tilt_degrees=12, origin=(0, 0, 0)), "1.2")
    assert problem is not None  # tan 12 degrees x 5 mm is 1.063 mm
    words = "by 12.0 degrees (gantry tilt): ImagePositionPatient expected (0.0, 0.0, 5.0), found (0.0, 1.063, 5.0) mm"
    assert problem.what.endswith(words)


def test_slices_at_one_place_are_told_apart_from_a_series_that_is_no_volume():
    two = why_not_stackable(slices_at([0, 2, 2.004, 4], origin=(1, 2, 3)), "1.2")
    assert two is not None
    assert "position, (1.0, 2.0, 5.004) mm" in two.what
    assert "SOPInstanceUID 1.2.3.2" in two.what
    assert "SOPInstanceUID 1.2.3.3" in two.where
    pair = why_not_stackable(slices_at([2, 2]), "1.2")
    assert pair is not None
    assert "all 2 slices lie at one position" in pair.what
    assert why_not_stackable(slices_at([2]), "1.2") is None


def sheared(distances, shear_xy, shape=(12, 15)):
    """Axial slices that move along both rows and columns."""
    slices = slices_at(distances, origin=(0, 0, 0), shape=shape)
    return [moved([s], 0, (*(d * np.array(shear_xy)), 0))[0] for s, d in zip(slices, distances, strict=True)]


@pytest.mark.parametrize("shear", [(0.3, 0.0), (-0.3, 0.2), (0.25, -0.15)])
def test_a_stack_that_shifts_along_rows_and_columns_is_covered_and_exact(shear):
    stack = stack_slices(sheared([0, 2, 4, 10], shear), "1.2")
    plan = plan_resampling(stack)
    assert plan.flags == (Flag.GANTRY_TILT_RESAMPLED, Flag.SPACING_RESAMPLED)
    slab = resample_slab(plan, 0, 6, lambda n: slice_of_linear_hu(stack.instances[n]))
    points = voxel_positions(plan.grid.matrix, plan.grid.shape)
    x, y = points[..., 0], points[..., 1]
    ends = [np.array(shear) * d for d in (0, 10)]  # the shift of the lowest and of the highest slice
    low, high = np.minimum(*ends), np.maximum(*ends)
    inside = (
        (x > high[0] - 0.01) & (x < low[0] + 14 * 0.7 + 0.01) & (y > high[1] - 0.01) & (y < low[1] + 11 * 0.8 + 0.01)
    )
    assert inside.mean() > 0.2
    np.testing.assert_allclose(slab[inside], linear_hu(points)[inside], atol=2e-4)
    # nothing of any slice is lost, and no more than a voxel is added at each side
    assert (points[0, 0, 0, :2] <= low + 1e-6).all()
    assert (points[0, 0, 0, :2] > low - np.array([0.7, 0.8])).all()
    far = points[0, -1, -1, :2] - high - np.array([14 * 0.7, 11 * 0.8])
    assert (far >= -1e-6).all()
    assert (far < np.array([0.7, 0.8])).all()
    outside = (x[0] < -0.01) | (x[0] > 14 * 0.7 + 0.01) | (y[0] < -0.01) | (y[0] > 11 * 0.8 + 0.01)
    assert (slab[0][outside] == AIR_HU).all()
    assert slab[0][~outside] == pytest.approx(linear_hu(points[0])[~outside], abs=2e-4)


@pytest.mark.parametrize(
    ("distances", "step", "slices"),
    [([0, 2, 4, 8], 2, 5), ([0, 1.5, 4, 6, 8.2], 2, 5), ([0, 3, 4, 5], 1, 6), ([0, 1, 4, 7.9], 3, 3)],
)
def test_an_uneven_stack_is_spaced_as_most_of_its_slices_up_to_the_last_that_fits(distances, step, slices):
    plan = plan_resampling(stack_slices(slices_at(distances), "1.2"))
    assert plan.step_mm == pytest.approx(step)
    assert plan.grid.shape == (slices, 6, 5)
    np.testing.assert_allclose(plan.grid.matrix, [[0.7, 0, 0, -20], [0, 0.8, 0, 30], [0, 0, step, 100], [0, 0, 0, 1]])
    assert plan.flags == (Flag.SPACING_RESAMPLED,)


def test_a_part_of_a_resampled_stack_is_that_part_of_the_whole():
    stack = stack_slices(slices_at([0, 2, 4, 8, 10, 13]), "1.2")
    plan = plan_resampling(stack)

    def read(n):
        return slice_of_linear_hu(stack.instances[n])

    whole = resample_slab(plan, 0, plan.grid.shape[0], read)
    np.testing.assert_array_equal(resample_slab(plan, 2, 5, read), whole[2:5])
    assert whole.dtype == np.float32
    assert resample_slab(plan, 4, 4, read).shape == (0, 6, 5)
    assert resample_slab(plan, 4, 3, read).shape == (0, 6, 5)
