"""Made-up lesions: ellipsoids in noise. They need no data and try the trainer, in tests and on a new machine."""

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from fmcib_module.core.conventions import AIR_HU, HU_RANGE
from training.batches import LabelledPatches, PatchBatch, Views, batch_seed
from training.settings import DataSettings

N_CLASSES: Final = 4
"""Sizes of lesions, the labels of the kNN."""


class SyntheticSource:
    """Lesion i is always the same ellipsoid, its size and density drawn from (seed, i).

    Attributes:
        table_sha256: Empty: there is no table.
        licence: Nothing here is anybody's.
    """

    table_sha256 = ""
    licence = "CC0-1.0"

    def __init__(self, settings: DataSettings, seed: int) -> None:
        self._settings = settings
        self._seed = seed

    def n_batches(self, world_size: int) -> int:
        """Whole batches per rank and epoch."""
        return self._settings.n_lesions // (self._settings.batch_size * world_size)

    def batches(self, *, epoch: int, first: int, rank: int, world_size: int) -> Iterator[PatchBatch]:
        """One rank's batches of an epoch, from number `first` on."""
        generator = torch.Generator().manual_seed(batch_seed(self._seed, epoch, 0, 0))
        order = torch.randperm(self._settings.n_lesions, generator=generator)
        size = self._settings.batch_size
        for number in range(first, self.n_batches(world_size)):
            start = (number * world_size + rank) * size
            rows = order[start : start + size]
            generator.manual_seed(batch_seed(self._seed, epoch, number + 1, rank))
            yield PatchBatch(self._lesions(rows), rows, _tissue(size, self._settings.edge, generator))

    def labelled(self) -> LabelledPatches | None:
        """Lesions in classes of growing size; each is its own patient."""
        if not self._settings.n_labelled:
            return None
        rows = torch.arange(self._settings.n_labelled)
        return LabelledPatches(_scaled(self._lesions(rows)), rows % N_CLASSES, rows)

    def _lesions(self, rows: Tensor) -> Tensor:
        edge = self._settings.edge
        return torch.stack(
            [_lesion(row % N_CLASSES, edge, batch_seed(self._seed, -1, row, 0)) for row in rows.tolist()]
        )


class SyntheticViews:
    """Flips, gain and noise; crops of half the edge where they are wanted. Not the paper's augmentation."""

    def __init__(self, n_small_crops: int = 0) -> None:
        self._n_small_crops = n_small_crops

    def __call__(self, batch: PatchBatch, generator: torch.Generator) -> Views:
        """Make the views."""
        lesions, randoms = _scaled(batch.lesions_hu), batch.randoms_hu
        full = (_view(lesions, generator), _view(lesions, generator))
        small = tuple(_crop(_view(lesions, generator), generator) for _ in range(self._n_small_crops))
        negatives = () if randoms is None else tuple(_view(_scaled(randoms), generator) for _ in range(2))
        return Views((*full, *small), negatives, batch.lesion_rows)


def _lesion(size_class: int, edge: int, seed: int) -> Tensor:
    """(1, edge, edge, edge) int16: an ellipsoid of soft tissue in lung; classes differ in size."""
    generator = torch.Generator().manual_seed(seed)
    axes = edge * (0.08 + 0.08 * size_class) * (0.8 + 0.4 * torch.rand(3, generator=generator))
    axis = torch.arange(edge) - edge / 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    inside = (z / axes[0]) ** 2 + (y / axes[1]) ** 2 + (x / axes[2]) ** 2 <= 1
    density_hu = 100 * torch.rand(1, generator=generator)
    return torch.where(inside, density_hu, -800.0).to(torch.int16)[None]


def _tissue(n: int, edge: int, generator: torch.Generator) -> Tensor:
    """(n, 1, edge, edge, edge) int16: smooth clouds between lung and bone."""
    coarse = torch.rand(n, 1, 6, 6, 6, generator=generator)
    clouds = functional.interpolate(coarse, size=(edge,) * 3, mode="trilinear", align_corners=False)
    return (1200 * clouds - 900).to(torch.int16)


def _scaled(patches_hu: Tensor) -> Tensor:
    return (patches_hu.float() - AIR_HU) / HU_RANGE


def _view(patches: Tensor, generator: torch.Generator) -> Tensor:
    device = patches.device
    axes = [axis for axis in (2, 3, 4) if torch.rand((), generator=generator, device=device) < 0.5]
    gain = 0.9 + 0.2 * torch.rand(len(patches), 1, 1, 1, 1, generator=generator, device=device)
    noise = 0.02 * torch.randn(patches.shape, generator=generator, device=device)
    return patches.flip(axes) * gain + noise


def _crop(patches: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the edge, anywhere."""
    size = patches.shape[-1] // 2
    starts = torch.randint(0, size + 1, (3,), generator=generator, device=patches.device).tolist()
    for axis, start in enumerate(starts, start=2):
        patches = patches.narrow(axis, start, size)
    return patches
