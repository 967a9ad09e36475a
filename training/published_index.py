"""The voxel at which the published training loader cuts a lesion, for those who want its patches as they were."""

import numpy as np

from fmcib_module.core.conventions import Mode
from fmcib_module.core.domain import Point
from fmcib_module.core.patch_grid import patch_grid
from fmcib_module.core.volume import Grid


def published_index(grid: Grid, lps_mm: Point, mode: Mode) -> tuple[int, int, int]:
    """Voxel (x, y, z) of the resampled scan at which the published training loader centres a patch.

    It takes the index along the scan's own axes at 1 mm, and then uses these three numbers on the scan reoriented to
    LPI (x towards left, y towards posterior, z towards inferior). That is the lesion only where the scan is stored in
    this order; along every axis that runs the other way the patch is mirrored in the scan.

    Args:
        grid: The scan's grid.
        lps_mm: The seed.
        mode: As in `patch_grid`, whose grid the index is given on.

    References:
        fmcib 1.0.0 `datasets/ssl_radiomics_dataset.py`, lines 158-168.
    """
    i, j, k, _ = np.linalg.solve(grid.matrix, np.array([*lps_mm, 1.0]))
    x, y, towards_inferior = (int(index * spacing) for index, spacing in zip((i, j, k), grid.spacing_mm, strict=True))
    # the patch is [c - 25, c + 25) towards inferior, which is [n - c - 25, n - c + 25) towards superior
    return x, y, patch_grid(grid, mode).size[2] - towards_inferior
