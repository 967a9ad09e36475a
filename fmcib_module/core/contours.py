"""Closed planar contours in space -> area, centroid, extent, raster.

What is inside the contours of a plane is decided by the even-odd rule (polygons.py).

Contour points are pixel-centre coordinates (PS3.3 C.8.8.6): a contour traced through the outermost pixel centres
encloses half a pixel less all around than the mask it was traced from, which leaves the centroid where it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.centroid import crop_slices, index_box
from fmcib_module.core.domain import Point
from fmcib_module.core.polygons import Array, area_and_moment, contains, fill
from fmcib_module.core.volume import Grid

SAME_PLANE_MM = 0.1
"""Contours closer than this along the normal lie on one plane; no CT has thinner slices."""

SAME_DIRECTION = 0.999
"""Cosine (2.6 degrees) above which two contours have one normal."""

SAME_POINT_MM = 1e-3
"""Points closer than this are one point; DICOM's decimal strings rarely say more."""

_PARALLEL = 1 - 1e-5
_NOTHING_MM3 = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """The contours of one plane, as rings of the plane's own coordinates.

    Attributes:
        offset_mm: Position along the stack's normal, relative to the stack's origin.
        rings: (n, 2) each, (u, v) in mm relative to the stack's origin; not repeated at the end.
        below_mm: How far the plane's slab reaches towards the plane before.
        above_mm: How far the plane's slab reaches towards the plane after.
    """

    offset_mm: float
    rings: tuple[Array, ...]
    below_mm: float
    above_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class ContourStack:
    """All contours of an ROI that share one normal.

    Attributes:
        origin_mm: (3,) LPS.
        axes: (3, 3), rows u, v, normal: orthonormal, right-handed, LPS.
        planes: Sorted by offset.
        spacing_mm: Median distance between planes; 0 where there is one plane of unknown thickness.
        lower_mm: (3,) smallest x, y, z of the contour points, LPS.
        upper_mm: (3,) largest x, y, z.
    """

    origin_mm: Array
    axes: Array
    planes: tuple[Plane, ...]
    spacing_mm: float
    lower_mm: Array
    upper_mm: Array

    @property
    def extent_mm(self) -> Point:
        """Size of the contour points' bounding box along x, y, z; slabs are not added."""
        x, y, z = self.upper_mm - self.lower_mm
        return float(x), float(y), float(z)


@dataclass(frozen=True, slots=True)
class ContourCentroid:
    """Where a stack's centre is.

    Attributes:
        lps_mm: Centroid.
        volume_mm3: Sum of area x slab thickness.
        is_inside: Whether the centroid lies inside the contours.
    """

    lps_mm: Point
    volume_mm3: float
    is_inside: bool


def stack_contours(
    contours: Sequence[Array], *, keep_duplicates: bool = False, slice_spacing_mm: float = 0.0
) -> tuple[ContourStack, ...]:
    """Group closed contours by normal, then by plane.

    A plane's slab reaches half-way to each neighbour, but never farther than half the median spacing, and half the
    median spacing beyond the first and last plane. So planes missing in between stay empty, as they do in a mask,
    and planes drawn closer together do not count twice.

    Args:
        contours: (n, 3) each, LPS mm, any plane orientation. A repeated closing point is dropped, a contour that
            encloses nothing (fewer than three points, or all on one line) is left out.
        keep_duplicates: Keep a contour that has the same points as another; under XOR the two cancel out.
        slice_spacing_mm: Thickness of the slab where there is one plane only; 0 where unknown.

    Returns:
        One stack per normal, the largest volume first; empty if no contour encloses anything.
    """
    rings = [_without_repeats(points) for points in (contours if keep_duplicates else _without_duplicates(contours))]
    groups: list[tuple[Array, list[Array]]] = []
    for ring in sorted(rings, key=_size_mm, reverse=True):  # the largest ring knows its normal best
        normal = fit_normal(ring)
        if normal is None:
            continue
        for other, members in groups:
            if abs(float(normal @ other)) > SAME_DIRECTION:
                members.append(ring)
                break
        else:
            groups.append((normal, [ring]))
    stacks = [_build_stack(members, normal, slice_spacing_mm) for normal, members in groups]
    return tuple(sorted(stacks, key=lambda stack: -_volume_and_moment(stack)[0]))


