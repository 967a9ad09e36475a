"""Run a function on two ranks: two gloo processes on the CPU."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing.spawn import start_processes


def on_two_ranks(function: Callable[..., Any], folder: Path, *args: Any) -> list[Any]:
    """Call function(rank, *args) in two processes that form a group; what they return, in rank order.

    Args:
        function: At the top level of a module; it returns tensors or plain values.
        folder: Where the results are handed over.
        args: Passed on.
    """
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    start_processes(_one_rank, (function, folder, port, args), nprocs=2, start_method="spawn")  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def _one_rank(rank: int, function: Callable[..., Any], folder: Path, port: int, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://localhost:{port}", rank=rank, world_size=2)
    try:
        torch.save(function(rank, *args), folder / f"rank{rank}.pt")
    finally:
        distributed.destroy_process_group()
