"""The loader goes on where the trainer stands, and its source's batches depend on nothing else."""

import pytest
import torch

from training.batches import PatchBatch, batch_seed
from training.loader import EpochLoader, Position
from training.settings import DataSettings
from training.synthetic import SyntheticSource

SOURCE = SyntheticSource(DataSettings(batch_size=2, n_lesions=13, edge=8), seed=3)


def _equal(a: PatchBatch, b: PatchBatch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None)


def test_a_loader_that_starts_in_the_middle_gives_the_rest_of_the_epoch() -> None:
    whole = list(EpochLoader(SOURCE, 0, 1, lambda: Position(2, 0)))
    rest = EpochLoader(SOURCE, 0, 1, lambda: Position(2, 4))
    assert len(whole) == len(rest) == 6  # one lesion of 13 waits for another epoch
    assert all(_equal(a, b) for a, b in zip(rest, whole[4:], strict=True))


def test_ranks_share_an_epoch_and_epochs_differ() -> None:
    rows = [
        torch.cat([batch.lesion_rows for batch in SOURCE.batches(epoch=epoch, first=0, rank=rank, world_size=2)])
        for epoch in (0, 1)
        for rank in (0, 1)
    ]
    assert all(len(part) == 6 for part in rows)
    assert not set(rows[0].tolist()) & set(rows[1].tolist())
    assert not torch.equal(torch.cat(rows[:2]), torch.cat(rows[2:]))


def test_resuming_elsewhere_than_saved_is_an_error() -> None:
    saved = EpochLoader(SOURCE, 0, 1, lambda: Position(1, 6)).state_dict()
    assert saved == {"epoch": 2, "batch": 0}
    loader = EpochLoader(SOURCE, 0, 1, lambda: Position(1, 5))
    loader.load_state_dict(saved)
    with pytest.raises(RuntimeError, match="saved at"):
        next(iter(loader))


def test_seeds_of_batches_differ_in_each_part() -> None:
    seeds = {batch_seed(*parts) for parts in ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0, 0, 11, 0))}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
