"""Samples of a scan and its ROI on a plane that lies anywhere in the patient."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.conventions import AIR_HU
from fmcib_module.core.volume import Volume

Mask = tuple[int, NDArray[np.bool_]]
"""First slice, and (n_slices, J, I) bool: an ROI on the scan's grid."""

PARALLEL = 1e-9
"""Voxels per pixel below which a step does not follow a source axis: rounding noise."""

_Axes = list[NDArray[np.float64]]
_Indices = list[NDArray[np.intp]]
_Shares = list[NDArray[np.float32]]
_BoxReader = Callable[[slice, slice, slice], NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class PlaneSamples:
    """Samples in rows and columns.

    Attributes:
        hu: float32; `AIR_HU` where the scan has nothing.
        outside: Outside the scan's voxels.
        unread: Inside the scan, in slices that were not read.
        roi: Inside the ROI.
    """

    hu: NDArray[np.float32]
    outside: NDArray[np.bool_]
    unread: NDArray[np.bool_]
    roi: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class PartialScan:
    """Some slices of a scan; of these, only the voxels around a plane are read.

    Attributes:
        volume: The whole scan.
        first: First slice that may be read.
        stop: One past the last.
        mask: The ROI, None where there is none to show.
    """

    volume: Volume
    first: int
    stop: int
    mask: Mask | None

    def sample(self, corner_mm: NDArray[np.float64], steps_mm: NDArray[np.float64], size: int) -> PlaneSamples:
        """Trilinear samples at corner + row * steps[0] + column * steps[1].

        Args:
            corner_mm: (3,) LPS of the first sample.
            steps_mm: (2, 3) LPS step of a row and of a column.
            size: Rows and columns.
        """
        axes = self._source_indices(corner_mm, steps_mm, size)
        inside = [(a >= -0.5) & (a <= n - 0.5) for a, n in zip(axes, self.volume.grid.shape, strict=True)]
        is_read = (axes[0] >= self.first - 0.5) & (axes[0] <= self.stop - 0.5)
        shape = (size, size)
        outside = ~np.broadcast_to(inside[0] & inside[1] & inside[2], shape)
        unread = np.broadcast_to(~is_read, shape) & ~outside
        hu = np.full(shape, AIR_HU, dtype=np.float32)
        if self.stop > self.first:
            blank = outside | unread
            size_kji = (self.stop - self.first, *self.volume.grid.shape[1:])
            hu = np.where(blank, hu, trilinear(self._read, size_kji, [axes[0] - self.first, *axes[1:]], shape))
        return PlaneSamples(hu, outside, unread, self._roi(axes, shape))

    def _read(self, slices: slice, rows: slice, columns: slice) -> NDArray[np.float32]:
        """A box of the slices first..stop-1."""
        stop = min(self.first + slices.stop, self.stop)
        return self.volume.read_slab(self.first + slices.start, stop, rows, columns)

    def _source_indices(self, corner_mm: NDArray[np.float64], steps_mm: NDArray[np.float64], size: int) -> _Axes:
        """Continuous k, j, i of the samples; broadcastable, not full, where a source axis follows rows or columns."""
        to_ijk = np.linalg.inv(self.volume.grid.matrix)
        start = to_ijk[:3, :3] @ corner_mm + to_ijk[:3, 3]
        per_row, per_column = steps_mm @ to_ijk[:3, :3].T
        rows, columns = np.arange(size, dtype=np.float64)[:, None], np.arange(size, dtype=np.float64)[None, :]
        axes = []
        for axis in (2, 1, 0):
            along = np.full((1, 1), start[axis])
            if abs(per_row[axis]) > PARALLEL:
                along = along + per_row[axis] * rows
            if abs(per_column[axis]) > PARALLEL:
                along = along + per_column[axis] * columns
            axes.append(along)
        return axes

    def _roi(self, axes: _Axes, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Where the interpolated mask is at least one half: a smooth outline that encloses the same area."""
        if self.mask is None:
            return np.zeros(shape, dtype=bool)
        first, mask = self.mask
        from_first = axes[0] - first  # the ROI ends half a slice beyond its first and last one
        ends = np.broadcast_to((from_first < -0.5) | (from_first > len(mask) - 0.5), shape)

        def read(slices: slice, rows: slice, columns: slice) -> NDArray[np.float32]:
            return mask[slices, rows, columns].astype(np.float32)

        return (trilinear(read, mask.shape, [from_first, *axes[1:]], shape) >= 0.5) & ~ends


def trilinear(read: _BoxReader, size_kji: tuple[int, ...], axes: _Axes, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Trilinear samples; positions outside take the nearest voxel.

    Args:
        read: Gives the voxels of a box: slices, rows, columns.
        size_kji: (K, J, I) that there are.
        axes: Continuous k, j, i; together they broadcast to `shape`.
        shape: Rows and columns.
    """
    low, share = [], []
    for along, n in zip(axes, size_kji, strict=True):
        clipped = np.clip(along, 0, n - 1)
        whole = np.minimum(clipped.astype(np.intp), max(n - 2, 0))
        low.append(whole)
        share.append((clipped - whole).astype(np.float32))
    box = [slice(int(a.min()), int(a.max()) + 2) for a in low]
    touched = read(*box)
    low = [a - part.start for a, part in zip(low, box, strict=True)]
    if sum(a.size > 1 for a in low) == 2 and max(a.size for a in low) == max(shape):
        return _interpolate_in_turn(touched, low, share)
    return _interpolate_at_once(touched, low, share, shape)


def _interpolate_in_turn(voxels: NDArray[np.float32], low: _Indices, share: _Shares) -> NDArray[np.float32]:
    """One source axis follows the rows, one the columns, one neither: three short interpolations."""
    for axis in sorted(range(3), key=lambda axis: low[axis].size):
        below = low[axis].ravel()
        above = np.minimum(below + 1, voxels.shape[axis] - 1)
        weight = share[axis].reshape([-1 if n == axis else 1 for n in range(3)])
        voxels = np.take(voxels, below, axis) * (1 - weight) + np.take(voxels, above, axis) * weight
    row_axis = next(axis for axis in range(3) if low[axis].shape[0] > 1)
    flat = voxels.reshape([n for axis, n in enumerate(voxels.shape) if low[axis].size > 1])
    runs_down = all(low[axis].size == 1 for axis in range(row_axis))
    return flat if runs_down else flat.T


def _interpolate_at_once(
    voxels: NDArray[np.float32], low: _Indices, share: _Shares, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """The general case: eight taps for every sample."""
    total = np.zeros(shape, dtype=np.float32)
    for tap in np.ndindex(2, 2, 2):
        weights = [s if t else 1 - s for s, t in zip(share, tap, strict=True)]
        if all(np.any(weight) for weight in weights):  # a tap beyond a single slice weighs nothing
            k, j, i = (a + t for a, t in zip(low, tap, strict=True))
            total += weights[0] * weights[1] * weights[2] * voxels[k, j, i]
    return total
