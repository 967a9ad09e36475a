"""Where patches and slabs of the 1 mm grid lie: a field that is linear in position says it voxel by voxel."""

import numpy as np
import pytest

from fmcib_module.core.conventions import Mode
from fmcib_module.core.domain import Seed
from fmcib_module.core.errors import ConfigError, SeedOutsideVolumeError
from fmcib_module.core.patch import (
    extract_patch,
    grid_index,
    patch_affine,
    plan_patch,
    resample_slab,
    sample_patch,
    scale_hu,
)
from fmcib_module.core.patch_grid import patch_grid
from fmcib_module.core.volume import Grid, Volume

GRADIENT = np.array([3.0, -7.0, 11.0])  # HU per mm
AXIAL = np.array([[0.77, 0, 0, -12], [0, 0.9, 0, 7], [0, 0, 2.5, 40], [0, 0, 0, 1]])
SAGITTAL = np.array([[0, 0, 2.0, 5], [0.8, 0, 0, -6], [0, -0.9, 0, 70], [0, 0, 0, 1]])
TURNED = AXIAL.copy()  # about z: 3-4-5
TURNED[:3, :3] = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) @ AXIAL[:3, :3]
SHAPE = (61, 160, 150)
SCANS = pytest.mark.parametrize("affine", [AXIAL, SAGITTAL, TURNED], ids=["axial", "sagittal", "turned"])


def field(lps_mm):
    return lps_mm @ GRADIENT


def scan(affine, shape=SHAPE, reads=None) -> Volume:
    grid = Grid.from_matrix(shape, affine)

    def read_slab(first, stop, rows=slice(None), columns=slice(None)):
        if reads is not None:
            reads.append((first, stop, rows, columns))
        k, j, i = (np.arange(n) for n in shape)
        ijk = np.stack(np.meshgrid(k[first:stop], j[rows], i[columns], indexing="ij")[::-1], axis=-1)
        return field(ijk @ affine[:3, :3].T + affine[:3, 3]).astype(np.float32)

    return Volume(grid, "1.2.840.1", read_slab)


def hu(scaled):
    return scaled.astype(float) * 3072 - 1024


def indices(shape_zyx):
    """(x, y, z, 1) of every voxel."""
    z, y, x = np.indices(shape_zyx)
    return np.stack([x, y, z, np.ones_like(x)], axis=-1)


def seed_at(lps_mm) -> Seed:
    return Seed(tuple(lps_mm), label="GTV-1", source_uid="1.2.3")


@SCANS
@pytest.mark.parametrize("mode", list(Mode))
def test_the_affine_of_a_patch_says_where_its_voxels_truly_come_from(affine, mode):
    volume, seed = scan(affine), seed_at((affine @ [75, 80, 30, 1])[:3])
    patch, places = extract_patch(volume, seed, mode), patch_affine(volume.grid, seed, mode)
    lps = indices((50, 50, 50)) @ places.T
    np.testing.assert_allclose(hu(patch.voxels), field(lps[..., :3]), atol=2e-2)
    assert patch_affine(volume.grid, seed, mode.value).tolist() == places.tolist()


@SCANS
def test_the_affine_holds_where_the_border_cuts_the_patch(affine):
    volume, seed = scan(affine), seed_at((affine @ [4, 150, 2, 1])[:3])
    for mode in Mode:
        patch = extract_patch(volume, seed, mode)
        assert 0.3 < patch.outside_share < 1
        lps = indices((50, 50, 50)) @ patch_affine(volume.grid, seed, mode).T
        ijk = lps @ np.linalg.inv(affine).T
        inside = ((ijk[..., :3] >= 0) & (ijk[..., :3] <= np.array(SHAPE[::-1]) - 1)).all(axis=-1)
        inside &= patch.voxels != 0  # cut to the 1 mm grid
        assert inside.sum() > 1000
        np.testing.assert_allclose(hu(patch.voxels)[inside], field(lps[inside, :3]), atol=2e-2)


def test_the_index_of_a_place_is_cut_towards_zero():
    """114.73 mm and 143.1 mm are 116 and 144 voxels, counted from RAS on: in LPS from x = -12.27 and y = 7.1 on."""
    grid = Grid.from_matrix(SHAPE, AXIAL)
    assert patch_grid(grid, Mode.PUBLISHED).size == (116, 144, 151)
    assert grid_index(grid, (-5.5, 10.2, 52.9), Mode.PUBLISHED) == (6, 3, 12)
    assert grid_index(grid, (-12.9, 6.2, 39.1), Mode.CENTRED) == (0, 0, 0)
    assert grid_index(grid, (-14.5, 5.0, 37.5), Mode.PUBLISHED) == (-2, -2, -2)


