"""Batches of patches from the cache: each a few memory pages, in an order that is a function of seed and epoch."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmcib_module.core.conventions import AIR_HU, HU_RANGE, PATCH_SIZE
from fmcib_module.core.errors import ConfigError
from training.batches import LabelledPatches, PatchBatch, ViewMaker, batch_seed
from training.cache import Index3, LesionCache
from training.methods import Method
from training.mixed_views import MixedViews
from training.settings import DataSettings, Randoms, TrainingSettings
from training.surroundings import read_surroundings
from training.views import LesionViews, check_margin


class CacheSource:
    """A cache as the trainer takes it.

    The order of an epoch is a permutation drawn from (seed, epoch); rank r takes every world_size-th batch. The random
    patch of a lesion is drawn from (seed, epoch, lesion), so it depends neither on the batch nor on the threads.

    Attributes:
        table_sha256: Of the lesions.
        licence: Of the data.
        cache: The cache.
    """

    def __init__(self, settings: DataSettings, seed: int, *, randoms: bool, surroundings: bool = False) -> None:
        """Open the cache.

        Args:
            settings: Section `data`.
            seed: Of the run.
            randoms: Read a random patch with every lesion.
            surroundings: Tell what lies around every lesion.

        Raises:
            InputError: The cache is absent, unfinished or damaged, or has no lesion in a split that is asked for.
            ConfigError: The margin is larger than that of the cached crops.
        """
        self.cache = LesionCache(Path(settings.path))
        self._settings, self._seed, self._with_randoms = settings, seed, randoms
        self._edge = PATCH_SIZE + 2 * settings.margin
        if self._edge > self.cache.crop_edge:
            largest = (self.cache.crop_edge - PATCH_SIZE) // 2
            raise ConfigError(f"margin is {settings.margin}", "data", f"the cache has {largest}: prepare larger crops")
        self._rows = self.cache.rows(settings.split)
        self._rows_of_scan: dict[int, list[int]] = {}
        for row in self._rows.tolist():
            self._rows_of_scan.setdefault(self.cache.lesions[row].scan, []).append(row)
        self._surroundings = read_surroundings(self.cache, self._rows) if surroundings else None
        self.table_sha256 = self.cache.table_sha256
        self.licence = self.cache.licence

    def n_batches(self, world_size: int) -> int:
        """Whole batches per rank and epoch."""
        return len(self._rows) // (self._settings.batch_size * world_size)

    def batches(self, *, epoch: int, first: int, rank: int, world_size: int) -> Iterator[PatchBatch]:
        """One rank's batches of an epoch, from number `first` on; read ahead by threads if the settings say so."""
        numbers = range(first, self.n_batches(world_size))

        def read(number: int) -> PatchBatch:
            batch = self.read_batch(self.rows_of(epoch, number, rank, world_size), epoch)
            return batch.pinned() if torch.cuda.is_available() else batch

        yield from _ahead(read, numbers, self._settings.workers) if self._settings.workers else map(read, numbers)

    def labelled(self) -> LabelledPatches | None:
        """Lesions of `labelled_split` that have a label, classes numbered by their names' order."""
        if not self._settings.labelled_split:
            return None
        lesions = self.cache.lesions
        rows = [int(row) for row in self.cache.rows(self._settings.labelled_split) if lesions[row].label]
        if not rows:
            raise ConfigError("no lesion of labelled_split has a label", "data", "name another split, or none")
        patches = _stack([self.cache.read_crop(row, PATCH_SIZE) for row in rows])
        return LabelledPatches(
            (patches.float() - AIR_HU) / HU_RANGE,
            _numbered([lesions[row].label for row in rows]),
            _numbered([lesions[row].patient for row in rows]),
        )

    def read_batch(self, rows: NDArray[np.int64], epoch: int) -> PatchBatch:
        """Raw patches of some lesions, and their random patches of an epoch."""
        lesions = _stack([self.cache.read_crop(int(row), self._edge) for row in rows])
        randoms = _stack([self._random_patch(int(row), epoch) for row in rows]) if self._with_randoms else None
        surroundings = None if self._surroundings is None else self._surroundings[rows]
        return PatchBatch(lesions, torch.from_numpy(rows), randoms, surroundings)

    def epoch_order(self, epoch: int) -> NDArray[np.int64]:
        """All lesions of the split, shuffled."""
        return np.random.default_rng(batch_seed(self._seed, epoch, 0, 0)).permutation(self._rows)

    def rows_of(self, epoch: int, number: int, rank: int, world_size: int) -> NDArray[np.int64]:
        """Lesions of one batch of one rank."""
        size = self._settings.batch_size
        start = (number * world_size + rank) * size
        return self.epoch_order(epoch)[start : start + size]

    def _random_patch(self, row: int, epoch: int) -> NDArray[np.int16]:
        rng = np.random.default_rng(batch_seed(self._seed, epoch, row, -1))
        lesion = self.cache.lesions[row]
        shape = self.cache.scans[lesion.scan].shape
        if self._settings.randoms is Randoms.OTHER_LESIONS:
            other = self._other_lesion(row, rng)
            if other is not None:
                return self.cache.read_crop(other, self._edge)
        apart = None if self._settings.randoms is Randoms.ANYWHERE else lesion.centre_zyx
        return self.cache.read_box(lesion.scan, random_centre(shape, apart, rng), self._edge)

    def _other_lesion(self, row: int, rng: np.random.Generator) -> int | None:
        """Another lesion of the same scan whose patch does not overlap this one's; None where there is none."""
        here = self.cache.lesions[row]
        others = [
            other
            for other in self._rows_of_scan[here.scan]
            if _distance(self.cache.lesions[other].centre_zyx, here.centre_zyx) >= PATCH_SIZE
        ]
        return others[rng.integers(len(others))] if others else None


