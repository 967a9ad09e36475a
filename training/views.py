"""Augmented views of raw patches, for a whole batch at once, on the batch's device (Pai et al. 2024, Methods).

In this order: random resized crop, flips, histogram shift, Gaussian smoothing, threshold, scaling. All random numbers
of a view are a function of one number from the generator, the lesion's row and the number of the view: neither the
order nor the other members of a batch change it.
"""

from typing import Final, NamedTuple

import torch
from torch import Tensor

from fmcib_module.core.conventions import AIR_HU, HU_RANGE, PATCH_SIZE
from fmcib_module.core.errors import ConfigError
from training.batches import PatchBatch, Views
from training.counter_random import derive_keys, uniform
from training.resampling_matrices import apply_along_axes, crop_matrices, smoothing_matrices
from training.view_settings import CropMeasure, Flips, SmoothBorder, ViewSettings

N_FULL: Final = 2
NEGATIVE_STREAM: Final = 1_000  # views of random patches draw other numbers than those of the lesion of their row

CPU_CHUNK: Final = 4
"""Samples at a time on a CPU: what is made of them stays in its cache, which halves the time."""


class ViewParameters(NamedTuple):
    """What is done to each sample.

    Attributes:
        starts: (n, 3) first voxel (z, y, x) of the crop in the patch with its margin, float32.
        edges: (n, 1) edge of the crop, voxels, float32.
        flips: (n, 3) bool.
        shifted: (n,) bool.
        levels: (n, control points) of the histogram shift, 0..1, rising.
        smoothed: (n,) bool.
        sigmas: (n, 3) voxels.
    """

    starts: Tensor
    edges: Tensor
    flips: Tensor
    shifted: Tensor
    levels: Tensor
    smoothed: Tensor
    sigmas: Tensor


class LesionViews:
    """The view maker of a run.

    Args:
        settings: Section `views`.
        n_small_crops: Small crops beside the two full views.
    """

    def __init__(self, settings: ViewSettings, n_small_crops: int = 0) -> None:
        self._settings = settings
        self._n_small = n_small_crops

    def __call__(self, batch: PatchBatch, generator: torch.Generator) -> Views:
        """Two full views of lesions and of random patches, and the small ones."""
        base = torch.randint(2**62, (1,), generator=generator, device=generator.device).to(batch.lesion_rows.device)
        full = self._views(batch.lesions_hu, batch.lesion_rows, base, range(N_FULL))
        small = self._views(batch.lesions_hu, batch.lesion_rows, base, range(N_FULL, N_FULL + self._n_small))
        streams = range(NEGATIVE_STREAM, NEGATIVE_STREAM + N_FULL)
        negatives = () if batch.randoms_hu is None else self._views(batch.randoms_hu, batch.lesion_rows, base, streams)
        return Views((*full, *small), negatives, batch.lesion_rows)

    def _views(self, patches_hu: Tensor, rows: Tensor, base: Tensor, streams: range) -> tuple[Tensor, ...]:
        views = []
        for stream in streams:
            small = N_FULL <= stream < NEGATIVE_STREAM
            keys = derive_keys(base, rows, stream)
            parameters = draw_parameters(keys, patches_hu.shape[-1], self._settings, small=small)
            size = self._settings.small_size if small else PATCH_SIZE
            views.append(self._make(patches_hu, parameters, size))
        return tuple(views)

    def _make(self, patches_hu: Tensor, parameters: ViewParameters, size: int) -> Tensor:
        n = len(patches_hu)
        step = CPU_CHUNK if patches_hu.device.type == "cpu" else n
        chunks = []
        for first in range(0, n, step):
            part = ViewParameters(*(values[first : first + step] for values in parameters))
            chunks.append(make_view(patches_hu[first : first + step], part, self._settings, size=size))
        return torch.cat(chunks)


def draw_parameters(keys: Tensor, depth: int, settings: ViewSettings, *, small: bool = False) -> ViewParameters:
    """What is done to each sample.

    Args:
        keys: (n,) int64, one per sample.
        depth: Edge of the patches with their margin.
        settings: Section `views`.
        small: For small crops.
    """
    numbers = uniform(keys, 16 + settings.control_points)
    scale, place, jitter, flip, axis, shift, smooth, sigma, levels = torch.split(
        numbers, [1, 3, 3, 3, 1, 1, 1, 3, settings.control_points], dim=1
    )
    edges = _crop_edges(scale, settings, small=small)
    low, high = settings.sigma
    if settings.flips is Flips.EACH_AXIS:
        flips = flip < settings.flip_probability
    else:
        one = torch.floor(axis * 3) == torch.arange(3, device=keys.device)
        flips = one & (flip[:, :1] < settings.flip_probability)
    return ViewParameters(
        starts=_crop_starts(edges, place, jitter, depth, settings),
        edges=edges,
        flips=flips,
        shifted=shift[:, 0] < settings.shift_probability,
        levels=_rising_levels(levels),
        smoothed=smooth[:, 0] < settings.smooth_probability,
        sigmas=low + (high - low) * sigma,
    )


