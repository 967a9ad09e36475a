"""Slice positions against geometry: which stacks are one grid, what breaks one, and what resampling returns."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmcib_module.core.conventions import AIR_HU, Flag
from fmcib_module.core.domain import Instance
from fmcib_module.core.errors import NotOneVolumeError
from fmcib_module.core.resampling import plan_resampling, resample_slab
from fmcib_module.core.stacking import stack_slices, uniform_grid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE = (0.8, 0.48, 0.36, -0.6, 0.64, 0.48)  # exact decimals, orthonormal


def a_slice(position, number=1, *, orientation=AXIAL, acquisition=None, uid=None, **fields) -> Instance:
    values = {"spacing_mm": (0.8, 0.7), "shape": (6, 5), "slice_thickness_mm": 2.5, **fields}
    return Instance(
        path=Path(f"{number}.dcm"),
        sop_instance_uid=uid or f"1.2.3.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        frame=None,
        position_mm=tuple(float(v) for v in position),
        orientation=orientation,
        instance_number=number,
        acquisition_number=acquisition,
        **values,
    )


def slices_at(distances, *, orientation=AXIAL, origin=(-20.0, 30.0, 100.0), tilt_degrees=0.0, **fields):
    """Slices at distances along the normal, sheared along the column direction as a tilted gantry does."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    shear = math.tan(math.radians(tilt_degrees))
    return [
        a_slice(np.array(origin) + normal * d + column * d * shear, number, orientation=orientation, **fields)
        for number, d in enumerate(distances, start=1)
    ]


def linear_hu(points: np.ndarray) -> np.ndarray:
    """A linear function of LPS position, which linear interpolation reproduces exactly."""
    return points @ np.array([1.5, -2.0, 3.0]) + 40.0


def voxel_positions(matrix: np.ndarray, shape_kji) -> np.ndarray:
    k, j, i = np.meshgrid(*(np.arange(n) for n in shape_kji), indexing="ij")
    return (np.stack([i, j, k, np.ones_like(i)], axis=-1) @ matrix.T)[..., :3]


def slice_of_linear_hu(instance: Instance) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 0] = np.array(instance.orientation[:3]) * instance.spacing_mm[1]
    matrix[:3, 1] = np.array(instance.orientation[3:]) * instance.spacing_mm[0]
    matrix[:3, 3] = instance.position_mm
    return linear_hu(voxel_positions(matrix, (1, *instance.shape)))[0].astype(np.float32)


def test_the_grid_follows_equation_c_7_6_2_1_1_by_hand():
    grid = uniform_grid(stack_slices(slices_at([0, 2.5, 5]), "1.2"))
    assert grid.shape == (3, 6, 5)
    # column index i moves along the row direction by the spacing between columns (the second PixelSpacing value)
    expected = [[0.7, 0, 0, -20], [0, 0.8, 0, 30], [0, 0, 2.5, 100], [0, 0, 0, 1]]
    np.testing.assert_allclose(grid.matrix, expected, rtol=0, atol=1e-12)