@SCANS
def test_a_slab_of_the_whole_scan_holds_the_patches_that_are_cut_from_it(affine):
    volume, seed = scan(affine), seed_at((affine @ [75, 80, 30, 1])[:3])
    for mode in Mode:
        x, y, z = grid_index(volume.grid, seed.lps_mm, mode)
        slab = resample_slab(volume, z - 3, z + 4, mode)
        size = patch_grid(volume.grid, mode).size
        assert slab.shape == (7, size[1], size[0])
        assert slab.dtype == np.float32
        cut = slab[:, y - 25 : y + 25, x - 25 : x + 25]
        np.testing.assert_allclose(cut, extract_patch(volume, seed, mode).voxels[22:29], atol=1e-6)


def test_a_slab_reads_only_the_slices_under_it_and_is_air_beyond_the_scan():
    reads = []
    volume = scan(AXIAL, reads=reads)
    slab = resample_slab(volume, 51, 60, Mode.PUBLISHED_MONAI16)
    [(first, stop, _, _)] = reads
    assert (first, stop) == (20, 25)  # 51..59 mm over the first slice, 2.5 mm apart: 20.4..23.6
    within = hu(slab)[:, :, 1:]  # the first column lies 0.27 mm before the scan
    np.testing.assert_allclose(np.diff(within, axis=0), 11, atol=2e-2)
    beyond = resample_slab(volume, 400, 403, Mode.PUBLISHED)
    assert beyond.shape == (3, 144, 116)
    assert (beyond == 0).all()
    assert beyond.dtype == np.float32


def test_a_patch_reads_only_the_rows_and_columns_under_it():
    reads = []
    extract_patch(scan(AXIAL, reads=reads), seed_at((AXIAL @ [75, 80, 30, 1])[:3]), Mode.PUBLISHED_MONAI16)
    [(first, stop, rows, columns)] = reads
    # 50 samples, 49 mm from the first to the last: 19.6 slices, 54.4 rows, 63.6 columns, and a neighbour at each end
    assert stop - first <= 22
    assert rows.stop - rows.start <= 57
    assert columns.stop - columns.start <= 66


@pytest.mark.parametrize("edge", [20, 80])
def test_a_patch_of_another_size_has_the_same_centre(edge):
    volume, seed = scan(AXIAL), seed_at((AXIAL @ [75, 80, 30, 1])[:3])
    plan = plan_patch(volume.grid, seed, mode=Mode.CENTRED, series_uid="1.2", edge=edge)
    voxels = sample_patch(volume, plan)
    assert voxels.shape == (edge,) * 3
    assert plan.seed_index_kji == (edge // 2,) * 3
    assert plan.outside_share == 0
    middle = extract_patch(volume, seed, Mode.CENTRED).voxels[20:30, 20:30, 20:30]
    part = slice(edge // 2 - 5, edge // 2 + 5)
    np.testing.assert_allclose(voxels[part, part, part], middle, atol=1e-7)


def test_the_sampler_that_is_asked_for_samples_oblique_scans():
    volume, seed = scan(TURNED), seed_at((TURNED @ [75, 80, 30, 1])[:3])

    def ones(_box, _rotation, _offset, first, stop):
        return np.ones((stop - first)[::-1])

    assert (extract_patch(volume, seed, gather=ones).voxels == 1).all()
    assert (extract_patch(scan(AXIAL), seed_at((AXIAL @ [75, 80, 30, 1])[:3]), gather=ones).voxels != 1).all()


def test_a_patch_says_what_it_is():
    volume, seed = scan(AXIAL), seed_at((AXIAL @ [75, 80, 30, 1])[:3])
    patch = extract_patch(volume, seed, "centred")
    assert (patch.seed, patch.series_uid, patch.mode) == (seed, "1.2.840.1", Mode.CENTRED)
    assert extract_patch(volume, seed).mode is Mode.PUBLISHED
    assert hu(scale_hu(np.array([-1000], dtype=np.float32)))[0] == pytest.approx(-1000)


def test_a_mode_that_does_not_exist_is_named_with_those_that_do():
    for call in (extract_patch, resample_slab_of_one, affine_of):
        with pytest.raises(ConfigError, match=r"'nearest' \[mode\]: use one of: published, published-monai16, centred"):
            call(scan(AXIAL), seed_at((0, 0, 0)), "nearest")


def resample_slab_of_one(volume, _seed, mode):
    return resample_slab(volume, 0, 1, mode)


def affine_of(volume, seed, mode):
    return patch_affine(volume.grid, seed, mode)


@pytest.mark.parametrize(("axis", "offset"), [(axis, offset) for axis in range(3) for offset in (-30, 30)])
def test_how_far_a_seed_lies_outside_is_counted_from_the_nearest_voxel(axis, offset):
    """On a 1 mm scan of 40 voxels from 0 to 39 mm."""
    volume = scan(np.eye(4), shape=(40, 40, 40))
    place = np.full(3, 20.0)
    place[axis] = offset if offset < 0 else 39 + offset
    with pytest.raises(SeedOutsideVolumeError) as caught:
        extract_patch(volume, seed_at(place))
    assert "'GTV-1' lies 30 mm outside the CT" in caught.value.what
    assert caught.value.where == "SeriesInstanceUID 1.2.840.1"
    assert "FrameOfReferenceUID" in caught.value.fix
