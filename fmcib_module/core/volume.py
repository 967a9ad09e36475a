"""A CT volume that decodes only the slices asked for."""

from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.conventions import Flag

WHOLE: Final = slice(None)
"""All rows, or all columns."""


class SlabReader(Protocol):
    """Reads voxels of some slices."""

    def __call__(self, first: int, stop: int, rows: slice = WHOLE, columns: slice = WHOLE) -> NDArray[np.float32]:
        """Slices first..stop-1, and of these only some rows and columns: float32 Hounsfield units."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A uniform voxel grid.

    Attributes:
        shape: (K, J, I) = (slices, rows, columns).
        affine: 4 x 4 row tuples, maps (i, j, k, 1) to LPS mm at voxel centres (PS3.3 equation C.7.6.2.1-1).
            Columns are orthogonal: a sheared stack (gantry tilt) is not a Grid.
    """

    shape: tuple[int, int, int]
    affine: tuple[tuple[float, float, float, float], ...]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The affine as a (4, 4) float64 array."""
        return np.asarray(self.affine, dtype=np.float64)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """(between columns, between rows, between slices), millimetres."""
        x, y, z = np.linalg.norm(self.matrix[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @classmethod
    def from_matrix(cls, shape: tuple[int, int, int], matrix: NDArray[np.float64]) -> "Grid":
        """Build from a (4, 4) array that maps (i, j, k, 1) to LPS mm."""
        rows = tuple((float(r[0]), float(r[1]), float(r[2]), float(r[3])) for r in matrix)
        return cls(shape=shape, affine=rows)


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """CT in Hounsfield units on one uniform grid, read lazily.

    Attributes:
        grid: Where the voxels are.
        series_uid: SeriesInstanceUID, or an image file's safe name.
        read_slab: Decodes slices first..stop-1; of these it gives the rows and columns asked for.
        flags: What the reader had to do (resampled, split).
    """

    grid: Grid
    series_uid: str
    read_slab: SlabReader = field(repr=False)
    flags: tuple[Flag, ...] = ()

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4), maps (i, j, k, 1) to LPS mm at voxel centres."""
        return self.grid.matrix

    @property
    def voxels_hu(self) -> NDArray[np.float32]:
        """The whole volume, (K, J, I) float32 HU; decodes every slice."""
        return self.read_slab(0, self.grid.shape[0])

    @classmethod
    def from_array(cls, voxels_hu: NDArray[np.float32], affine: NDArray[np.float64], series_uid: str) -> "Volume":
        """Wrap voxels that are already in memory, (K, J, I), with their (4, 4) LPS affine."""

        def read_slab(first: int, stop: int, rows: slice = WHOLE, columns: slice = WHOLE) -> NDArray[np.float32]:
            return np.asarray(voxels_hu[first:stop, rows, columns], dtype=np.float32)

        k, j, i = voxels_hu.shape
        return cls(grid=Grid.from_matrix((k, j, i), affine), series_uid=series_uid, read_slab=read_slab)