def random_centre(shape: Index3, apart_from: Index3 | None, rng: np.random.Generator) -> Index3:
    """Centre voxel of a random patch of 50 that lies in the scan, uniform over all that there are.

    Args:
        shape: (Z, Y, X) of the scan. On an axis shorter than the patch, the patch is centred.
        apart_from: Centre of a lesion whose patch of 50 must not overlap; None if it may. In a scan too small for
            that, the patch is at least 80 % of the largest distance there is away, on one axis.
        rng: Draws.
    """
    half = PATCH_SIZE // 2
    lows = [half if n >= PATCH_SIZE else n // 2 for n in shape]
    highs = [n - half if n >= PATCH_SIZE else n // 2 for n in shape]  # the last centre, inclusive
    if apart_from is None:
        z, y, x = (int(rng.integers(low, high + 1)) for low, high in zip(lows, highs, strict=True))
        return z, y, x
    reach = max(max(c - low, high - c) for low, high, c in zip(lows, highs, apart_from, strict=True))
    distance = PATCH_SIZE if reach >= PATCH_SIZE else math.ceil(0.8 * reach)
    while True:  # there is at least one such place, and usually most are
        centre = random_centre(shape, None, rng)
        if _distance(centre, apart_from) >= distance:
            return centre


def open_cache(settings: TrainingSettings, method: Method) -> tuple[CacheSource, ViewMaker]:
    """The data source `cache` and the paper's views.

    Raises:
        InputError: The cache cannot be used.
        ConfigError: Margin, views and cache do not fit together.
    """
    check_margin(settings.views, settings.data.margin)
    source = CacheSource(
        settings.data, settings.seed, randoms=method.needs_negatives, surroundings=method.needs_surroundings
    )
    views: ViewMaker = LesionViews(settings.views, method.n_small_crops)
    return source, MixedViews(settings.views) if method.needs_target else views


def _ahead(read: Callable[[int], PatchBatch], numbers: range, workers: int) -> Iterator[PatchBatch]:
    """Batches in order, up to two per thread in the making (copying from a memory map lets other threads run)."""
    pool, pending = ThreadPoolExecutor(workers), deque[Future[PatchBatch]]()
    try:
        for number in numbers:
            pending.append(pool.submit(read, number))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _distance(a: Index3, b: Index3) -> int:
    """Largest of the three axes' distances: two patches of 50 overlap where it is below 50."""
    return max(abs(p - q) for p, q in zip(a, b, strict=True))


def _stack(patches: list[NDArray[np.int16]]) -> Tensor:
    return torch.from_numpy(np.stack(patches))[:, None]


def _numbered(names: list[str]) -> Tensor:
    numbers = {name: n for n, name in enumerate(sorted(set(names)))}
    return torch.tensor([numbers[name] for name in names])
