"""Rings in a plane -> area, first moment, inside or not, pixels; all by the even-odd rule.

A point is inside if a ray from it crosses the rings an odd number of times. So a nested ring is a hole whatever its
orientation, a keyhole's bridge encloses nothing, an island in a hole counts, and islands side by side add up. Rings
that cross enclose their symmetric difference (CLOSEDPLANAR_XOR by definition, PS3.3 C.8.8.6.3).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ON_RING = 0.03
"""A pixel centre closer than this to a ring, in pixels, is on it.

Rings traced through pixel centres miss them by about this much where PixelSpacing was rounded (0.9766 for 0.976562 mm,
over 512 pixels); counting them on one side and not on the other would shift the mask by half a pixel."""

_EPSILON = 1e-9
_MAX_SPLITS = 64


def area_and_moment(rings: Sequence[Array]) -> tuple[float, Array]:
    """Even-odd area of rings and its first moment, exact also where rings cross themselves or each other.

    The plane is cut into strips at every vertex (and crossing) height; in a strip the edges are sorted by u and
    alternate between entering and leaving, so each edge adds or subtracts the trapezoid to its left.

    Args:
        rings: (n, 2) each, mm.

    Returns:
        Area in mm2, and (2,) the integrals of u and v over it in mm3.
    """
    start, end = _edges(rings)
    if not len(start):
        return 0.0, np.zeros(2)
    heights = np.unique(np.concatenate([start[:, 1], end[:, 1]]))
    for _ in range(_MAX_SPLITS):
        strip, low, high = _cut_at(heights, start, end)
        order = np.lexsort((low + high, strip))
        strip, low, high = strip[order], low[order], high[order]
        crossings = _crossing_heights(heights, strip, low, high)
        if not len(crossings):
            break
        heights = np.unique(np.concatenate([heights, crossings]))
    rank = np.arange(len(strip)) - np.searchsorted(strip, strip)
    sign = np.where(rank % 2, 1.0, -1.0)
    bottom, top = heights[strip], heights[strip + 1]
    weight = sign * (top - bottom)
    area = float(weight @ (low + high)) / 2
    moment_u = weight @ (low * low + low * high + high * high) / 6
    moment_v = weight @ (bottom * (2 * low + high) + top * (low + 2 * high)) / 6
    return area, np.array([moment_u, moment_v])


def contains(rings: Sequence[Array], points: Array) -> NDArray[np.bool_]:
    """Which points are inside by the even-odd rule.

    Args:
        rings: (n, 2) each.
        points: (m, 2).

    Returns:
        (m,) bool.
    """
    start, end = _edges(rings)
    inside = np.zeros(len(points), dtype=bool)
    step = max(1, 4_000_000 // max(1, len(start)))  # a few tens of MB at a time
    for first in range(0, len(points), step):
        u, v = points[first : first + step, :1], points[first : first + step, 1:]
        spans = (start[:, 1] <= v) & (v < end[:, 1])
        slope = (end[:, 0] - start[:, 0]) / (end[:, 1] - start[:, 1])
        inside[first : first + step] = (spans & (start[:, 0] + (v - start[:, 1]) * slope > u)).sum(axis=1) % 2 == 1
    return inside


def fill(rings_ij: Sequence[Array], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose centre is inside the rings, or on a ring (`ON_RING`).

    Contours are often traced through pixel centres (PS3.3 C.8.8.6); each such pixel belongs to its ROI.

    Args:
        rings_ij: (n, 2) each, (column, row) index coordinates, integers at pixel centres.
        shape: (rows, columns).

    Returns:
        (rows, columns) bool.
    """
    filled = np.zeros(shape, dtype=bool)
    start, end = _edges(rings_ij)
    for shift in (-ON_RING, ON_RING):
        first = np.clip(np.ceil(start[:, 1] - shift), 0, shape[0]).astype(int)
        stop = np.clip(np.ceil(end[:, 1] - shift), 0, shape[0]).astype(int)
        count = np.maximum(stop - first, 0)
        edge = np.repeat(np.arange(len(start)), count)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
        column = start[edge, 0] + (row + shift - start[edge, 1]) * slope
        order = np.lexsort((column, row))
        row, column = row[order], column[order]
        enter = np.clip(np.ceil(column[0::2] - ON_RING), 0, shape[1]).astype(int)
        leave = np.clip(np.floor(column[1::2] + ON_RING) + 1, 0, shape[1]).astype(int)
        steps = np.zeros((shape[0], shape[1] + 1), dtype=np.int32)
        np.add.at(steps, (row[0::2], enter), 1)
        np.add.at(steps, (row[0::2], np.maximum(enter, leave)), -1)
        filled |= np.cumsum(steps, axis=1)[:, :-1] > 0
    for ring in rings_ij:
        column, row = _corner_pixels(ring, shape)
        filled[row, column] = True
    return filled


def _corner_pixels(ring: Array, shape: tuple[int, int]) -> NDArray[np.intp]:
    """Pixels (column, row) whose centre is a ring's corner, (2, n): above and below a tip, no row crosses the ring."""
    nearest = np.rint(ring).astype(np.intp)
    on = (np.abs(ring - nearest) < ON_RING) & (nearest >= 0) & (nearest < shape[::-1])
    return nearest[on.all(axis=1)].T


def _edges(rings: Sequence[Array]) -> tuple[Array, Array]:
    """Edges that are not level, each from its lower to its upper end, as two (n, 2) arrays."""
    closed = [ring for ring in rings if len(ring) > 1]
    if not closed:
        return np.empty((0, 2)), np.empty((0, 2))
    start = np.concatenate(closed)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in closed])
    rises = start[:, 1] < end[:, 1]
    lower, upper = np.where(rises[:, None], start, end), np.where(rises[:, None], end, start)
    keep = lower[:, 1] < upper[:, 1]
    return lower[keep], upper[keep]


def _cut_at(heights: Array, start: Array, end: Array) -> tuple[NDArray[np.intp], Array, Array]:
    """Cut edges at heights: strip number of each piece, and u at the piece's lower and upper end."""
    first, stop = np.searchsorted(heights, start[:, 1]), np.searchsorted(heights, end[:, 1])
    count = stop - first
    edge = np.repeat(np.arange(len(start)), count)
    strip = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
    low = start[edge, 0] + (heights[strip] - start[edge, 1]) * slope
    high = start[edge, 0] + (heights[strip + 1] - start[edge, 1]) * slope
    return strip, low, high


def _crossing_heights(heights: Array, strip: NDArray[np.intp], low: Array, high: Array) -> Array:
    """Heights at which neighbouring pieces of a strip, sorted by their middles, cross inside it."""
    low_gap, high_gap = np.diff(low), np.diff(high)
    together = strip[1:] == strip[:-1]
    crosses = together & (np.minimum(low_gap, high_gap) < -_EPSILON) & (np.maximum(low_gap, high_gap) > _EPSILON)
    share = low_gap[crosses] / (low_gap[crosses] - high_gap[crosses])
    bottom, top = heights[strip[1:][crosses]], heights[strip[1:][crosses] + 1]
    height = bottom + share * (top - bottom)
    return np.asarray(height[(height > bottom) & (height < top)])
