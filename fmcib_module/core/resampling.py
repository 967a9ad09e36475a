"""Tilted, gapped or unevenly spaced stacks -> slabs of a uniform grid, linearly interpolated slice by slice."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.conventions import AIR_HU, Flag
from fmcib_module.core.stacking import Stack, grid_through, is_tilted, is_unevenly_spaced
from fmcib_module.core.volume import Grid

ReadSlice = Callable[[int], NDArray[np.float32]]
"""Source slice number -> (J, I) float32 HU."""

_ON_A_SAMPLE = 1e-6
"""Fraction of a pixel or step below which a sample is the source's own, not an interpolation."""


@dataclass(frozen=True, slots=True, eq=False)
class ResamplingPlan:
    """Where each voxel of a uniform grid is read from.

    Attributes:
        grid: The target. Its rows and columns cover every slice's field of view, so a tilted stack loses nothing.
        flags: What is undone.
        distances_mm: (K,) positions of the source slices along the normal.
        starts: (K, 2) continuous (column, row) index in each source slice of the target's first pixel.
        step_mm: Spacing of the target's slices.
    """

    grid: Grid
    flags: tuple[Flag, ...]
    distances_mm: NDArray[np.float64]
    starts: NDArray[np.float64]
    step_mm: float


def plan_resampling(stack: Stack) -> ResamplingPlan:
    """Lay a uniform grid over an irregular stack, spaced as most of its slices are.

    The first slice's first voxel is a voxel of the grid. Where the stack is not tilted, in-plane positions are kept.
    """
    tilted = is_tilted(stack)
    flags = ((Flag.GANTRY_TILT_RESAMPLED,) if tilted else ()) + (
        (Flag.SPACING_RESAMPLED,) if is_unevenly_spaced(stack) else ()
    )
    step = stack.step_mm
    slices = int(np.floor(stack.distances_mm[-1] / step + _ON_A_SAMPLE)) + 1
    between_rows, between_columns = stack.instances[0].spacing_mm
    shifts = stack.shifts_mm / (between_columns, between_rows) if tilted else np.zeros_like(stack.shifts_mm)
    first = np.floor(shifts.min(axis=0) + _ON_A_SAMPLE)
    grown = np.ceil(shifts.max(axis=0) - _ON_A_SAMPLE) - first
    grid = grid_through(stack, step_mm=step, slices=slices)
    matrix = grid.matrix
    matrix[:3, 3] += matrix[:3, :2] @ first
    _, rows, columns = grid.shape
    shape = (slices, rows + int(grown[1]), columns + int(grown[0]))
    return ResamplingPlan(
        grid=Grid.from_matrix(shape, matrix),
        flags=flags,
        distances_mm=stack.distances_mm,
        starts=first - shifts,
        step_mm=step,
    )


def resample_slab(plan: ResamplingPlan, first: int, stop: int, read_slice: ReadSlice) -> NDArray[np.float32]:
    """Interpolate slices first..stop-1 of the target grid.

    Each target slice mixes the two source slices around it, both sampled bilinearly at the same patient positions:
    a trilinear interpolation that returns any linear function of position exactly. Outside a slice's field of view
    its value is `AIR_HU`.

    Args:
        plan: From `plan_resampling`.
        first: First target slice.
        stop: One past the last.
        read_slice: Gives source slices; called only for those needed.

    Returns:
        (stop - first, J, I) float32 HU.
    """
    _, rows, columns = plan.grid.shape
    slab = np.empty((max(stop - first, 0), rows, columns), dtype=np.float32)
    for k in range(first, stop):
        below, share = _neighbours(plan, k)
        value = (1.0 - share) * _sample(read_slice(below), plan.starts[below], (rows, columns))
        if share > 0.0:
            value += share * _sample(read_slice(below + 1), plan.starts[below + 1], (rows, columns))
        slab[k - first] = value
    return slab


def _neighbours(plan: ResamplingPlan, k: int) -> tuple[int, float]:
    """The source slice below target slice k, and the share of the one above it."""
    distance = k * plan.step_mm
    last = len(plan.distances_mm) - 1
    below = int(np.clip(np.searchsorted(plan.distances_mm, distance, side="right") - 1, 0, last))
    if below == last:
        return last, 0.0
    gap = plan.distances_mm[below + 1] - plan.distances_mm[below]
    share = float((distance - plan.distances_mm[below]) / gap)
    if share > 1.0 - _ON_A_SAMPLE:
        return below + 1, 0.0
    return below, share if share > _ON_A_SAMPLE else 0.0


def _sample(source: NDArray[np.float32], start: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Bilinear samples of a slice at (start row + j, start column + i); the fractions are the same for all pixels."""
    along_rows = _shift(source.astype(np.float64), float(start[1]), shape[0])
    return _shift(along_rows.T, float(start[0]), shape[1]).T


def _shift(source: NDArray[np.float64], start: float, count: int) -> NDArray[np.float64]:
    """Linear samples along the first axis at start, start + 1, ...; AIR_HU where that is outside the source."""
    nearest = round(start)
    if abs(start - nearest) < _ON_A_SAMPLE:
        start = float(nearest)
    whole = int(np.floor(start))
    share = start - whole
    inside = np.arange(count) + whole
    last = len(source) - 1
    inside_mask = (inside >= 0) & (inside + (share > 0.0) <= last)
    result = np.full((count, *source.shape[1:]), AIR_HU)
    low = inside[inside_mask]
    result[inside_mask] = source[low]
    if share > 0.0:
        result[inside_mask] += share * (source[low + 1] - source[low])
    return result