def fit_normal(points: Array) -> Array | None:
    """Unit normal of the plane that fits points best, (3,), or None if they are on one line.

    Args:
        points: (n, 3) LPS mm.
    """
    if len(points) < 3:
        return None
    _, size, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    return None if size[1] < SAME_POINT_MM else np.asarray(axes[2])


def compute_centroid(stack: ContourStack) -> ContourCentroid | None:
    """Centroid of a stack: each plane's area and first moment, times its slab's thickness.

    Returns:
        None if the contours enclose nothing (they cancel out).
    """
    volume, moment = _volume_and_moment(stack)
    if volume <= _NOTHING_MM3:
        return None
    uvw = moment / volume
    x, y, z = stack.origin_mm + uvw @ stack.axes
    reach = stack.spacing_mm / 2 + SAME_PLANE_MM
    near = [plane for plane in stack.planes if abs(plane.offset_mm - uvw[2]) <= reach]
    is_inside = any(bool(contains(plane.rings, uvw[None, :2])[0]) for plane in near)
    return ContourCentroid((float(x), float(y), float(z)), volume, is_inside)


def rasterise(stack: ContourStack, grid: Grid) -> tuple[int, NDArray[np.bool_]] | None:
    """Voxels of a grid whose centre is inside the contours.

    Slabs are half-open, so that planes half-way between slices fill as many slices as there are planes.

    Args:
        stack: Contours, in any plane.
        grid: Where the mask is wanted.

    Returns:
        The first slice, and (n_slices, J, I) bool for the slices between the stack's ends; None if no voxel is inside.
    """
    low, high = _box_of(stack, grid)
    if (low >= high).any():
        return None
    mask = np.zeros((high[2] - low[2], *grid.shape[1:]), dtype=bool)
    is_parallel = abs(float(stack.axes[2] @ _unit(grid.matrix[:3, 2]))) > _PARALLEL
    for n, k in enumerate(range(low[2], high[2])):
        if is_parallel:
            mask[n] = _fill_slice(stack, grid, k)
        else:
            mask[n, low[1] : high[1], low[0] : high[0]] = _test_slice(stack, grid, k, low, high)
    cropped = crop_slices(mask)
    return None if cropped is None else (int(low[2]) + cropped[0], cropped[1])


def _box_of(stack: ContourStack, grid: Grid) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    reach = np.abs(stack.axes[2]) * _reach_mm(stack, grid)
    corners = np.array(np.meshgrid(*zip(stack.lower_mm - reach, stack.upper_mm + reach, strict=True)))
    return index_box(corners.reshape(3, 8).T, grid)


def _reach_mm(stack: ContourStack, grid: Grid) -> float:
    """Half a slab; for a single plane of unknown thickness, half the grid's step along its normal."""
    return stack.spacing_mm / 2 or float(np.abs(stack.axes[2] @ grid.matrix[:3, :3]).max()) / 2


def _is_in_slab(stack: ContourStack, plane: Plane, offset_mm: Array, grid: Grid) -> NDArray[np.bool_]:
    half = _reach_mm(stack, grid)
    below, above = plane.below_mm or half, plane.above_mm or half
    start, stop = plane.offset_mm - below - SAME_POINT_MM, plane.offset_mm + above - SAME_POINT_MM
    return (start <= offset_mm) & (offset_mm < stop)


def _fill_slice(stack: ContourStack, grid: Grid, k: int) -> NDArray[np.bool_]:
    """One slice of a grid whose slices are parallel to the contours, (J, I) bool."""
    matrix = grid.matrix
    center = np.array([(grid.shape[2] - 1) / 2, (grid.shape[1] - 1) / 2, k, 1.0])
    offset = np.atleast_1d(((matrix @ center)[:3] - stack.origin_mm) @ stack.axes[2])
    filled = np.zeros(grid.shape[1:], dtype=bool)
    for plane in stack.planes:
        if _is_in_slab(stack, plane, offset, grid)[0]:
            base = stack.origin_mm + plane.offset_mm * stack.axes[2] - matrix[:3, 3]
            rings = [np.linalg.solve(matrix[:3, :3], (base + uv @ stack.axes[:2]).T)[:2].T for uv in plane.rings]
            filled |= fill(rings, (grid.shape[1], grid.shape[2]))
    return filled


