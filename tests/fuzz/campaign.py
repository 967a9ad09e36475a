"""Studies shared out to worker processes that are watched from outside."""

import contextlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

import psutil

from tests.fuzz.study import run_one

HANG_S: Final = 10.0
"""Of computing; and ten times that on the clock, for a machine that is busy."""

MEMORY_BYTES: Final = 2_000_000_000


class Campaign:
    """Studies shared out to workers, and what came of them."""

    def __init__(self, base: Path, folder: Path) -> None:
        self._base = base
        self._folder = folder
        self._codes: Counter[int] = Counter()
        self._broken: dict[int, list[str]] = {}
        self._most_bytes = 0
        self._longest_s = 0.0

    def run(self, first: int, count: int, n_workers: int) -> dict[str, Any]:
        """Run the seeds first .. first + count - 1; returns the summary."""
        started, seeds = time.monotonic(), iter(range(first, first + count))
        workers = [Worker(self._base, self._folder) for _ in range(min(n_workers, count))]
        busy = [worker for worker in workers if worker.give(next(seeds, None))]
        while busy:
            ready = set(wait([worker.pipe for worker in busy], timeout=0.25))
            for worker in list(busy):
                if worker.pipe in ready:
                    self._note(worker, *worker.take())
                elif fault := worker.fault():
                    self._note(worker, -1, [fault])
                    worker.restart()
                else:
                    continue
                if not worker.give(next(seeds, None)):
                    busy.remove(worker)
            self._show(started, count)
        for worker in workers:
            worker.stop()
        return {
            "studies": sum(self._codes.values()),
            "first_seed": first,
            "exit_codes": {str(code): n for code, n in sorted(self._codes.items())},
            "longest_s": round(self._longest_s, 2),
            "most_memory_mb": self._most_bytes // 1_000_000,
            "minutes": round((time.monotonic() - started) / 60, 1),
            "broken": {str(seed): rules for seed, rules in sorted(self._broken.items())},
        }

    def _note(self, worker: "Worker", code: int, broken: list[str]) -> None:
        self._codes[code] += 1
        self._longest_s = max(self._longest_s, worker.computed_s())
        self._most_bytes = max(self._most_bytes, worker.most_bytes)
        if broken:
            self._broken[worker.seed] = broken
            print(f"seed {worker.seed}: {broken}", file=sys.stderr, flush=True)

    def _show(self, started: float, count: int) -> None:
        if sys.stderr.isatty():
            done = sum(self._codes.values())
            rate = done / max(time.monotonic() - started, 1e-9)
            print(f"\r{done}/{count} studies, {rate:.0f}/s, {len(self._broken)} broken ", end="", file=sys.stderr)


class Worker:
    """A process that runs one study after another."""

    def __init__(self, base: Path, folder: Path) -> None:
        self._arguments = (base, folder)
        self.seed = -1
        self._start()

    def restart(self) -> None:
        """Kill the process and start another."""
        self.stop()
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(*self._arguments, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._watched = psutil.Process(self._process.pid)
        self.most_bytes = 0

    def give(self, seed: int | None) -> bool:
        """Start a study, if there is one."""
        if seed is None:
            return False
        self.seed, self._moved, self._cpu_s = seed, time.monotonic(), self._now_s()
        self._moved_at_s = self._cpu_s
        self.pipe.send(seed)
        return True

    def take(self) -> tuple[int, list[str]]:
        """Exit code and broken rules of the study that is done; a process that died is a broken rule."""
        try:
            code, broken = self.pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            code, broken = -1, [f"the process died: {self._process.exitcode}"]
            self.restart()
            return code, broken
        self._look()
        return code, broken

    def fault(self) -> str:
        """Why the study has to be ended; empty while it may go on."""
        self._look()
        if self.most_bytes > MEMORY_BYTES:
            return f"{self.most_bytes / 1e9:.1f} GB of memory"
        if self.computed_s() > HANG_S:
            return f"not done after {self.computed_s():.0f} s of computing"
        now_s = self._now_s()
        if now_s > self._moved_at_s:  # on a busy machine a worker may wait long for its turn
            self._moved, self._moved_at_s = time.monotonic(), now_s
        if time.monotonic() - self._moved > 10 * HANG_S:
            return f"asleep after {self.computed_s():.0f} s of computing"
        return ""

    def computed_s(self) -> float:
        """Processor seconds since the study started."""
        return self._now_s() - self._cpu_s

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()

    def _now_s(self) -> float:
        try:
            times = self._watched.cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def _look(self) -> None:
        with contextlib.suppress(psutil.Error):
            self.most_bytes = max(self.most_bytes, int(self._watched.memory_info().rss))


def _work(base: Path, folder: Path, pipe: Connection) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # native decoders write there themselves
    while True:
        seed = pipe.recv()
        work = Path(tempfile.mkdtemp(dir=folder))
        result = run_one(base, work, seed)
        shutil.rmtree(work, ignore_errors=True)
        pipe.send(result)
