"""About 90 hand-made features of a patch: grey values, gradients, profile and shape of what is at its centre.

They are the yardstick that learned features are measured by, and, for the mixed method, what the encoder also has to
tell of a lesion. All are computed for a whole batch at once, none depends on flips or order of the axes.
"""

from functools import lru_cache
from itertools import pairwise, product
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from fmcib_module.core.conventions import PATCH_SIZE

LEVELS_HU: Final = (-950, -850, -700, -500, -250, -120, -60, -20, 20, 60, 110, 200, 400)
"""The histogram is the share of voxels below each of these."""

BALLS_MM: Final = (5.0, 12.0, 100.0)
"""Around the seed, where histograms and gradients are taken; the last is the whole patch."""

SHELLS_MM: Final = (0.0, 3.0, 6.0, 9.0, 12.0, 16.0, 20.0, 25.0)
"""Borders of the shells of the profile."""

SOFT_HU: Final = (-200.0, 300.0)
LUNG_HU: Final = (-1000.0, 100.0)
STEEP_HU_PER_MM: Final = (50, 150)
CHUNK: Final = 4
"""Patches at a time: what is made of them stays in a CPU's cache."""

TOLERANCES_HU: Final = (40.0, 100.0)
"""A region ends, on a ray from the seed, where the smoothed patch differs by more than this from the seed's value."""


def describe(patches_hu: Tensor) -> Tensor:
    """Compute the features.

    Args:
        patches_hu: (n, 1, 50, 50, 50), HU; others are cut, or go on with their border, around their middle.

    Returns:
        (n, len(NAMES)) float32, in the order of `NAMES`: shares 0..1, HU / 100, HU per mm / 100, mm / 10.
    """
    return torch.cat([_describe_few(_fitted(few.float())) for few in torch.split(patches_hu, CHUNK)])


