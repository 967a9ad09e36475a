"""What the data side and the trainer agree on: raw patches come from a source, views are made of them on the device.

One step is::

    batch = next(source.batches(epoch=..., first=..., rank=..., world_size=...))   # CPU: raw patches, HU
    views = view_maker(batch.to(device), generator)                                # device: augmented, scaled
    loss = method(views)

Training that was killed resumes bit for bit, because nothing here has a memory: a batch is a function of (the source's
seed, epoch, number of the batch, rank, world size), and the views of a batch are a function of the generator that they
are given, which the trainer seeds anew for every batch (`batch_seed`).
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class PatchBatch(NamedTuple):
    """Raw patches of n lesions, before augmentation, with any margin that the views need.

    Attributes:
        lesions_hu: (n, 1, D, H, W) int16 or float32, Hounsfield units, 1 mm; the lesion's seed is voxel [D//2, ...].
        lesion_rows: (n,) int64, row of each lesion in the source's table.
        randoms_hu: Random patches, row i from the scan of lesion i, as `lesions_hu`; None where the method needs none.
        surroundings: (n, N_SURROUNDINGS) what lies around the patches; None where the method needs none.
    """

    lesions_hu: Tensor
    lesion_rows: Tensor
    randoms_hu: Tensor | None = None
    surroundings: Tensor | None = None

    def to(self, device: torch.device) -> "PatchBatch":
        """The same on another device (a copy from pinned memory does not block)."""
        return self._changed(lambda part: part.to(device, non_blocking=True))

    def pinned(self) -> "PatchBatch":
        """The same in memory that a GPU copies from without waiting."""
        return self._changed(Tensor.pin_memory)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "PatchBatch":
        optional = (None if part is None else change(part) for part in (self.randoms_hu, self.surroundings))
        return PatchBatch(change(self.lesions_hu), change(self.lesion_rows), *optional)


class Views(NamedTuple):
    """Augmented patches, scaled as the encoder takes them ((HU + 1024) / 3072), float32, on the device.

    Attributes:
        lesions: Views of the lesions, each (n, 1, S, S, S), row i always lesion i. The first two are full size
            (S = 50); multi-crop views (SwAV: six with S = 25) follow.
        negatives: Two views of the random patches, each (n, 1, 50, 50, 50); empty where the batch has none.
        lesion_rows: (n,) int64, as in the batch.
        target: (n, 1, 50, 50, 50), the patch before augmentation, where a method wants it; None elsewhere.
        surroundings: As in the batch.
    """

    lesions: tuple[Tensor, ...]
    negatives: tuple[Tensor, ...]
    lesion_rows: Tensor
    target: Tensor | None = None
    surroundings: Tensor | None = None


class ViewMaker(Protocol):
    """Batched augmentation on the device of the batch."""

    def __call__(self, batch: PatchBatch, generator: torch.Generator) -> Views:
        """Make the views; every random number comes from `generator`, which lives on the batch's device."""


class LabelledPatches(NamedTuple):
    """Patches with a class each, for the kNN that watches a run.

    Attributes:
        patches: (m, 1, 50, 50, 50) float32, scaled, not augmented.
        labels: (m,) int64.
        groups: (m,) int64, patient of each patch: neighbours of the same patient do not vote.
    """

    patches: Tensor
    labels: Tensor
    groups: Tensor


class PatchSource(Protocol):
    """Where patches come from: a cache of real scans, or made-up lesions.

    Attributes:
        table_sha256: Of the lesion table, recorded with the run.
        licence: Licence of the data, recorded in exported weights.
    """

    table_sha256: str
    licence: str

    def n_batches(self, world_size: int) -> int:
        """Whole batches per rank and epoch; lesions that fill no batch wait for another epoch's order."""

    def batches(self, *, epoch: int, first: int, rank: int, world_size: int) -> Iterator[PatchBatch]:
        """Batches number `first` to `n_batches - 1` of one epoch, in order, as one rank sees them.

        The ranks' shares of an epoch are disjoint.
        """

    def labelled(self) -> LabelledPatches | None:
        """The labelled table for the kNN, or None where the settings name none."""


def batch_seed(seed: int, epoch: int, number: int, rank: int) -> int:
    """A seed below 2^63 for one batch; unlike sums of its parts, no two of these ever walk in step.

    Args:
        seed: Of the run.
        epoch: From 0.
        number: Of the batch in its epoch, from 0.
        rank: Of the process.
    """
    digest = hashlib.sha256(f"{seed}/{epoch}/{number}/{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
