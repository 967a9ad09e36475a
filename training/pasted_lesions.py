"""Procedural lesions pasted into real patches, two in the same surroundings: only the lesion tells them apart."""

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from training.counter_random import uniform

RADII_MM: Final = (2.5, 16.0)
LEAST_AXIS: Final = 0.55
"""Shortest semi-axis, as a share of the longest."""

OFFSET_MM: Final = 3.0
"""How far from the seed a lesion's centre may be, on each axis."""

BUMP: Final = 0.25
"""Depth of the surface's bumps, as a share of the radius."""

KINDS_HU: Final = ((-10.0, 60.0), (40.0, 140.0), (-60.0, 20.0), (-650.0, -250.0), (150.0, 500.0))
"""Grey values: soft, enhancing, of low density, ground glass, calcified."""

TEXTURE_HU: Final = 40.0
COARSE: Final = 10
"""Edge of the grids that bumps and texture are drawn on."""

_PER_LESION: Final = 12
"""Numbers beside the grids."""


def paste_pairs(patches_hu: Tensor, keys: Tensor, probability: float) -> Tensor:
    """Give rows 2k and 2k + 1, with some probability, the surroundings of row 2k and a lesion each.

    Args:
        patches_hu: (n, 1, D, D, D), HU, seed at D // 2.
        keys: (n,) int64: each lesion is a function of its row's key, whether a pair is pasted of the first row's.
        probability: Of a pair.

    Returns:
        (n, 1, D, D, D) float32; the other rows as they were.
    """
    pasted = patches_hu.float()
    chosen = uniform(keys, 1)[:, 0] < probability
    for first in range(0, len(pasted) - 1, 2):
        if chosen[first]:
            pair = slice(first, first + 2)
            surroundings = pasted[first : first + 1].expand(2, -1, -1, -1, -1)
            pasted[pair] = paste_lesions(surroundings, keys[pair])
    return pasted


def paste_lesions(patches_hu: Tensor, keys: Tensor) -> Tensor:
    """Put a lesion into each patch: a bumpy ellipsoid with texture, its edge one to two millimetres wide.

    Args:
        patches_hu: (n, 1, D, D, D) float32, HU.
        keys: (n,) int64.

    Returns:
        (n, 1, D, D, D) float32.
    """
    numbers = uniform(keys, _PER_LESION + 2 * COARSE**3)[:, 1:]  # the first has chosen the pair
    size, kind, grey, texture, soft = numbers[:, :5, None, None, None].unbind(1)
    axes, offset = numbers[:, 5:8], numbers[:, 8:11]
    radius = RADII_MM[0] * (RADII_MM[1] / RADII_MM[0]) ** size  # small ones as often as large ones
    depth = patches_hu.shape[-1]
    grids = numbers[:, 11:].reshape(-1, 2, COARSE, COARSE, COARSE)
    fields = functional.interpolate(grids, size=(depth,) * 3, mode="trilinear", align_corners=True) - 0.5
    bumps, grain = fields[:, 0], fields[:, 1]
    distance = _relative_distance(axes, offset, depth) / radius + 2 * BUMP * bumps
    edge_mm = 0.5 + soft
    alpha = torch.sigmoid((1 - distance) * radius / edge_mm * 2)
    limits = torch.tensor(KINDS_HU, device=keys.device)[(kind.flatten() * len(KINDS_HU)).long()]
    low, high = limits[:, 0, None, None, None], limits[:, 1, None, None, None]
    lesion = low + (high - low) * grey + 2 * TEXTURE_HU * texture * grain
    patches = patches_hu[:, 0]
    return (patches + alpha * (lesion - patches))[:, None]


def _relative_distance(axes: Tensor, offset: Tensor, depth: int) -> Tensor:
    """(n, D, D, D) distance from the lesion's centre, in which an axis is longer the smaller its share."""
    axis = torch.arange(depth, device=axes.device) - depth // 2
    squares = torch.zeros(len(axes), depth, depth, depth, device=axes.device)
    shares = LEAST_AXIS + (1 - LEAST_AXIS) * axes
    for n in range(3):
        along = (axis - (2 * offset[:, n : n + 1] - 1) * OFFSET_MM) / shares[:, n : n + 1]  # (n, D)
        shape = [len(axes), 1, 1, 1]
        shape[n + 1] = depth
        squares += along.square().reshape(shape)
    return squares.sqrt()
