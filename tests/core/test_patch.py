"""Patches against geometry: what lies where, at borders, and which slices are read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmcib_module.core.conventions import Mode
from fmcib_module.core.domain import Seed
from fmcib_module.core.errors import SeedOutsideVolumeError
from fmcib_module.core.patch import extract_patch, plan_patch, scale_hu
from fmcib_module.core.volume import Grid, Volume

ONE_MM = np.eye(4)


def seed_at(*lps_mm: float) -> Seed:
    return Seed(lps_mm=lps_mm, label="GTV-1", source_uid="1.2.3")


def linear_volume(affine: np.ndarray, shape_kji=(60, 70, 80), gradient=(1.0, 2.0, 4.0)) -> Volume:
    """HU is a linear function of LPS position, which linear interpolation reproduces at any spacing."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in shape_kji), indexing="ij")
    xyz = np.stack([i, j, k, np.ones_like(i)], axis=-1) @ affine.T
    hu = (xyz[..., :3] @ np.array(gradient)).astype(np.float32)
    return Volume.from_array(hu, affine, "1.2.840.1")


def test_scaling_maps_the_papers_range_to_zero_and_one_and_does_not_clip():
    hu = np.array([-2000.0, -1024.0, 512.0, 2048.0, 3072.0], dtype=np.float32)
    np.testing.assert_allclose(scale_hu(hu), [-976 / 3072, 0, 0.5, 1, 4096 / 3072], rtol=1e-7)
    assert scale_hu(hu).dtype == np.float32


@pytest.mark.parametrize("mode", list(Mode))
def test_the_seeds_voxel_is_25_on_a_1_mm_scan(mode):
    hu = np.full((80, 90, 100), -1024, dtype=np.float32)
    hu[40, 45, 50] = 2048
    patch = extract_patch(Volume.from_array(hu, ONE_MM, "1.2.840.1"), seed_at(50, 45, 40), mode)
    assert np.unravel_index(patch.voxels.argmax(), patch.voxels.shape) == (25, 25, 25) == patch.seed_index_kji
    assert patch.voxels.max() == 1.0
    assert patch.outside_share == 0.0


def test_axes_are_superior_posterior_left_whatever_the_scans_orientation():
    rng = np.random.default_rng(0)
    for permutation in ([0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1]):
        affine = np.eye(4)
        affine[:3, :3] = np.eye(3)[permutation] * rng.choice([-1, 1], 3) @ np.diag([0.8, 0.9, 1.3])
        affine[:3, 3] = [5, -3, 11]
        volume = linear_volume(affine, shape_kji=(80, 100, 110))
        middle = (affine @ [55, 50, 40, 1])[:3]
        voxels = extract_patch(volume, seed_at(*middle), Mode.PUBLISHED_MONAI16).voxels.astype(float) * 3072
        np.testing.assert_allclose(np.diff(voxels, axis=2), 1.0, atol=2e-3)  # x towards left: +1 HU per mm
        np.testing.assert_allclose(np.diff(voxels, axis=1), 2.0, atol=2e-3)  # y towards posterior
        np.testing.assert_allclose(np.diff(voxels, axis=0), 4.0, atol=2e-3)  # z towards superior


def test_an_oblique_scan_gives_the_same_world_as_an_axial_one():
    angle = np.deg2rad(20)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] = affine[:3, :3] @ np.diag([0.9, 0.9, 1.25])
    volume = linear_volume(affine, shape_kji=(90, 120, 120))
    middle = (affine @ [60, 60, 45, 1])[:3]
    voxels = extract_patch(volume, seed_at(*middle), Mode.PUBLISHED_MONAI16).voxels.astype(float) * 3072
    for axis, gradient in ((2, 1.0), (1, 2.0), (0, 4.0)):
        np.testing.assert_allclose(np.diff(voxels, axis=axis), gradient, atol=3e-3)


def test_the_seed_may_be_off_by_less_than_a_voxel_but_no_more():
    affine = np.diag([0.7, 0.7, 2.5, 1.0])
    volume = linear_volume(affine, shape_kji=(60, 150, 150), gradient=(0, 0, 10))
    seed = seed_at(50.3, 51.8, 70.9)
    hu = extract_patch(volume, seed, Mode.PUBLISHED_MONAI16).voxels[25, 25, 25] * 3072 - 1024
    assert 0 <= 709 - hu < 10  # truncation: the voxel at or below the seed, under 1 mm away