def _test_slice(
    stack: ContourStack, grid: Grid, k: int, low: NDArray[np.intp], high: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Part of a slice of a grid in any orientation, voxel by voxel, (rows, columns) bool."""
    j, i = np.mgrid[low[1] : high[1], low[0] : high[0]]
    ijk = np.stack([i.ravel(), j.ravel(), np.full(i.size, k)], axis=1)
    matrix = grid.matrix
    uvw = (ijk @ matrix[:3, :3].T + matrix[:3, 3] - stack.origin_mm) @ stack.axes.T
    inside = np.zeros(len(ijk), dtype=bool)
    for plane in stack.planes:
        near = np.flatnonzero(_is_in_slab(stack, plane, uvw[:, 2], grid))
        if len(near):
            inside[near] |= contains(plane.rings, uvw[near, :2])
    return inside.reshape(i.shape)


def _unit(vector: Array) -> Array:
    return np.asarray(vector / np.linalg.norm(vector))


def _size_mm(points: Array) -> float:
    return float(np.linalg.norm(np.ptp(points, axis=0))) if len(points) else 0.0


def _build_stack(contours: list[Array], normal: Array, slice_spacing_mm: float) -> ContourStack:
    points = np.concatenate(contours)
    origin = points.mean(axis=0)
    axes = _axes(normal)
    offsets = np.array([(ring - origin).mean(axis=0) @ axes[2] for ring in contours])
    order = np.argsort(offsets, kind="stable")
    starts = np.flatnonzero(np.diff(offsets[order], prepend=-np.inf) > SAME_PLANE_MM)
    members = np.split(order, starts[1:])
    heights = np.array([offsets[indices].mean() for indices in members])
    gaps = np.diff(heights)
    spacing = float(np.median(gaps)) if len(gaps) else slice_spacing_mm
    reach = np.minimum(np.concatenate([[spacing], gaps, [spacing]]), spacing) / 2
    planes = tuple(
        Plane(
            offset_mm=float(heights[n]),
            rings=tuple((contours[index] - origin) @ axes[:2].T for index in indices),
            below_mm=float(reach[n]),
            above_mm=float(reach[n + 1]),
        )
        for n, indices in enumerate(members)
    )
    return ContourStack(origin, axes, planes, spacing, points.min(axis=0), points.max(axis=0))


def _volume_and_moment(stack: ContourStack) -> tuple[float, Array]:
    """Volume in mm3 and its first moment in the stack's (u, v, normal).

    A single plane of unknown thickness counts as 1 mm thick here, so that it has a centroid.
    """
    volume, moment = 0.0, np.zeros(3)
    for plane in stack.planes:
        thickness = plane.below_mm + plane.above_mm or 1.0
        area, (moment_u, moment_v) = area_and_moment(plane.rings)
        volume += area * thickness
        moment += thickness * np.array([moment_u, moment_v, area * plane.offset_mm])
    return volume, moment


def _axes(normal: Array) -> Array:
    """Rows u, v, normal; the normal points along its largest positive component."""
    largest = int(np.argmax(np.abs(normal)))
    normal = normal * np.sign(normal[largest])
    helper = np.eye(3)[(largest + 1) % 3]
    u = helper - (helper @ normal) * normal
    u /= np.linalg.norm(u)
    return np.stack([u, np.cross(normal, u), normal])


def _without_repeats(points: Array) -> Array:
    """Drop points equal to the one before, and a closing point equal to the first."""
    if len(points) < 2:
        return points
    is_new = np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1) > SAME_POINT_MM
    return np.asarray(points[is_new])


def _without_duplicates(contours: Sequence[Array]) -> list[Array]:
    """Drop contours that have the same points as an earlier one, in whatever order."""
    seen: dict[bytes, Array] = {}
    for points in contours:
        steps = np.unique(np.round(points / SAME_POINT_MM).astype(np.int64), axis=0)
        seen.setdefault(steps.tobytes(), points)
    return list(seen.values())