def test_an_oblique_grid_ends_at_the_last_slices_position():
    slices = slices_at([0, 3, 6, 9], orientation=OBLIQUE)
    grid = uniform_grid(stack_slices(slices, "1.2"))
    last = grid.matrix @ [0, 0, 3, 1]
    np.testing.assert_allclose(last[:3], slices[-1].position_mm, atol=1e-9)
    axes = grid.matrix[:3, :3] / np.linalg.norm(grid.matrix[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)


@given(st.permutations(range(7)))
@settings(max_examples=30)
def test_the_order_of_slices_does_not_matter(order):
    slices = slices_at([0, 2, 4, 6, 8, 10, 12], orientation=OBLIQUE)
    assert uniform_grid(stack_slices([slices[n] for n in order], "1.2")) == uniform_grid(stack_slices(slices, "1.2"))


def test_slices_given_top_down_are_sorted_upwards():
    stack = stack_slices(slices_at([9, 6, 3, 0]), "1.2")
    assert [s.position_mm[2] for s in stack.instances] == [100, 103, 106, 109]
    np.testing.assert_allclose(stack.distances_mm, [0, 3, 6, 9])


def test_spacing_comes_from_positions_and_not_from_slice_thickness():
    assert uniform_grid(stack_slices(slices_at([0, 1, 2], slice_thickness_mm=1.25), "1.2")).spacing_mm[2] == 1.0


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_uniform():
    exact = np.arange(200) * 0.625
    grid = uniform_grid(stack_slices(slices_at(np.round(exact, 1)), "1.2"))
    assert grid.spacing_mm[2] == pytest.approx(0.625, abs=1e-3)


def test_orientations_rounded_to_four_decimals_are_no_tilt():
    orientation = (0.9962, 0.0, 0.0872, 0.0, 1.0, 0.0)  # 5 degrees; exact cosines 0.99619, 0.08716
    exact = np.cross((math.cos(math.radians(5)), 0, math.sin(math.radians(5))), (0, 1, 0))
    slices = [a_slice(exact * 3.0 * n, n + 1, orientation=orientation) for n in range(100)]
    assert uniform_grid(stack_slices(slices, "1.2")).spacing_mm[2] == pytest.approx(3.0, abs=1e-4)


def test_one_slice_is_as_thick_as_slice_thickness_says():
    assert uniform_grid(stack_slices(slices_at([0], slice_thickness_mm=2.5), "1.2")).spacing_mm[2] == 2.5


@pytest.mark.parametrize(
    ("slices", "named", "words"),
    [
        (slices_at([0, 2, 6, 8]), "1.2.3.3", "gap expected 2.000 mm, found 4.000 mm (1 missing before this slice)"),
        (slices_at([0, 2, 4, 7]), "1.2.3.4", "gap expected 2.000 mm, found 3.000 mm"),
        (slices_at([0, 0.2, 0.6, 0.8]), "1.2.3.3", "gap expected 0.200 mm, found 0.400 mm"),
        (slices_at([0, 5, 10], tilt_degrees=12), "1.2.3.2", "12.0 degrees (gantry tilt): ImagePositionPatient"),
        (slices_at([0, 2, 2, 4]), "1.2.3.3", "two slices lie at one position"),
        (slices_at([3, 3, 3]), "1.2.3.2", "all 3 slices lie at one position"),
        (slices_at([0], slice_thickness_mm=None), "1.2.3.1", "one slice without SliceThickness"),
        ([*slices_at([0, 2]), a_slice((-20, 30, 104), 9, shape=(6, 4))], "1.2.3.9", "expected (6, 5), found (6, 4)"),
        ([*slices_at([0, 2]), a_slice((-20, 30, 104), 9, spacing_mm=(0.8, 0.8))], "1.2.3.9", "PixelSpacing expected"),
        (
            [*slices_at([0, 2]), a_slice((-20, 30, 104), 9, orientation=OBLIQUE)],
            "1.2.3.9",
            "ImageOrientationPatient expected",
        ),
        (slices_at([0, 2], orientation=(1.0, 0, 0, 0.5, 1.0, 0)), "1.2.3.1", "not two unit vectors at a right angle"),
        (slices_at([0, 2], spacing_mm=(0.0, 0.8)), "1.2.3.1", "expected two positive numbers"),
        ([], "1.2.840.77", "the series has no slices"),
    ],
)
def test_what_is_not_one_volume_names_the_slice_with_expected_and_found(slices, named, words):
    with pytest.raises(NotOneVolumeError) as caught:
        uniform_grid(stack_slices(slices, "1.2.840.77"))
    assert words in caught.value.what
    assert named in caught.value.where
    assert "1.2.840.77" in caught.value.where


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize(
    ("distances", "tilt", "flags"),
    [
        ([0, 2, 4, 8, 10], 0.0, (Flag.SPACING_RESAMPLED,)),
        ([0, 1.5, 4, 6, 8.2], 0.0, (Flag.SPACING_RESAMPLED,)),
        ([0, 5, 10, 15], 17.0, (Flag.GANTRY_TILT_RESAMPLED,)),
        ([0, 5, 10, 15], -17.0, (Flag.GANTRY_TILT_RESAMPLED,)),
        ([0, 0.75, 1.5, 3.0], 15.0, (Flag.GANTRY_TILT_RESAMPLED, Flag.SPACING_RESAMPLED)),
    ],
)
def test_a_linear_function_of_position_survives_resampling(orientation, distances, tilt, flags):
    stack = stack_slices(slices_at(distances, orientation=orientation, tilt_degrees=tilt, shape=(14, 9)), "1.2")
    plan = plan_resampling(stack)
    assert plan.flags == flags
    slab = resample_slab(plan, 0, plan.grid.shape[0], lambda n: slice_of_linear_hu(stack.instances[n]))
    expected = linear_hu(voxel_positions(plan.grid.matrix, plan.grid.shape))
    measured = inside_all_slices(plan, slab)
    assert measured.mean() > 0.3
    np.testing.assert_allclose(slab[measured], expected[measured], rtol=0, atol=2e-4)


def inside_all_slices(plan, slab) -> np.ndarray:
    """Voxels whose rows and columns lie in the field of view of every slice."""
    rows, columns = np.meshgrid(np.arange(slab.shape[1]), np.arange(slab.shape[2]), indexing="ij")
    inside = np.ones(slab.shape[1:], dtype=bool)
    for start_i, start_j in plan.starts:
        inside &= (rows + start_j >= 0) & (rows + start_j <= 13) & (columns + start_i >= 0) & (columns + start_i <= 8)
    return np.broadcast_to(inside, slab.shape)


def test_a_tilted_stacks_grid_covers_every_slice_and_is_air_outside_them():
    stack = stack_slices(slices_at([0, 5, 10], tilt_degrees=20), "1.2")
    plan = plan_resampling(stack)
    slab = resample_slab(plan, 0, 3, lambda n: np.full((6, 5), 50.0 + n, dtype=np.float32))
    grown = math.ceil(10 * math.tan(math.radians(20)) / 0.8)
    assert plan.grid.shape == (3, 6 + grown, 5)
    assert np.all(slab[0, :6] == 50)
    assert np.all(slab[0, 6:] == AIR_HU)
    assert np.all(slab[2, :4] == AIR_HU)


def test_slices_that_lie_on_the_new_grid_keep_their_values_exactly():
    rng = np.random.default_rng(3)
    stack = stack_slices(slices_at([0, 2, 4, 8]), "1.2")
    voxels = rng.normal(0, 500, (4, 6, 5)).astype(np.float32)
    slab = resample_slab(plan_resampling(stack), 0, 5, lambda n: voxels[n])
    np.testing.assert_array_equal(slab[[0, 1, 2, 4]], voxels)
    np.testing.assert_allclose(slab[3], (voxels[2] + voxels[3]) / 2, rtol=1e-6)


def test_a_slab_reads_only_the_slices_around_it():
    read = []
    stack = stack_slices(slices_at([0, 2, 4, 8, 10, 12]), "1.2")
    resample_slab(plan_resampling(stack), 3, 4, lambda n: read.append(n) or np.zeros((6, 5), dtype=np.float32))
    assert sorted(set(read)) == [2, 3]