def make_view(patches_hu: Tensor, parameters: ViewParameters, settings: ViewSettings, *, size: int) -> Tensor:
    """Do it.

    Args:
        patches_hu: (n, 1, D, D, D), HU.
        parameters: For each sample.
        settings: Section `views`, for what is not drawn.
        size: S.

    Returns:
        (n, 1, S, S, S) float32, scaled.
    """
    crops = crop_matrices(parameters.starts, parameters.edges, parameters.flips, size=size, depth=patches_hu.shape[-1])
    view = apply_along_axes(crops, patches_hu[:, 0].float())
    if settings.shift_probability > 0:
        rows = parameters.shifted.nonzero()[:, 0]
        view[rows] = shift_histogram(view[rows], parameters.levels[rows])
    if settings.smooth_probability > 0:
        rows = parameters.smoothed.nonzero()[:, 0]
        view[rows] = _smooth(view[rows], parameters.sigmas[rows], settings)
    if settings.threshold:
        view = view.clamp_(min=AIR_HU)
    return view.sub_(AIR_HU).div_(HU_RANGE)[:, None]


def shift_histogram(patches: Tensor, levels: Tensor) -> Tensor:
    """Map grey values piecewise linearly: evenly spaced levels between each sample's extremes go to `levels`.

    Args:
        patches: (n, S, S, S).
        levels: (n, control points), 0..1.

    Returns:
        (n, S, S, S); a sample of one grey value stays as it is.

    References:
        MONAI 1.4.0 `transforms/intensity/array.py` (RandHistogramShift).
    """
    flat = patches.flatten(start_dim=1)
    if not len(flat):
        return patches
    low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)  # aminmax is ten times slower on a CPU
    spread = high - low
    rises = torch.diff(levels, dim=1)
    n, segments = rises.shape
    position = (flat - low).mul_(segments / torch.where(spread > 0, spread, 1.0))
    segment = position.int().clamp_(max=segments - 1)
    position -= segment
    segment += segments * torch.arange(n, dtype=torch.int32, device=flat.device)[:, None]
    segment = segment.flatten()
    rise = rises.flatten().index_select(0, segment).reshape(flat.shape)
    base = levels[:, :-1].flatten().index_select(0, segment).reshape(flat.shape)
    return rise.mul_(position).add_(base).mul_(spread).add_(low).reshape(patches.shape)


def check_margin(settings: ViewSettings, margin: int) -> None:
    """Whether the patches that are read hold all that views may show.

    Raises:
        ConfigError: They do not.
    """
    largest = _crop_edges(torch.ones(1, 1), settings, small=False).item()
    needed = settings.jitter + max(0, -(-int(largest - PATCH_SIZE) // 2))
    if needed > margin:
        raise ConfigError(
            f"views reach {needed} voxels beyond the patch of {PATCH_SIZE}, the margin is {margin}",
            "data: margin",
            f"use {needed} or more",
        )


def _crop_edges(numbers: Tensor, settings: ViewSettings, *, small: bool) -> Tensor:
    """(n, 1) whole voxels, rounded up as MONAI's RandScaleCrop does."""
    low, high = settings.small_scale if small else settings.scale
    scale = low + (high - low) * numbers
    if settings.crop_measure is CropMeasure.VOLUME:
        scale = scale ** (1 / 3)
    return torch.ceil(scale * PATCH_SIZE - 1e-4).clamp(min=1)  # float32 may put 0.5 x 50 a hair above 25


def _crop_starts(edges: Tensor, place: Tensor, jitter: Tensor, depth: int, settings: ViewSettings) -> Tensor:
    """(n, 3) whole voxels: anywhere in the patch of 50 that keeps the seed; one with no such place is centred on it."""
    first, seed = depth // 2 - PATCH_SIZE // 2, depth // 2
    keep = settings.keep_radius
    low, high = torch.full_like(edges, first), first + PATCH_SIZE - edges
    if keep >= 0:
        low, high = low.maximum(seed + keep + 1 - edges), high.clamp(max=seed - keep)
    centred = torch.floor(seed - edges / 2 + 0.5)
    low, high = (torch.where(high < low, centred, bound) for bound in (low, high))
    starts = low + torch.floor(place * (high - low + 1))
    return starts + torch.floor(jitter * (2 * settings.jitter + 1)) - settings.jitter


def _rising_levels(numbers: Tensor) -> Tensor:
    """(n, c) levels 0..1: each inner one drawn between the one before it and the one that evenly follows."""
    count = numbers.shape[1]
    levels = torch.linspace(0, 1, count, device=numbers.device).repeat(len(numbers), 1)
    for n in range(1, count - 1):
        levels[:, n] = levels[:, n - 1] + numbers[:, n] * (levels[:, n + 1] - levels[:, n - 1])
    return levels


def _smooth(view: Tensor, sigmas: Tensor, settings: ViewSettings) -> Tensor:
    extend = settings.smooth_border is SmoothBorder.EDGE
    outside = AIR_HU if settings.smooth_border is SmoothBorder.AIR else 0.0
    matrices = smoothing_matrices(sigmas, size=view.shape[-1], largest_sigma=settings.sigma[1], extend=extend)
    return apply_along_axes(matrices, view - outside) + outside
