"""Augmentation of fine-tuning: translation, flips, rotations by 90 degrees, smoothing; batched, on any device.

What is done to a lesion in an epoch is a function of (seed, epoch, lesion), whatever else is in its batch.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import torch
from torch import Tensor

from fmcib_module.core.errors import ConfigError
from fmcib_module.core.extractors import Axes, InputForm
from training.batches import batch_seed
from training.counter_random import derive_keys, uniform
from training.resampling_matrices import apply_along_axes, crop_matrices, smoothing_matrices
from training.view_settings import Flips

STREAM: Final = 1
SIGMAS: Final = (0.25, 1.5)
"""Standard deviations of the smoothing, voxels: MONAI's defaults, as published."""

PLANES: Final = ((1, 2), (1, 3), (2, 3))
"""Axes of (n, z, y, x) that a rotation turns."""


class Rotations(StrEnum):
    """In which planes cubes are turned."""

    ANY = "any"  # each of the three, drawn
    FIRST = "first"  # of the array's first two axes only, as the published configuration's default does


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """Section `augment`.

    Attributes:
        translation: Largest shift on each axis, voxels, drawn uniformly. The scan's own surroundings move in; the
            published configuration mirrors the cube instead.
        translation_probability: Of being shifted.
        flips: each-axis or one-axis.
        flip_probability: See `flips`.
        rotations: any or first.
        rotation_probability: Of a turn by 90, 180 or 270 degrees.
        smooth_probability: Of Gaussian smoothing: 0.5 in the published configuration, not in the paper's list.
    """

    translation: int = 10
    translation_probability: float = 0.5
    flips: Flips = Flips.ONE_AXIS
    flip_probability: float = 0.5
    rotations: Rotations = Rotations.ANY
    rotation_probability: float = 0.5
    smooth_probability: float = 0.0

    def __post_init__(self) -> None:
        if self.translation < 0:
            raise ConfigError(f"translation is {self.translation}", "augment", "use 0 or more")
        for name in ("translation_probability", "flip_probability", "rotation_probability", "smooth_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", "augment", "use 0 to 1")


def as_input(crops_hu: Tensor, form: InputForm) -> Tensor:
    """Cubes as the extractor takes them, cut from the middle of larger ones.

    Args:
        crops_hu: (n, 1, D, D, D) Hounsfield units, axes (z, y, x), D even and at least the form's edge.
        form: Of the extractor.

    Returns:
        (n, 1, S, S, S) float32.
    """
    margin = (crops_hu.shape[-1] - form.edge) // 2
    inner = slice(margin, margin + form.edge)
    return _ordered(_scaled(crops_hu[:, 0, inner, inner, inner], form), form)


def augmented(
    crops_hu: Tensor, rows: Tensor, form: InputForm, settings: AugmentSettings, *, seed: int, epoch: int
) -> Tensor:
    """Augmented cubes as the extractor takes them.

    Args:
        crops_hu: (n, 1, D, D, D) HU, D at least the form's edge and twice the translation.
        rows: (n,) int64, which lesions they are.
        form: Of the extractor.
        settings: Section `augment`.
        seed: Of the run.
        epoch: From 0.

    Returns:
        (n, 1, S, S, S) float32.
    """
    size, depth = form.edge, crops_hu.shape[-1]
    base = torch.tensor([batch_seed(seed, epoch, 0, 0)], device=rows.device)
    numbers = uniform(derive_keys(base, rows, STREAM), 15)
    move, shift, flip, axis, turn, plane, quarters, smooth, sigma = torch.split(
        numbers, [1, 3, 3, 1, 1, 1, 1, 1, 3], dim=1
    )
    moved = (move < settings.translation_probability).float()
    starts = (depth - size) / 2 + moved * settings.translation * (2 * shift - 1)
    if settings.flips is Flips.EACH_AXIS:
        flips = flip < settings.flip_probability
    else:
        one = torch.floor(axis * 3) == torch.arange(3, device=rows.device)
        flips = one & (flip[:, :1] < settings.flip_probability)
    edges = torch.full_like(move, float(size))
    matrices = crop_matrices(starts, edges, flips, size=size, depth=depth)
    cubes = apply_along_axes(matrices, _scaled(crops_hu[:, 0], form))
    cubes = _turned(cubes, turn[:, 0] < settings.rotation_probability, plane[:, 0], quarters[:, 0], settings)
    smoothed = (smooth[:, 0] < settings.smooth_probability).nonzero()[:, 0]
    if len(smoothed):
        low, high = SIGMAS
        kernels = smoothing_matrices(low + (high - low) * sigma[smoothed], size=size, largest_sigma=high, extend=True)
        cubes[smoothed] = apply_along_axes(kernels, cubes[smoothed])
    return _ordered(cubes, form)


def _turned(cubes: Tensor, turns: Tensor, plane: Tensor, quarters: Tensor, settings: AugmentSettings) -> Tensor:
    cubes = cubes.clone()
    for n in turns.nonzero()[:, 0].tolist():
        which = 0 if settings.rotations is Rotations.FIRST else int(plane[n] * 3)
        cubes[n] = torch.rot90(cubes[n : n + 1], 1 + int(quarters[n] * 3), PLANES[which])[0]
    return cubes


def _scaled(cubes_hu: Tensor, form: InputForm) -> Tensor:
    scaled = (cubes_hu.float() - form.low_hu) / (form.high_hu - form.low_hu)
    return scaled.clamp_(0, 1) if form.clip else scaled


def _ordered(cubes: Tensor, form: InputForm) -> Tensor:
    ordered = cubes.permute(0, 3, 2, 1) if form.axes is Axes.XYZ else cubes
    return ordered[:, None].contiguous()
