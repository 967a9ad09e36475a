"""Finer hand-made features than those that features are judged by: what an encoder is also asked to tell of a patch.

Grey values between fat and enhanced tissue in small steps, texture at three scales, how grey values rise away from the
seed, and whether edges around it run like a ball's, a tube's or a plate's. None depends on flips or order of the axes.
"""

from functools import lru_cache
from itertools import combinations_with_replacement, pairwise
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from fmcib_module.core.conventions import PATCH_SIZE

LEVELS_HU: Final = (-110, -80, -50, -25, -10, 0, 10, 20, 30, 40, 50, 60, 75, 100, 130)
"""Shares below these, of the patch smoothed over 3 voxels."""

BALLS_MM: Final = (4.0, 8.0, 13.0, 20.0)
SHELLS_MM: Final = (0.0, 4.0, 8.0, 13.0, 20.0)
WINDOWS_HU: Final = {"soft": (-160.0, 240.0), "lung": (-1000.0, 0.0)}
STEP: Final = 2
"""Textures and edges are taken on every second voxel."""

MARGIN: Final = 4
"""Voxels at the border of the patch that are left out: smoothing over 7 and differences reach as far."""

CHUNK: Final = 4
"""Patches at a time: what is made of them stays in a CPU's cache."""


def describe_finely(patches_hu: Tensor) -> Tensor:
    """Compute the features.

    Args:
        patches_hu: (n, 1, 50, 50, 50), HU.

    Returns:
        (n, len(FINE_NAMES)) float32.
    """
    return torch.cat([_describe_few(few.float()) for few in torch.split(patches_hu, CHUNK)])


def _names() -> tuple[str, ...]:
    names = [f"ball{radius:g}_below_{level}" for radius in BALLS_MM for level in LEVELS_HU]
    balls = [f"{window}_ball{radius:g}" for window in WINDOWS_HU for radius in BALLS_MM]
    for what in ("grain", "texture", "mean", "sd"):
        names += [f"{ball}_{what}" for ball in balls]
    names += [f"{window}_rise{low:g}_{high:g}" for window in WINDOWS_HU for low, high in pairwise(SHELLS_MM)]
    return (*names, *(f"{ball}_{what}" for ball in balls for what in ("edges", "flat", "long")))


FINE_NAMES: Final = _names()
"""Of the features."""


def _describe_few(patches: Tensor) -> Tensor:
    smooth3, smooth7 = _mean(patches, 3), _mean(patches, 7)
    inner = {n: slice(MARGIN - n, -(MARGIN - n)) for n in (0, 1, 3)}  # what is left of each after its own margin
    own, fine, coarse = (
        values[:, 0, inner[n], inner[n], inner[n]][:, ::STEP, ::STEP, ::STEP].flatten(1)
        for values, n in ((patches, 0), (smooth3, 1), (smooth7, 3))
    )
    balls, shells, directions = _geometry(patches.device)
    parts = [torch.stack([(fine < level).float() @ balls for level in LEVELS_HU], dim=2).flatten(1)]
    grain: list[Tensor] = []
    texture: list[Tensor] = []
    mean: list[Tensor] = []
    spread: list[Tensor] = []
    rises: list[Tensor] = []
    edges: list[Tensor] = []
    for low, high in WINDOWS_HU.values():
        a, b, c = (values.clamp(low, high) / 100 for values in (own, fine, coarse))
        grain.append((a - b).abs() @ balls)
        texture.append((b - c).abs() @ balls)
        mean.append(b @ balls)
        spread.append((b.square() @ balls - mean[-1].square()).clamp(min=0).sqrt())
        gradient = _gradient(smooth3[:, 0].clamp(low, high) / 100)
        rises.append((gradient * directions).sum(dim=1) @ shells)
        edges.append(_edges(gradient, balls))
    return torch.cat([*parts, *grain, *texture, *mean, *spread, *rises, *edges], dim=1)


def _mean(patches: Tensor, size: int) -> Tensor:
    """Over cubes, axis by axis; what is left has size - 1 voxels less."""
    for kernel in ((size, 1, 1), (1, size, 1), (1, 1, size)):
        patches = functional.avg_pool3d(patches, kernel, stride=1)
    return patches


def _gradient(smooth: Tensor) -> Tensor:
    """(n, 3, V) per mm, central differences, of a patch smoothed over 3."""
    parts = []
    for axis in (1, 2, 3):
        centred = smooth
        for other in (1, 2, 3):
            cut = MARGIN - 1
            size = smooth.shape[other] - 2 * cut
            if other == axis:
                centred = centred.narrow(other, cut + 1, size) - centred.narrow(other, cut - 1, size)
            else:
                centred = centred.narrow(other, cut, size)
        parts.append(centred[:, ::STEP, ::STEP, ::STEP].flatten(1) / 2)
    return torch.stack(parts, dim=1)


def _edges(gradient: Tensor, balls: Tensor) -> Tensor:
    """Of each ball, how strong its edges are, how flat (1: a plate), how long (1: a plate or a tube), (n, 3 balls).

    From the structure tensor's eigenvalues a >= b >= c: root of their sum, (a - b) / sum, 1 - 3c / sum.
    """
    pairs = list(combinations_with_replacement(range(3), 2))
    products = torch.stack([(gradient[:, i] * gradient[:, j]) @ balls for i, j in pairs], dim=-1)
    tensors = torch.zeros(*products.shape[:2], 3, 3, device=gradient.device)
    for n, (i, j) in enumerate(pairs):
        tensors[..., i, j] = tensors[..., j, i] = products[..., n]
    least, middle, most = torch.linalg.eigvalsh(tensors).clamp(min=0).unbind(-1)
    total = least + middle + most
    share = total.clamp(min=1e-6)
    return torch.stack([total.sqrt(), (most - middle) / share, 1 - 3 * least / share], dim=-1).flatten(1)


@lru_cache
def _geometry(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """(V, balls) and (V, shells) weights that sum to 1, and (3, V) unit vectors away from the seed."""
    axis = torch.arange(MARGIN, PATCH_SIZE - MARGIN, STEP) - PATCH_SIZE // 2
    places = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).flatten(1).float()
    distances = places.norm(dim=0)
    balls = torch.stack([(distances <= radius).float() for radius in BALLS_MM], dim=1)
    shells = torch.stack([((distances >= a) & (distances < b)).float() for a, b in pairwise(SHELLS_MM)], dim=1)
    directions = places / distances.clamp(min=1)
    return (balls / balls.sum(0)).to(device), (shells / shells.sum(0)).to(device), directions.to(device)