def _fitted(patches: Tensor) -> Tensor:
    missing = PATCH_SIZE - patches.shape[-1]
    if missing == 0:
        return patches
    padding = (missing // 2, missing - missing // 2) * 3
    return functional.pad(patches, padding, mode="replicate" if missing > 0 else "constant")


def _describe_few(patches: Tensor) -> Tensor:
    smooth = functional.avg_pool3d(functional.pad(patches, (1,) * 6, mode="replicate"), 3, stride=1)
    parts = [_histograms(patches), _profile(patches), _gradients(patches), _shape(smooth)]
    return torch.cat(parts, dim=1)


def _names() -> tuple[str, ...]:
    balls = ("ball5", "ball12", "patch")
    names = [f"{ball}_below_{level}" for ball in balls for level in LEVELS_HU]
    shells = [f"shell{low:g}_{high:g}" for low, high in pairwise(SHELLS_MM)]
    names += [f"{shell}_{what}" for what in ("soft_mean", "soft_sd", "lung_mean") for shell in shells]
    names += [
        f"{ball}_gradient_{what}" for what in ("mean", "sd", *(f"above_{s}" for s in STEEP_HU_PER_MM)) for ball in balls
    ]
    shape = ("mean", "sd", "min", "max", "volume", "elongation", "outside")
    return (*names, *(f"region{tolerance:g}_{what}" for tolerance in TOLERANCES_HU for what in shape))


NAMES: Final = _names()
"""Of the features."""


def _histograms(patches: Tensor) -> Tensor:
    flat = patches.flatten(1)
    shares = []
    for voxels in _sampled_balls(patches.device):
        inside = flat[:, voxels]
        shares += [(inside < level).float().mean(dim=1) for level in LEVELS_HU]
    return torch.stack(shares, dim=1)


def _profile(patches: Tensor) -> Tensor:
    weights = _shell_weights(patches.device)  # (V, shells)
    soft = patches.flatten(1).clamp(*SOFT_HU) / 100
    mean = soft @ weights
    spread = (soft.square() @ weights - mean.square()).clamp(min=0).sqrt()
    return torch.cat([mean, spread, patches.flatten(1).clamp(*LUNG_HU) @ weights / 100], dim=1)


def _gradients(patches: Tensor) -> Tensor:
    clipped = patches.clamp(LUNG_HU[0], SOFT_HU[1])
    squares = torch.zeros_like(clipped)
    for axis in (2, 3, 4):
        n = clipped.shape[axis]
        rise = (clipped.narrow(axis, 2, n - 2) - clipped.narrow(axis, 0, n - 2)) / 2
        squares.narrow(axis, 1, n - 2).add_(rise.square())
    steepness = squares.sqrt_().flatten(1)
    weights = _ball_weights(patches.device)
    mean = steepness @ weights / 100
    spread = (steepness.square() @ weights / 1e4 - mean.square()).clamp(min=0).sqrt()
    shares = [(steepness > limit).float() @ weights for limit in STEEP_HU_PER_MM]
    return torch.cat([mean, spread, *shares], dim=1)


def _shape(smooth: Tensor) -> Tensor:
    """Of the region around the seed that has about its grey value, seen along 26 rays."""
    rays = _ray_voxels(smooth.device)  # (directions, steps)
    values = smooth.flatten(1)[:, rays].clamp(LUNG_HU[0], SOFT_HU[1])  # (n, directions, steps)
    centre = smooth[:, 0, 24:27, 24:27, 24:27].mean(dim=(1, 2, 3)).clamp(LUNG_HU[0], SOFT_HU[1])
    outside = values[:, :, 16:].mean(dim=(1, 2)) / 100
    parts = []
    for tolerance in TOLERANCES_HU:
        inside = ((values - centre[:, None, None]).abs() <= tolerance).float().cumprod(dim=2)
        reach = inside.sum(dim=2) / 10  # cm, (n, directions)
        diameters = reach + reach.flip(1)  # the directions come in opposite pairs, first with last
        parts.append(
            torch.stack(
                [
                    reach.mean(1),
                    reach.std(1),
                    reach.amin(1),
                    reach.amax(1),
                    reach.pow(3).mean(1).pow(1 / 3),
                    diameters.amin(1) / diameters.amax(1).clamp(min=0.1),
                    outside - centre / 100,
                ],
                dim=1,
            )
        )
    return torch.cat(parts, dim=1)


def _distances() -> Tensor:
    axis = torch.arange(PATCH_SIZE) - PATCH_SIZE // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return (z**2 + y**2 + x**2).float().sqrt().flatten()


@lru_cache
def _sampled_balls(device: torch.device) -> tuple[Tensor, ...]:
    """Numbers of the voxels of each ball; of the whole patch every second on each axis."""
    distances = _distances()
    balls = [(distances <= radius).nonzero()[:, 0] for radius in BALLS_MM[:-1]]
    every_second = torch.arange(PATCH_SIZE**3).reshape((PATCH_SIZE,) * 3)[::2, ::2, ::2].flatten()
    return tuple(voxels.to(device) for voxels in (*balls, every_second))


@lru_cache
def _ball_weights(device: torch.device) -> Tensor:
    distances = _distances()
    inside = torch.stack([(distances <= radius).float() for radius in BALLS_MM], dim=1)
    return (inside / inside.sum(dim=0)).to(device)


@lru_cache
def _shell_weights(device: torch.device) -> Tensor:
    distances = _distances()
    borders = pairwise(SHELLS_MM)
    inside = torch.stack([((distances >= low) & (distances < high)).float() for low, high in borders], dim=1)
    return (inside / inside.sum(dim=0)).to(device)


@lru_cache
def _ray_voxels(device: torch.device) -> Tensor:
    """(26, 24) numbers of the voxels on rays of 24 mm, opposite directions at n and 25 - n."""
    directions = torch.tensor([d for d in product((-1, 0, 1), repeat=3) if any(d)]).float()
    directions = directions / directions.norm(dim=1, keepdim=True)
    steps = torch.arange(1, PATCH_SIZE // 2).float()
    voxels = (directions[:, None] * steps[:, None]).round().long() + PATCH_SIZE // 2
    z, y, x = voxels.unbind(-1)
    numbers: Tensor = (z * PATCH_SIZE + y) * PATCH_SIZE + x
    return numbers.to(device)