def test_a_border_moves_the_seed_in_published_modes_and_not_in_centred():
    hu = np.full((80, 80, 80), -1024, dtype=np.float32)
    hu[40, 40, 5] = 2048
    volume = Volume.from_array(hu, ONE_MM, "1.2.840.1")
    published = extract_patch(volume, seed_at(5, 40, 40))
    centred = extract_patch(volume, seed_at(5, 40, 40), Mode.CENTRED)
    # 30 of 50 columns are in the scan: 10 in front instead of 20
    assert np.unravel_index(published.voxels.argmax(), (50,) * 3) == (25, 25, 15) == published.seed_index_kji
    assert np.unravel_index(centred.voxels.argmax(), (50,) * 3) == (25, 25, 25) == centred.seed_index_kji
    assert published.outside_share == centred.outside_share == pytest.approx(0.4)


@pytest.mark.parametrize(("x", "error"), [(-24.0, False), (-26.0, True), (103.0, False), (105.0, True)])
def test_a_seed_up_to_24_mm_outside_still_gives_a_patch(x, error):
    volume = Volume.from_array(np.zeros((80, 80, 80), dtype=np.float32), ONE_MM, "1.2.840.1")
    if error:
        with pytest.raises(SeedOutsideVolumeError, match=r"'GTV-1' lies 26 mm outside.*1\.2\.840\.1"):
            extract_patch(volume, seed_at(x, 40, 40))
    else:
        assert extract_patch(volume, seed_at(x, 40, 40)).outside_share > 0.95


def test_only_the_slices_under_the_patch_are_read():
    reads = []

    def read_slab(first, stop, rows, columns):
        reads.append((first, stop))
        return np.zeros((stop - first, 512, 512), dtype=np.float32)[:, rows, columns]

    grid = Grid.from_matrix((300, 512, 512), np.diag([0.8, 0.8, 1.25, 1.0]))
    extract_patch(Volume(grid, "1.2.840.1", read_slab), seed_at(200, 200, 180))
    [(first, stop)] = reads
    assert stop - first <= 43
    assert first * 1.25 <= 180 - 25 + 1.25
    assert (stop - 1) * 1.25 >= 180 + 24 - 1.25


@settings(deadline=None, max_examples=40)
@given(
    spacing=st.tuples(*[st.floats(0.4, 5.0)] * 3),
    angles=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    oblique=st.booleans(),
    where=st.tuples(*[st.floats(-0.1, 1.1)] * 3),
)
def test_the_planned_box_holds_every_tap(spacing, angles, oblique, where):
    """Sampling from the box alone equals sampling from the whole scan."""
    affine = np.eye(4)
    if oblique:
        for axis, angle in enumerate(angles):
            a, b = [n for n in range(3) if n != axis]
            turn = np.eye(4)
            turn[[a, a, b, b], [a, b, a, b]] = [np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)]
            affine = affine @ turn
    affine = affine @ np.diag([*spacing, 1.0])
    shape = (21, 34, 29)
    hu = np.random.default_rng(1).normal(0, 500, shape).astype(np.float32)
    volume = Volume.from_array(hu, affine, "1.2.840.1")
    seed = seed_at(*(affine @ [where[0] * 28, where[1] * 33, where[2] * 20, 1])[:3])
    try:
        plan = plan_patch(volume.grid, seed, mode=Mode.PUBLISHED, series_uid="1.2.840.1")
    except SeedOutsideVolumeError:
        return
    patch = extract_patch(volume, seed)
    x, y, z = (int(v) for v in (plan.first + plan.stop - 1) // 2)
    source = (plan.to_source @ [x, y, z, 1.0])[:3]
    low = np.floor(source).astype(int)
    expected = 0.0
    for tap in np.ndindex(2, 2, 2):
        i, j, k = low + tap
        weight = np.prod([f if t else 1 - f for t, f in zip(tap, source - low, strict=True)])
        if 0 <= k < 21 and 0 <= j < 34 and 0 <= i < 29:
            expected += weight * (float(hu[k, j, i]) + 1024) / 3072
    px, py, pz = np.array([x, y, z]) - plan.first + plan.at
    assert patch.voxels[pz, py, px] == pytest.approx(expected, abs=1e-6)
