"""Masks or weights on voxel grids -> centroid, extent, volume."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.domain import Point
from fmcib_module.core.volume import Grid

Array = NDArray[np.float64]
Weights = NDArray[np.bool_] | NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A piece of an ROI on its own voxel grid: a whole mask, or one frame of a SEG.

    Attributes:
        weights: (K, J, I), 0 outside; bool, or the share of each voxel that belongs to the ROI, 0..1.
        affine: (4, 4), maps (i, j, k, 1) to LPS mm at voxel centres.
    """

    weights: Weights
    affine: Array


@dataclass(frozen=True, slots=True)
class MaskCentroid:
    """Where an ROI's centre is.

    Attributes:
        lps_mm: Mean of the voxel centres, weighted.
        extent_mm: Bounding box of the voxels with weight > 0 along x, y, z, from voxel edge to voxel edge.
        volume_mm3: Sum of weight x voxel volume.
        is_inside: Whether the voxel at the centroid has weight > 0.
    """

    lps_mm: Point
    extent_mm: Point
    volume_mm3: float
    is_inside: bool


def crop(weights: Weights, affine: Array) -> Block | None:
    """Cut a block to its voxels with weight > 0.

    Args:
        weights: (K, J, I).
        affine: (4, 4), maps (i, j, k, 1) to LPS mm.

    Returns:
        None if all weights are 0.
    """
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        used = np.flatnonzero((weights > 0).any(axis=others))
        if not len(used):
            return None
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ [box[2].start, box[1].start, box[0].start]
    cut = weights[box[0], box[1], box[2]]
    return Block(cut.copy(), moved)


def compute_mask_centroid(blocks: Sequence[Block]) -> MaskCentroid | None:
    """Centroid of an ROI made of blocks that do not share a voxel.

    Returns:
        None if no voxel has weight > 0.
    """
    volume, moment = 0.0, np.zeros(3)
    lower, upper = np.full(3, np.inf), np.full(3, -np.inf)
    for block in blocks:
        k, j, i = np.nonzero(block.weights > 0)
        if not len(k):
            continue
        weights = block.weights[k, j, i].astype(np.float64)
        centers = np.stack([i, j, k], axis=1) @ block.affine[:3, :3].T + block.affine[:3, 3]
        share = weights * abs(float(np.linalg.det(block.affine[:3, :3])))
        volume += float(share.sum())
        moment += share @ centers
        half = np.abs(block.affine[:3, :3]).sum(axis=1) / 2
        lower = np.minimum(lower, centers.min(axis=0) - half)
        upper = np.maximum(upper, centers.max(axis=0) + half)
    if volume <= 0:
        return None
    x, y, z = moment / volume
    width, depth, height = upper - lower
    return MaskCentroid(
        lps_mm=(float(x), float(y), float(z)),
        extent_mm=(float(width), float(depth), float(height)),
        volume_mm3=volume,
        is_inside=any(bool(_weights_at(block, moment[None] / volume)[0] > 0) for block in blocks),
    )


def mask_on_grid(blocks: Iterable[Block], grid: Grid) -> tuple[int, NDArray[np.bool_]] | None:
    """Resample an ROI onto a grid, nearest voxel: inside where weight > 0.

    Returns:
        The first slice, and (n_slices, J, I) bool; None if no voxel of the grid is inside.
    """
    mask = np.zeros(grid.shape, dtype=bool)
    for block in blocks:
        first, stop = _box_of(block, grid)
        for k in range(first[2], stop[2]):
            j, i = np.mgrid[first[1] : stop[1], first[0] : stop[0]]
            ijk = np.stack([i.ravel(), j.ravel(), np.full(i.size, k)], axis=1)
            centers = ijk @ grid.matrix[:3, :3].T + grid.matrix[:3, 3]
            mask[k, first[1] : stop[1], first[0] : stop[0]] |= (_weights_at(block, centers) > 0).reshape(i.shape)
    return crop_slices(mask)


def sphere_on_grid(center_mm: Point, radius_mm: float, grid: Grid) -> tuple[int, NDArray[np.bool_]] | None:
    """Voxels whose centre is within a radius of a point, or else the nearest voxel.

    Returns:
        The first slice, and (n_slices, J, I) bool; None if the point is outside the grid.
    """
    matrix = grid.matrix
    nearest = np.floor(np.linalg.solve(matrix[:3, :3], np.array(center_mm) - matrix[:3, 3]) + 0.5).astype(int)
    if (nearest < 0).any() or (nearest >= grid.shape[::-1]).any():
        return None
    around = np.ceil(radius_mm / np.array(grid.spacing_mm)).astype(int) + 1
    first = np.maximum(nearest - around, 0)
    stop = np.minimum(nearest + around + 1, grid.shape[::-1])
    k, j, i = np.mgrid[first[2] : stop[2], first[1] : stop[1], first[0] : stop[0]]
    centers = np.stack([i, j, k], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3]
    mask = np.zeros((stop[2] - first[2], *grid.shape[1:]), dtype=bool)
    near = np.linalg.norm(centers - center_mm, axis=-1) <= radius_mm
    mask[:, first[1] : stop[1], first[0] : stop[0]] = near
    mask[nearest[2] - first[2], nearest[1], nearest[0]] = True
    cropped = crop_slices(mask)
    return None if cropped is None else (int(first[2]) + cropped[0], cropped[1])


def crop_slices(mask: NDArray[np.bool_]) -> tuple[int, NDArray[np.bool_]] | None:
    """Cut a mask to the slices between its first and its last voxel.

    Returns:
        The first slice, and the (n_slices, J, I) rest; None if the mask is empty.
    """
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    if not len(slices):
        return None
    return int(slices[0]), mask[slices[0] : slices[-1] + 1]


def index_box(corners_mm: Array, grid: Grid) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and stop (i, j, k) of the grid's voxels that a body may reach.

    Args:
        corners_mm: (n, 3) LPS: corners of a convex body around it.
        grid: Where voxels are counted.
    """
    ijk = np.linalg.solve(grid.matrix[:3, :3], (corners_mm - grid.matrix[:3, 3]).T)
    shape = np.array(grid.shape[::-1])
    first = np.clip(np.floor(ijk.min(axis=1)), 0, shape).astype(np.intp)
    stop = np.clip(np.ceil(ijk.max(axis=1)) + 1, 0, shape).astype(np.intp)
    return first, stop


def _weights_at(block: Block, points_mm: Array) -> NDArray[np.float64]:
    """Weight of the voxel that holds each point, 0 outside the block.

    Args:
        block: Where to look.
        points_mm: (n, 3) LPS.
    """
    ijk = np.linalg.solve(block.affine[:3, :3], (points_mm - block.affine[:3, 3]).T)
    i, j, k = np.floor(np.round(ijk, 6) + 0.5).astype(np.intp)  # rounded: a point on a voxel's edge has one owner
    shape = block.weights.shape
    inside = (i >= 0) & (j >= 0) & (k >= 0) & (i < shape[2]) & (j < shape[1]) & (k < shape[0])
    found = np.zeros(len(points_mm))
    found[inside] = block.weights[k[inside], j[inside], i[inside]]
    return found


def _box_of(block: Block, grid: Grid) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    corners = np.array(np.meshgrid(*((-0.5, edge - 0.5) for edge in block.weights.shape[::-1]))).reshape(3, 8)
    return index_box((block.affine[:3, :3] @ corners + block.affine[:3, 3:]).T, grid)
