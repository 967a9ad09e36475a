"""Points anywhere in a patient's tissue: what lies around lesions, for an encoder that should tell them apart."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.cache import Index3

CELL: Final = 4
"""Edge of the cubes, mm, whose mean says whether there is tissue."""

LEAST_HU: Final = -200.0
"""Of that mean: fat and all that is denser."""


def draw_tissue_points(voxels_hu: NDArray[np.int16], n: int, rng: np.random.Generator) -> list[Index3]:
    """Draw centres of cubes of 4 mm that are tissue, each at most once, all equally likely.

    Args:
        voxels_hu: (Z, Y, X) HU, 1 mm.
        n: How many.
        rng: Draws.

    Returns:
        (z, y, x) voxels; fewer than n where the scan has fewer such cubes.
    """
    z, y, x = (size // CELL for size in voxels_hu.shape)
    whole = voxels_hu[: z * CELL, : y * CELL, : x * CELL]
    means = whole.reshape(z, CELL, y, CELL, x, CELL).mean(axis=(1, 3, 5), dtype=np.float32)
    cells = np.argwhere(means > LEAST_HU)
    chosen = cells[rng.permutation(len(cells))[:n]] * CELL + CELL // 2
    return [(int(z), int(y), int(x)) for z, y, x in chosen]
