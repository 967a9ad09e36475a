"""Rules for patches and grids, on values that are known by construction."""

from pathlib import Path

import numpy as np
import pytest

from fmcib_module.core.checks import PatchMeasures, flag_patch, flag_spacing, looks_like_hounsfield, measure_patch
from fmcib_module.core.conventions import Flag
from fmcib_module.core.domain import Instance, Patch, Seed
from fmcib_module.core.patch import extract_patch, scale_hu
from fmcib_module.core.volume import Volume
from tests.phantoms import phantom_grid

SEED = Seed((0.0, 0.0, 0.0), "GTV-1", "1.2.3")


def _patch(hu: np.ndarray, outside_share: float = 0.0) -> Patch:
    voxels = scale_hu(np.broadcast_to(hu, (50, 50, 50)).astype(np.float32))
    return Patch(voxels, SEED, "1.2.3", outside_share=outside_share)


def _noise(mean: float, sd: float) -> np.ndarray:
    return np.random.default_rng(0).normal(mean, sd, (50, 50, 50))


@pytest.mark.parametrize(
    ("hu", "plausible"),
    [
        (_noise(40, 10), True),
        (_noise(-1000, 60), True),  # air of a low-dose scan that is not clipped
        (_noise(300, 200), True),  # bone
        (np.where(_noise(0, 1) > 2.6, 9000.0, _noise(50, 10)), True),  # a few voxels of metal
        (np.where(np.arange(50) < 5, -3024.0, _noise(40, 10)), False),  # outside the reconstruction circle
        (_noise(40 + 1024, 10), False),  # no RescaleIntercept
        (_noise(0.3, 0.1), False),  # normalised
        (np.full((50, 50, 50), 17.0), False),
    ],
    ids=["soft tissue", "air", "bone", "metal", "circle", "no intercept", "normalised", "constant"],
)
def test_values_that_no_ct_of_a_patient_has_are_told_from_those_it_has(hu, plausible):
    patch = _patch(hu)
    assert looks_like_hounsfield(patch.voxels) is plausible
    assert (Flag.NOT_HOUNSFIELD in flag_patch(patch, measure_patch(patch))) is not plausible


def test_padding_outside_the_scan_hides_no_implausible_values():
    hu = np.full((50, 50, 50), 17.0)
    hu[:40] = -1024.0
    assert not looks_like_hounsfield(_patch(hu).voxels)


def test_shares_are_counted_inside_the_scan():
    hu = np.full((50, 50, 50), -1024.0)  # 30 slices outside the scan, 10 of lung, 10 of muscle
    hu[30:40], hu[40:] = -850, 50
    assert measure_patch(_patch(hu, outside_share=0.6)) == PatchMeasures(outside_share=0.6, tissue_share=0.5)


def test_a_patch_of_a_cut_scan_knows_how_much_of_it_lies_outside():
    grid = phantom_grid((80, 80, 80), (1.0, 1.0, 1.0), "axial", centre=(0.0, 0.0, 0.0))
    volume = Volume.from_array(np.full(grid.shape, 50, np.float32), grid.matrix, "1.2.3")
    patch = extract_patch(volume, Seed((0.0, 0.0, -30.0), "low", ""), mode="centred")  # index 10: 15 slices missing
    assert measure_patch(patch) == PatchMeasures(outside_share=0.3, tissue_share=1.0)


def test_a_seed_in_air_is_flagged_and_one_in_lung_with_vessels_is_not():
    hu = _noise(-900, 20)
    for vessels, flagged in ((0.0, True), (0.005, True), (0.03, False)):
        here = hu.copy()
        here.ravel()[: int(vessels * hu.size)] = 40
        patch = _patch(here)
        assert (Flag.LOW_TISSUE in flag_patch(patch, measure_patch(patch))) is flagged


@pytest.mark.parametrize(
    ("ball_hu", "moved_mm", "flagged"),
    [
        (40, 0, False),  # a solid nodule in lung
        (-600, 0, False),  # ground glass
        (40, 60, True),
        (40, 8, True),
        (40, 4, False),
    ],
)
def test_a_seed_that_missed_a_nodule_in_lung_is_flagged(ball_hu, moved_mm, flagged):
    grid = phantom_grid((90, 90, 150), (1.0, 1.0, 1.0), "axial", centre=(0.0, 0.0, 0.0))
    k, j, i = np.indices(grid.shape)
    hu = np.where((k - 45) ** 2 + (j - 45) ** 2 + (i - 40) ** 2 <= 5**2, ball_hu, -850).astype(np.float32)
    hu[:, :, 140:] = 40  # the chest wall: the patch as a whole holds tissue
    hu[4::9, 4::9] = 40  # vessels, none within 2 mm of a seed
    volume = Volume.from_array(hu, grid.matrix, "1.2.3")
    seed = Seed((40.0 - 75.0 + moved_mm, 0.0, 0.0), "nodule", "")
    for mode in ("published", "centred"):
        patch = extract_patch(volume, seed, mode=mode)
        found = flag_patch(patch, measure_patch(patch))
        assert (Flag.SEED_IN_AIR in found, Flag.LOW_TISSUE in found) == (flagged, False)


def test_what_lies_outside_the_scan_is_no_air_at_the_seed():
    hu = np.full((50, 50, 50), -1024.0)
    hu[25] = 40  # one slice
    patch = _patch(hu, outside_share=0.98)
    assert Flag.SEED_IN_AIR not in flag_patch(patch, measure_patch(patch))


@pytest.mark.parametrize(
    ("spacing", "thickness", "flagged"),
    [
        ((0.8, 0.8, 3.0), None, False),
        ((0.8, 0.8, 3.0004), 3.0, False),
        ((0.8, 0.8, 3.27), None, True),
        ((0.8, 0.8, 2.5), 5.0, True),  # overlapping thick slices
        ((3.5, 3.5, 3.0), None, True),
    ],
)
def test_spacing_and_thickness_above_3_mm_are_flagged(spacing, thickness, flagged):
    grid = phantom_grid((4, 4, 4), spacing, "coronal")
    instance = Instance(
        Path("a"), "1", "2", None, (0, 0, 0), (1, 0, 0, 0, 1, 0), spacing[:2], (4, 4), slice_thickness_mm=thickness
    )
    assert flag_spacing(grid, [instance]) == ((Flag.COARSE_SPACING,) if flagged else ())
