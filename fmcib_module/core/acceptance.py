"""What an installation is checked on: patches that every machine makes alike, and scans that hold their positions."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.conventions import PATCH_SIZE, Mode
from fmcib_module.core.domain import Point, Seed
from fmcib_module.core.patch import Gather, extract_patch, scale_hu
from fmcib_module.core.volume import Grid, Volume

N_PATCHES: Final = 6

RADII: Final = (4, 7, 10, 14, 18, 23)
"""Of each patch's ball, voxels."""

RAMP_GRID: Final = Grid(
    shape=(60, 160, 140),
    affine=((0.7, 0.0, 0.0, -50.0), (0.0, 0.7, 0.0, -58.0), (0.0, 0.0, 2.0, -61.0), (0.0, 0.0, 0.0, 1.0)),
)
RAMP_SEED: Final[Point] = (-1.3, 2.6, -0.9)


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a verification.

    Attributes:
        name: What is checked.
        measured: The deviation found; None where the check could not be made.
        limit: Largest deviation that passes.
        unit: Of both.
        note: What was compared with what, or why it was not.
    """

    name: str
    measured: float | None
    limit: float
    unit: str
    note: str

    @property
    def passed(self) -> bool | None:
        """Whether the deviation is within the limit; None where there is none."""
        return None if self.measured is None else self.measured <= self.limit


def reference_patches() -> NDArray[np.float32]:
    """Balls of soft tissue in lung-like texture, scaled: (6, 50, 50, 50) float32.

    They are made of integers in Hounsfield units, so that every machine makes the same bits.
    """
    k, j, i = np.ogrid[:PATCH_SIZE, :PATCH_SIZE, :PATCH_SIZE]
    middle = PATCH_SIZE // 2
    squared = (k - middle) ** 2 + (j - middle) ** 2 + (i - middle) ** 2
    texture = ((k * 73 + 11) * (j * 31 + 7) * (i * 17 + 3)) % 97 - 48
    patches = []
    for number, radius in enumerate(RADII[:N_PATCHES]):
        surroundings = -820 + 120 * number + texture
        patches.append(np.where(squared <= radius**2, 40 + 5 * number + texture // 4, surroundings))
    return scale_hu(np.stack(patches).astype(np.float32))


def measure_patch_geometry(gather: Gather) -> tuple[float, float]:
    """Cut patches from three scans whose voxels hold their own x, y and z in mm.

    In the mode `published-monai16`, whose steps are exactly 1 mm; those of MONAI 1.4.0 are stretched by up to 1 %.

    Args:
        gather: Sampler of rotated grids, as in `extract_patch`.

    Returns:
        Largest distance of the patch's centre from the seed along an axis, and of its other voxels from where 1 mm
        steps from the centre put them, both in millimetres.
    """
    centre_mm, step_mm = 0.0, 0.0
    offsets = np.arange(PATCH_SIZE) - PATCH_SIZE // 2
    for axis in range(3):
        patch = extract_patch(_ramp(axis), Seed(RAMP_SEED, "ramp", ""), Mode.PUBLISHED_MONAI16, gather=gather)
        position_mm = patch.voxels.astype(np.float64) * 3072 - 1024  # written out, not `scale_hu` turned round
        middle = float(position_mm[(PATCH_SIZE // 2,) * 3])
        centre_mm = max(centre_mm, abs(middle - RAMP_SEED[axis]))
        shape = [1, 1, 1]
        shape[2 - axis] = PATCH_SIZE
        step_mm = max(step_mm, float(np.abs(position_mm - (middle + offsets.reshape(shape))).max()))
    return centre_mm, step_mm


def _ramp(axis: int) -> Volume:
    k, j, i = np.indices(RAMP_GRID.shape)
    index = (i, j, k)[axis]
    voxels = (RAMP_GRID.matrix[axis, 3] + RAMP_GRID.matrix[axis, axis] * index).astype(np.float32)
    return Volume.from_array(voxels, RAMP_GRID.matrix, "ramp")


def relative_deviation(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest relative L2 distance of a patch's features: |found - expected| / |expected|."""
    difference = np.linalg.norm(found.astype(np.float64) - expected, axis=1)
    return float(np.max(difference / np.linalg.norm(expected.astype(np.float64), axis=1)))
