"""What looks unusual about a scan or a patch, by rules that are few, fixed and written out here."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.conventions import AIR_HU, HU_RANGE, PUBLISHED_SPACING_MM, Flag
from fmcib_module.core.domain import Instance, Patch
from fmcib_module.core.volume import Grid

SPACING_ROUNDING_MM: Final = 1e-3
"""Spacing is a mean over positions that are written with a few decimals."""

TISSUE_HU: Final = -300.0
"""Above it: soft tissue, fluid, fat, bone, metal. Below: lung and air."""

LOW_TISSUE_SHARE: Final = 0.01
"""A 50 mm cube inside a healthy lung holds several per cent of vessels; one beside the patient holds less."""

AROUND_SEED_MM: Final = 2
"""On each side: a cube of 5 mm, smaller than lesions that are measured."""

AERATED_HU: Final = -700.0
"""Healthy lung lies below it, ground-glass lesions above."""

HOUNSFIELD_LIMITS: Final = (-1500.0, 4000.0)
"""12-bit CT ends at -1024 and 3071 HU; more on both sides is noise in air, up to here, and metal."""

BEYOND_SHARE: Final = 0.01
"""Metal reaches beyond, in fewer voxels than this."""

LEAST_SPREAD_HU: Final = 2.0
"""Any scan's noise is larger; values that were scaled to 0..1 or -1..1 are not."""

MEDIAN_LIMIT_HU: Final = 600.0
"""No 50 mm of a body are dense bone by half; soft tissue without its RescaleIntercept lies near 1,000."""


@dataclass(frozen=True, slots=True)
class PatchMeasures:
    """What a patch holds.

    Attributes:
        outside_share: Share of its voxels outside the scan, 0..1.
        tissue_share: Share of its voxels inside the scan above `TISSUE_HU`, 0..1.
    """

    outside_share: float
    tissue_share: float


def measure_patch(patch: Patch) -> PatchMeasures:
    """Shares of a patch; they go to the ledger for every lesion."""
    inside = patch.voxels.size * (1 - patch.outside_share)
    tissue = int(np.count_nonzero(patch.voxels > (TISSUE_HU - AIR_HU) / HU_RANGE))  # outside the scan is air
    return PatchMeasures(round(patch.outside_share, 6), round(min(tissue / inside, 1.0), 6) if inside else 0.0)


def flag_patch(patch: Patch, measures: PatchMeasures) -> tuple[Flag, ...]:
    """What a reader should know of a patch."""
    found = {
        Flag.NEAR_BORDER: measures.outside_share > 0,
        Flag.LOW_TISSUE: measures.tissue_share < LOW_TISSUE_SHARE,
        Flag.SEED_IN_AIR: _is_aerated(patch),
        Flag.NOT_HOUNSFIELD: not looks_like_hounsfield(patch.voxels),
    }
    return tuple(flag for flag, holds in found.items() if holds)


def _is_aerated(patch: Patch) -> bool:
    """Whether the scan around the seed is air or healthy lung on average; outside the scan nothing is measured."""
    around = tuple(slice(max(at - AROUND_SEED_MM, 0), at + AROUND_SEED_MM + 1) for at in patch.seed_index_kji)
    cube = patch.voxels[around]
    measured = cube[cube != 0.0]
    return bool(measured.size) and float(measured.mean()) < (AERATED_HU - AIR_HU) / HU_RANGE


def looks_like_hounsfield(voxels: NDArray[np.float32]) -> bool:
    """Whether a patch's values can be Hounsfield units.

    Not so where more than 1 % lies beyond -1500..4000 HU (a reconstruction circle that is not marked as padding, a
    rescale that was applied twice), where nothing differs by 2 HU (a constant or normalised image), or where the
    median is above 600 HU (no RescaleIntercept). A scan whose values are wrong in a subtler way is not found.

    Args:
        voxels: Of a patch, scaled. Voxels of exactly -1024 HU are left out: outside the scan nothing is measured.
    """
    hu = voxels[voxels != 0.0] * np.float32(HU_RANGE) + np.float32(AIR_HU)
    if hu.size == 0:
        return True
    low, high = HOUNSFIELD_LIMITS
    beyond = np.count_nonzero((hu < low) | (hu > high)) / hu.size
    return bool(
        beyond <= BEYOND_SHARE and hu.max() - hu.min() >= LEAST_SPREAD_HU and float(np.median(hu)) <= MEDIAN_LIMIT_HU
    )


def flag_spacing(grid: Grid, instances: Iterable[Instance] = ()) -> tuple[Flag, ...]:
    """Whether voxels, or the slices that they stand for, are larger than those of the scans that the paper used."""
    thickness = (one.slice_thickness_mm or 0.0 for one in instances)
    largest = max(*grid.spacing_mm, *thickness)
    return (Flag.COARSE_SPACING,) if largest > PUBLISHED_SPACING_MM + SPACING_ROUNDING_MM else ()
