"""The 1 mm grid that the published pipeline resamples a scan onto, without resampling the scan.

Written from the mathematics of the published operations (MONAI Spacing with ``align_corners=True`` and linear
interpolation, then Orientation to LPS). Every quirk is kept, because it decides what the published features mean:

* the output grid is aligned with the RAS world axes; its origin is a corner voxel of the scan only if one corner is
  the minimum on all three axes within 1e-8 mm, else the grid is centred by voxel counts;
* MONAI up to 1.5 mixes pixel-edge normalisation with corner-aligned sampling, which moves content by up to
  (spacing - 1) / 2 mm towards the ends of the volume (`Mode.PUBLISHED`); MONAI 1.6 does not
  (`Mode.PUBLISHED_MONAI16`).

Column vectors, homogeneous 4 x 4 matrices, index order (i, j, k) for the scan and (x, y, z) for the patch grid.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.conventions import PATCH_SPACING_MM, Mode
from fmcib_module.core.volume import Grid

Matrix = NDArray[np.float64]

SPACING_TOLERANCE_MM = 1e-3
"""An axis whose spacing is this close to 1 mm keeps its spacing (MONAI SpatialResample, AFFINE_TOL)."""

CORNER_TOLERANCE_MM = 1e-8
"""A corner is taken as the grid's origin if it is the minimum on every axis within this (numpy allclose's atol)."""

SKIP_TOLERANCE = (1e-5, 1e-3)
"""(relative, absolute): if the scan is on the output grid within these, nothing is resampled."""

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True, eq=False)
class PatchGrid:
    """Where the resampled scan would lie.

    Attributes:
        size: Voxels along x, y, z of the LPS-ordered grid.
        to_ras_mm: (4, 4), grid index (x, y, z, 1) to RAS mm.
        to_source: (4, 4), grid index (x, y, z, 1) to the scan's continuous index (i, j, k, 1) where it is sampled.
        resampled: False if the scan already lies on the grid and its voxels are taken as they are.
    """

    size: tuple[int, int, int]
    to_ras_mm: Matrix
    to_source: Matrix
    resampled: bool


@lru_cache(maxsize=16)
def patch_grid(grid: Grid, mode: Mode) -> PatchGrid:
    """Derive the published output grid of a scan.

    Args:
        grid: The scan's grid; columns of its affine must be orthogonal.
        mode: `Mode.PUBLISHED` and `Mode.CENTRED` sample as MONAI 1.4.0, `Mode.PUBLISHED_MONAI16` as MONAI 1.6.

    Returns:
        The grid, in LPS index order.

    References:
        Pai et al. 2024, doi:10.1038/s42256-024-00807-9; MONAI 1.4.0 `data/utils.py` (compute_shape_offset,
        to_affine_nd), `transforms/spatial/functional.py` (spatial_resample, orientation), `networks/utils.py`.
    """
    source: Matrix = RAS_TO_LPS @ grid.matrix
    source_size = np.array(grid.shape[::-1])
    spacing = np.array(grid.spacing_mm)
    out_spacing = np.where(np.abs(spacing - PATCH_SPACING_MM) <= SPACING_TOLERANCE_MM, spacing, PATCH_SPACING_MM)
    out: Matrix = np.diag([*out_spacing, 1.0])
    size, origin = _aligned_box(source, source_size, out_spacing)
    out[:3, 3] = origin
    index_map: Matrix = np.asarray(np.linalg.solve(source, out), dtype=np.float64)
    relative, absolute = SKIP_TOLERANCE
    on_grid = np.allclose(source, out, relative, absolute) or np.allclose(index_map, np.eye(4), relative, absolute)
    if on_grid and np.array_equal(size, source_size):
        world, to_source, resampled = source, np.eye(4), False
    else:
        # not `out`: the published affine is the product, and its last bits decide int() on integer seeds
        world, resampled = _product(source, index_map), True
        to_source = index_map if mode is Mode.PUBLISHED_MONAI16 else _legacy_map(index_map, size, source_size)
    flip, lps_size = _lps_order(world, size)
    return PatchGrid(
        size=lps_size, to_ras_mm=_product(world, flip), to_source=_product(to_source, flip), resampled=resampled
    )


def _aligned_box(source: Matrix, source_size: NDArray[np.int_], out_spacing: Matrix) -> tuple[NDArray[np.int_], Matrix]:
    """Size (x, y, z) and RAS origin of the world-aligned grid that covers the scan's voxel centres."""
    corners = np.array([[*c, 1.0] for c in product(*((0.0, n - 1.0) for n in source_size))]).T
    scaled = (np.linalg.inv(np.diag([*out_spacing, 1.0])) @ source @ corners)[:3]
    size = np.rint(np.ptp(scaled, axis=1) + 1).astype(int)
    is_minimum = np.all(np.abs(scaled.min(axis=1, keepdims=True) - scaled) <= CORNER_TOLERANCE_MM, axis=0)
    if is_minimum.any():
        return size, (source @ corners[:, np.argmax(is_minimum)])[:3]
    return size, source[:3, :3] @ (source_size / 2) + source[:3, 3] - out_spacing * (size / 2)


def _legacy_map(index_map: Matrix, size: NDArray[np.int_], source_size: NDArray[np.int_]) -> Matrix:
    """The map that MONAI <= 1.5 really samples: Q . index_map . P with per-axis scales and offsets.

    P: k -> k m / (m - 1) - 1/2 (edge-normalised base grid built corner-aligned; k -> k where m is 1), and
    Q: s -> (s + 1/2) (n - 1) / n (edge-normalised source read corner-aligned).
    """
    before, after = np.eye(4), np.eye(4)
    for axis, (m, n) in enumerate(zip(size, source_size, strict=True)):
        if m > 1:
            before[axis, axis], before[axis, 3] = m / (m - 1), -0.5
        after[axis, axis] = (n - 1) / n
        after[axis, 3] = 0.5 * (n - 1) / n
    return _product(after, _product(index_map, before))


def _lps_order(world: Matrix, size: NDArray[np.int_]) -> tuple[Matrix, tuple[int, int, int]]:
    """Permutation and flips from LPS-ordered indices to the grid's own, with the LPS-ordered size.

    Each grid axis goes to the world axis that it follows most closely, the clearest axis first (the rule of
    nibabel's io_orientation: columns of the polar factor of the direction matrix).
    """
    left, _, right = np.linalg.svd(world[:3, :3] / np.linalg.norm(world[:3, :3], axis=0))
    rotation = left @ right
    flip = np.zeros((4, 4))
    flip[3, 3] = 1.0
    lps_size = [0, 0, 0]
    for axis in np.argsort(np.min(-(rotation**2), axis=0), kind="stable"):
        towards = int(np.argmax(np.abs(rotation[:, axis])))
        sign = np.sign(rotation[towards, axis]) * RAS_TO_LPS[towards, towards]
        rotation[towards, :] = 0.0
        lps_size[towards] = int(size[axis])
        flip[axis, towards] = sign
        flip[axis, 3] = size[axis] - 1.0 if sign < 0 else 0.0
    return flip, (lps_size[0], lps_size[1], lps_size[2])


def _product(a: Matrix, b: Matrix) -> Matrix:
    """Matrix product summed in index order, so that its bits do not depend on the BLAS that is installed."""
    total = a[:, :1] * b[:1, :]
    for n in range(1, a.shape[1]):
        total = total + a[:, n : n + 1] * b[n : n + 1, :]
    return total
