"""What fine-tuning learns from: lesions with an outcome, read as cubes with a margin, batch by batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from fmcib_module.core.errors import InputError
from training.adaptation.class_names import class_order
from training.adaptation.finetune_settings import FinetuneSettings, Task
from training.adaptation.lesions import CropReader, Lesions
from training.adaptation.subsets import check_leakage, training_subset
from training.batches import LabelledPatches, PatchBatch, batch_seed

EVENT_CLASSES = ("no event", "event")
"""Of survival: whether the event comes within the horizon."""


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Lesions with their outcomes.

    Attributes:
        frame: As `Lesions.frame`.
        labels: (n,) number of the class; -1 where it is not known.
        classes: Names.
        shared: Patients in the training split and in another one, if the settings take them.
    """

    frame: pd.DataFrame
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    shared: int

    def rows(self, split: str) -> NDArray[np.int64]:
        """Lesions of a split whose class is known."""
        return np.flatnonzero((self.frame["split"] == split).to_numpy() & (self.labels >= 0))

    def training_rows(self, share: float, seed: int) -> NDArray[np.int64]:
        """Those of them that a share of the training data holds."""
        rows = self.rows("train")
        patients = self.frame["patient"].to_numpy(dtype=str)[rows].tolist()
        return rows[training_subset(patients, [str(n) for n in self.labels[rows]], share, seed)]


def read_cohort(lesions: Lesions, settings: FinetuneSettings) -> Cohort:
    """Classes of lesions.

    Raises:
        InputError: A column is missing, a patient is in the training split and in another one, there are fewer than
            two classes, or a split that is needed has no lesion with an outcome.
    """
    frame, where = lesions.frame, settings.data.table or settings.data.cache
    needed = ("split", "label") if settings.task is Task.CLASSES else ("split", "time", "event")
    missing = [name for name in needed if name not in frame]
    if missing:
        raise InputError(f"column(s) {', '.join(missing)} are missing", where, "give them in the lesion table")
    shared = check_leakage(frame, shared_patients=settings.data.shared_patients, where=where)
    if settings.task is Task.CLASSES:
        names = sorted(set(frame.loc[frame["split"].isin(["train", "val"]), "label"]) - {""}, key=class_order)
        numbers = {name: number for number, name in enumerate(names)}
        labels = np.array([numbers.get(label, -1) for label in frame["label"]], dtype=np.int64)
    else:
        names, labels = list(EVENT_CLASSES), within_horizon(frame, settings.horizon_years)
    cohort = Cohort(frame, labels, tuple(names), shared)
    for split in ("train", "val"):
        found = np.unique(labels[cohort.rows(split)])
        if not len(found) or (split == "train" and len(found) < 2):
            raise InputError(f"split {split!r} has lesions of {len(found)} class(es)", where, "check split and labels")
    return cohort


def within_horizon(frame: pd.DataFrame, years: float) -> NDArray[np.int64]:
    """1 where the event came within so many years, 0 where it did not, -1 where nobody knows: seen for too short."""
    time, event = (frame[name].to_numpy(dtype=np.float64) for name in ("time", "event"))
    return np.where((time <= years) & (event == 1), 1, np.where(time > years, 0, -1)).astype(np.int64)


class FinetuneSource:
    """The training lesions, as `EpochLoader` takes them: a new order every epoch, the last batch as long as it gets."""

    table_sha256 = ""
    licence = ""

    def __init__(self, rows: NDArray[np.int64], read: CropReader, batch_size: int, seed: int) -> None:
        """Remember them.

        Args:
            rows: Of the cohort.
            read: Reads a row.
            batch_size: Lesions per batch.
            seed: Of the order.
        """
        self._rows, self._read, self._size, self._seed = rows, read, batch_size, seed

    def n_batches(self, world_size: int) -> int:
        """Batches per epoch, the last one shorter."""
        return -(-len(self._rows) // self._size)

    def batches(self, *, epoch: int, first: int, rank: int, world_size: int) -> Iterator[PatchBatch]:
        """From number `first` on."""
        order = np.random.default_rng(batch_seed(self._seed, epoch, 0, 0)).permutation(self._rows)
        for number in range(first, self.n_batches(world_size)):
            yield read_batch(order[number * self._size : (number + 1) * self._size], self._read)

    def labelled(self) -> LabelledPatches | None:
        """Nothing for a kNN."""
        return None


def read_batch(rows: Sequence[int] | NDArray[np.int64], read: CropReader) -> PatchBatch:
    """Cubes of some lesions."""
    crops = torch.from_numpy(np.stack([read(int(row)) for row in rows]))[:, None]
    return PatchBatch(crops, torch.as_tensor(np.asarray(rows, dtype=np.int64)))
