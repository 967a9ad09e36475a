"""A source's batches as lightning iterates them, from wherever the run stands."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from training.batches import PatchBatch, PatchSource


class Position(NamedTuple):
    """The next batch of a run.

    Attributes:
        epoch: From 0.
        batch: In the epoch, from 0.
    """

    epoch: int
    batch: int


class EpochLoader:
    """The batches of one rank; each iteration starts at the position that the trainer reports.

    It has no memory of its own. `state_dict` is there because lightning asks for it, and to notice if lightning should
    ever resume elsewhere than where it stopped.

    Args:
        source: Of the patches.
        rank: Of this process.
        world_size: Processes in all.
        position: Tells the next batch; asked when the first batch of an iteration is fetched.
    """

    def __init__(self, source: PatchSource, rank: int, world_size: int, position: Callable[[], Position]) -> None:
        self._source = source
        self._rank = rank
        self._world_size = world_size
        self._position = position
        self._expected: Position | None = None

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return self._source.n_batches(self._world_size)

    def __iter__(self) -> Iterator[PatchBatch]:
        """Go on from the trainer's position to the end of its epoch."""
        position = self._position()
        if self._expected is not None and position != self._expected:
            msg = f"training resumes at {position} but was saved at {self._expected}"
            raise RuntimeError(msg)
        self._expected = None
        yield from self._source.batches(
            epoch=position.epoch, first=position.batch, rank=self._rank, world_size=self._world_size
        )

    def state_dict(self) -> dict[str, int]:
        """Where a resumed run goes on."""
        epoch, batch = self._position()
        return {"epoch": epoch, "batch": batch} if batch < len(self) else {"epoch": epoch + 1, "batch": 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Expect the next iteration to start there."""
        self._expected = Position(state["epoch"], state["batch"])
