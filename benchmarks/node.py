"""C-STORE into `fmcib serve`, which acknowledges what is on disk, against DCMTK's storescp, which does not flush.

Both take the same objects (CT slices of 512 x 512) from the same storescu of DCMTK on this machine, in turn. The node
has nothing else to do; its memory is read after each round. Needs Debian's dcmtk.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.bench import ROOT, Bench, run_bench

NO_DELAY: Final = {**os.environ, "TCP_NODELAY": "1"}
"""Without it, as they are installed, DCMTK's programs wait about 40 ms in each object."""

DCMTK: Final = "/usr/bin"
"""pynetdicom installs programs of the same names elsewhere."""

SENDERS: Final = (1, 8)
EDGE: Final = 512
OBJECTS: Final = 40
SENDINGS: Final = 3
"""Each sender sends its objects so often, each time with UIDs of their own."""


@dataclass(frozen=True)
class Contestant:
    """A receiver under test."""

    name: str
    port: int
    process: Any
    folder: Path
    environment: dict[str, str]  # of its senders, and of its own if it is DCMTK's

    @property
    def is_node(self) -> bool:
        """Whether it is ours."""
        return self.name.startswith("fmcib")

    def memory_mib(self) -> float:
        """Resident memory of its process."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0


def measure(bench: Bench, _options: Namespace) -> None:
    """Objects per second and memory."""
    edge, objects = (64, 4) if bench.quick else (EDGE, OBJECTS)
    folders = [_scan(bench, edge, objects, number) for number in range(max(SENDERS))]
    rates: dict[str, dict[int, list[float]]] = {}
    memory: list[float] = []
    with receivers(bench) as contestants:
        for _ in range(bench.repeats):
            for senders in SENDERS:
                for one in contestants:
                    if senders > 1 and one.name == "storescp":
                        continue  # it takes one association after the other: those that wait time out
                    rate = _send(one, folders[:senders], objects)
                    rates.setdefault(one.name, {}).setdefault(senders, []).append(rate)
                    bench.say(f"{one.name}, {senders} sender(s): {rate:.0f} objects/s")
                    if one.is_node:
                        memory.append(one.memory_mib())
                    _empty(one.folder / "spool" if one.is_node else one.folder)
    medians = {name: {n: median(values) for n, values in by.items()} for name, by in rates.items()}
    bench.results |= {"objects_per_s": medians, "node_mib": memory, "object_kb": edge * edge * 2 / 1000}
    for senders in SENDERS:
        best = max(medians[name].get(senders, 0.0) for name in ("storescp", "storescp --fork"))
        ours = medians["fmcib serve"][senders]
        bench.target(f"{senders} sender(s): node / faster storescp", ours / best, at_least=0.5)
    settled = memory[len(memory) // 3]
    bench.target("memory after the last sending, times after a third of them", memory[-1] / settled, at_most=1.2)


@contextmanager
def receivers(bench: Bench) -> Iterator[list[Contestant]]:
    """The node, and storescp as it starts, with a process per association, and without its waits."""
    storescp = str(shutil.which("storescp", path=DCMTK))
    default = dict(os.environ)
    kinds = {
        "storescp": ([], default),
        "storescp --fork": (["--fork"], default),
        "storescp --fork, no delay": (["--fork"], NO_DELAY),
    }
    started: list[Contestant] = []
    try:
        for name, (options, environment) in kinds.items():
            folder, port = _fresh(bench.work / "out" / f"storescp{len(started)}"), _free_port()
            command = [storescp, *options, "--max-pdu", "131072", "-od", str(folder), str(port)]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
            started.append(Contestant(name, port, process, folder, environment))
        folder, port = _fresh(bench.work / "out" / "node"), _free_port()
        serve = [sys.executable, "-m", "fmcib_module.cli", "serve", "--config", str(_settings(folder))]
        serve += ["--folder", str(folder), "--port", str(port), "--peer", "STORESCU", "--http-port", "-1"]
        (bench.work / "logs").mkdir(parents=True, exist_ok=True)
        with (bench.work / "logs" / "node.log").open("w") as log:
            node = subprocess.Popen(serve, cwd=ROOT, stderr=log)
        started.append(Contestant("fmcib serve", port, node, folder, default))
        for one in started:
            _wait_for_port(one.port)
        yield [*started, replace(started[-1], name="fmcib serve, no delay", environment=NO_DELAY)]
    finally:
        for one in started:
            with suppress(ProcessLookupError):
                os.kill(one.process.pid, signal.SIGTERM)
            one.process.wait()


def _settings(folder: Path) -> Path:
    path = folder / "serve.yml"
    path.write_text("quiet_s: 86400.0\nmaximum_associations: 20\nfree_disk_gb: 1.0\n")
    return path


def _scan(bench: Bench, edge: int, objects: int, number: int) -> Path:
    """One sender's slices, made once."""
    from fmcib_module.adapters.study_writer import StudyTags, ct_datasets
    from tests.phantoms import phantom_grid

    folder = bench.inputs / f"node_{edge}_{objects}_{number}"
    if not folder.exists():
        import numpy as np

        shape = (objects, edge, edge)
        voxels = np.random.default_rng(number).integers(-1000, 1000, shape).astype(np.float32)
        grid = phantom_grid(shape, (0.8, 0.8, 2.5), "axial")
        folder.mkdir(parents=True)
        for k, dataset in enumerate(ct_datasets(voxels, grid, StudyTags(f"node {number}"))):
            dataset.save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)
    return folder


def _send(to: Contestant, folders: list[Path], objects: int) -> float:
    """All senders at once; objects per second."""
    storescu = str(shutil.which("storescu", path=DCMTK))
    repeated = ["--repeat", str(SENDINGS), "+II"]  # +II: every object gets a UID of its own
    options = ["-aec", "FMCIB", "--max-send-pdu", "131072", "+sd", *repeated, "127.0.0.1", str(to.port)]
    started = time.perf_counter()
    processes = [subprocess.Popen([storescu, *options, str(folder)], env=to.environment) for folder in folders]
    if any([process.wait() for process in processes]):
        msg = f"{to.name} did not take everything"
        raise RuntimeError(msg)
    return len(folders) * objects * SENDINGS / (time.perf_counter() - started)


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _empty(folder: Path) -> None:
    """Remove what was received, so that the disk is the same for the next."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    os.sync()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_for_port(port: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    msg = "a receiver did not start"
    raise RuntimeError(msg)


if __name__ == "__main__":
    run_bench("node", measure)
