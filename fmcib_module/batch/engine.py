"""Tasks over the cores and GPUs of a Ray cluster: Ray Data streams them to a pool of workers and replaces dead ones.

A worker is one process that does everything of an item, so an item is downloaded once, to the disk of one machine.
Without a GPU each worker holds the network itself, on its share of the machine's cores; with GPUs the workers send
their patches to one process per GPU.
"""

import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from fmcib_module.adapters.engine import THREADS_VARIABLE, usable_cpus
from fmcib_module.batch.claims import Task
from fmcib_module.batch.encode import EncoderServer, OwnEncoder, ServedEncoder
from fmcib_module.batch.extra import need
from fmcib_module.batch.worker import JobPlan, Outcome, Worker
from fmcib_module.core.errors import ConfigError, FmcibError, OutputError
from fmcib_module.settings import Device

MOST_PER_BLOCK: Final = 128
"""Items that a worker takes at once. Its network waits at their start and end, so many is better; a dead worker's are
looked at again."""

OUTCOME_BYTES: Final = 32_768
"""Outcomes that a worker collects before it hands them on, so that progress shows within a block."""

BLOCKS_PER_WORKER: Final = 4
"""At least so many where there are enough items, so that several workers end at about the same time."""

OBJECT_STORE_BYTES: Final = 200_000_000
"""Of a cluster that we start; it holds manifest rows and, with GPUs, patches on their way."""

STARTS: Final = 3
"""How often a cluster on this machine is tried."""

_TASK: TypeAdapter[Task] = TypeAdapter(Task)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Which machines work, and how they are divided.

    Attributes:
        address: Of a running cluster ("auto" finds this machine's); empty starts one on this machine.
        cpus_per_worker: Cores of a worker that holds the network itself.
    """

    address: str = ""
    cpus_per_worker: int = 2

    def __post_init__(self) -> None:
        if self.cpus_per_worker < 1:
            raise ConfigError(f"{self.cpus_per_worker} cores per worker", "--cpus-per-worker", "give at least 1")


def run_tasks(tasks: Sequence[Task], plan: JobPlan, cluster: Cluster) -> Iterator[Outcome]:
    """Do tasks; outcomes come as blocks of them are done, in any order.

    Raises:
        ConfigError: Ray is not installed or there is no such cluster, or the network cannot run there.
        OutputError: Ray gave up.
    """
    with _connected(cluster) as ray:
        n_gpus = 0 if plan.settings.device is Device.CPU else int(ray.cluster_resources().get("GPU", 0))
        servers = [_start_server(ray, plan) for _ in range(n_gpus)]
        share = 1 if servers else cluster.cpus_per_worker
        n_workers, share = divide(_cores_of_nodes(ray), share, len(tasks))
        n_blocks = n_workers * (BLOCKS_PER_WORKER if n_workers > 1 else 1)
        per_block = max(1, min(MOST_PER_BLOCK, math.ceil(len(tasks) / n_blocks)))
        rows = [{"task": _TASK.dump_json(task)} for task in tasks]
        dataset = ray.data.from_items(rows, override_num_blocks=math.ceil(len(rows) / per_block)).map_batches(
            BlockWorker,
            fn_constructor_args=(plan, servers, share),
            batch_size=None,
            num_cpus=share,
            compute=ray.data.ActorPoolStrategy(size=n_workers),
        )
        try:
            for row in dataset.iter_rows():
                yield Outcome(row["key"], row["ledger"], row["reason"])
        except ray.exceptions.RayError as error:
            raise _translated(error) from error


def divide(node_cores: Sequence[int], share: int, n_tasks: int) -> tuple[int, int]:
    """How many workers fit on machines, and the cores of each: never more workers than tasks, at least one.

    Args:
        node_cores: Cores of each machine.
        share: Wanted for a worker; a machine with fewer gets none, unless all have fewer.
        n_tasks: Tasks in all.
    """
    share = min(share, max(node_cores))
    n_workers = sum(cores // share for cores in node_cores)
    return max(1, min(n_workers, n_tasks)), share


class BlockWorker:
    """A worker in Ray Data's pool; made once per process."""

    def __init__(self, plan: JobPlan, servers: list[Any], share: int) -> None:
        """Load the network, for as many threads as this worker has cores, or remember who has it."""
        os.environ[THREADS_VARIABLE] = str(share)
        encode = ServedEncoder(servers, os.getpid()) if servers else OwnEncoder(plan.settings)
        self._worker = Worker(plan, encode)

    def __call__(self, block: dict[str, NDArray[Any]]) -> Iterator[dict[str, NDArray[Any]]]:
        """Do a block of tasks."""
        for outcome in self._worker.run([_TASK.validate_json(bytes(task)) for task in block["task"]]):
            columns = {"key": outcome.key, "ledger": outcome.ledger, "reason": outcome.reason}
            yield {name: np.array([value], dtype=object) for name, value in columns.items()}


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    """Ray, quiet, on a running cluster or on one that ends with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # as `fmcib run`; Ray would let all others go first
    ray: Any = need("ray")
    need("ray.data")
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    _connect(ray, cluster.address)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = OUTCOME_BYTES
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    """Join a cluster, or start one; a busy machine may miss Ray's 30 s for that, and gets another try."""
    options: dict[str, Any] = {"address": address}
    if not address:
        size = OBJECT_STORE_BYTES
        own = {"address": "local"}  # not one that RAY_ADDRESS or another user's `ray start` names
        options = {**own, "num_cpus": usable_cpus(), "include_dashboard": False, "object_store_memory": size}
    for left in reversed(range(1 if address else STARTS)):
        try:
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises the base class here
            ray.shutdown()
            if left == 0:
                what = f"no Ray cluster answers ({type(error).__name__})"
                raise ConfigError(what, address or "this machine", "see that `ray status` works there") from error
        else:
            return


def _start_server(ray: Any, plan: JobPlan) -> Any:
    """A process with the network on one GPU; it is started again where it dies."""
    options = {"num_gpus": 1, "num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    return ray.remote(EncoderServer).options(**options).remote(plan.settings)


def _cores_of_nodes(ray: Any) -> list[int]:
    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return [count for count in cores if count > 0] or [1]


def _translated(error: Exception) -> FmcibError:
    """What a worker raised on purpose, else that Ray gave up."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, FmcibError):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__
    last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
    return OutputError(
        f"the workers ended: {last[0]}", "Ray", "run the same command again, it goes on where it stopped"
    )
