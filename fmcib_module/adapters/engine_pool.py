"""Several devices at once: one process per device, each with its own copy of the network, fed through shared memory."""

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.shared_memory import SharedMemory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.conventions import PATCH_SIZE
from fmcib_module.core.errors import ConfigError, FmcibError

PATCH_SHAPE: Final = (1, PATCH_SIZE, PATCH_SIZE, PATCH_SIZE)
PATCH_BYTES: Final = PATCH_SIZE**3 * 4
STOP_WITHIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What one process loads.

    Attributes:
        weights: As `load_encoder` takes them.
        device: cpu, or cuda for the device in `visible`.
        engine: As `load_encoder` takes it.
        precision: As `load_encoder` takes it.
        visible: CUDA_VISIBLE_DEVICES of the process; empty leaves it as it is.
    """

    weights: str
    device: str
    engine: str
    precision: str
    visible: str = ""


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    patches: SharedMemory
    rows: int
    device: str


class PoolForward:
    """An engine made of others; a batch is dealt out to them evenly, in order."""

    min_rows: int | None = 1

    def __init__(self, plans: Sequence[WorkerPlan], n_features: int) -> None:
        """Start one process per plan and wait until all have loaded the network.

        Raises:
            FmcibError: What a process could not load.
        """
        self._n_features = n_features
        context = get_context("spawn")  # a forked process cannot use CUDA
        self._workers: list[_Worker] = []
        try:
            starting = []
            for plan in plans:
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, plan), daemon=True, name="fmcib-engine")
                process.start()
                theirs.close()
                starting.append((process, ours, plan))
            for process, pipe, plan in starting:
                rows = int(_answer(pipe, plan.visible or plan.device))
                memory = SharedMemory(create=True, size=rows * PATCH_BYTES)
                pipe.send(memory.name)
                self._workers.append(_Worker(process, pipe, memory, rows, plan.visible or plan.device))
        except BaseException:
            self.close()
            raise
        self.batch_size = sum(worker.rows for worker in self._workers)
        atexit.register(self.close)  # an encoder lives as long as its process; shared memory would outlive both

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 1, 50, 50, 50) -> (n, n_features).

        Raises:
            FmcibError: A process died or failed.
        """
        features = np.empty((len(patches), self._n_features), dtype=np.float32)
        for start in range(0, len(patches), self.batch_size):
            chunk = patches[start : start + self.batch_size]
            shares = np.array_split(np.arange(len(chunk)), len(self._workers))
            for worker, share in zip(self._workers, shares, strict=True):
                if len(share):
                    view = np.ndarray((len(share), *PATCH_SHAPE), np.float32, buffer=worker.patches.buf)
                    view[:] = chunk[share]
                    _ask(worker, len(share))
            for worker, share in zip(self._workers, shares, strict=True):
                if len(share):
                    features[start + share] = _answer(worker.pipe, worker.device)
        return features

    def describe(self) -> dict[str, Any]:
        """The first process' engine, and how many there are."""
        first = self._workers[0]
        _ask(first, "describe")
        description: dict[str, Any] = _answer(first.pipe, first.device)
        return {**description, "processes": len(self._workers)}

    def close(self) -> None:
        """End the processes and free the shared memory."""
        for worker in self._workers:
            worker.pipe.close()  # its end of file tells the process to stop
            worker.process.join(STOP_WITHIN_S)
            if worker.process.is_alive():
                worker.process.kill()
            worker.patches.close()
            worker.patches.unlink()
        self._workers = []


def _ask(worker: _Worker, request: int | str) -> None:
    try:
        worker.pipe.send(request)
    except OSError as error:
        raise _ended(worker.device) from error


def _answer(pipe: Connection, device: str) -> Any:
    try:
        answer = pipe.recv()
    except (EOFError, OSError) as error:
        raise _ended(device) from error
    if isinstance(answer, FmcibError):
        raise answer
    return answer


def _ended(device: str) -> ConfigError:
    what, fix = "an engine process ended without an answer", "see the system's log for lack of memory"
    return ConfigError(what, f"device {device}", fix)


def _serve(pipe: Connection, plan: WorkerPlan) -> None:
    """A process: load the network, then answer "describe" and numbers of patches until the other end closes."""
    if plan.visible:
        os.environ["CUDA_VISIBLE_DEVICES"] = plan.visible
    from fmcib_module.adapters.runner import load_encoder

    try:
        encoder = load_encoder(plan.weights, device=plan.device, engine=plan.engine, precision=plan.precision)
    except FmcibError as error:
        pipe.send(error)
        return
    pipe.send(encoder.batch_size)
    try:
        memory = SharedMemory(pipe.recv())
        while True:
            request = pipe.recv()
            if request == "describe":
                pipe.send(encoder.describe())
                continue
            view: NDArray[np.float32] = np.ndarray((request, *PATCH_SHAPE), np.float32, buffer=memory.buf)
            try:
                pipe.send(encoder.encode(view[:, 0].copy()))
            except FmcibError as error:
                pipe.send(error)
    except EOFError:
        return
