"""Run whole processes and measure them: seconds, CPU seconds, peak memory.

The peak is the kernel's (`wait4`) for one process, and the sum over the tree (proportional set size, so that shared
pages count once) where a process starts others. A child's peak begins at its parent's size, so programs that measure
stay small: they import neither torch nor highdicom, and leave heavy work to children.
"""

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SAMPLE_S: Final = 0.25
"""How often the memory and the open files of a process tree are looked at."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One whole process.

    Attributes:
        seconds: Wall clock from start to end.
        cpu_seconds: User and system time of the process and its children.
        peak_mib: Largest resident memory, MiB.
        others_share: Share of the machine's processor time that others used meanwhile: 0 on a quiet machine.
        peak_files: Most file descriptors that any one process had open, as far as samples saw.
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float
    others_share: float = 0.0
    peak_files: int = 0


class ProcessFailedError(RuntimeError):
    """A measured process did not end well; holds the end of what it said."""


def run_process(command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None) -> Measured:
    """Run a command to its end.

    Args:
        command: Program and arguments.
        log: Takes its output.
        env: Variables on top of ours.

    Raises:
        ProcessFailedError: The exit status is not 0.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        busy_before, started = _busy_seconds(), time.perf_counter()
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **(env or {})}
        )
        tree = _TreeWatch(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        seconds, busy = time.perf_counter() - started, _busy_seconds() - busy_before
        process.returncode = os.waitstatus_to_exitcode(status)
    tree.stop()
    if process.returncode != 0:
        tail = log.read_text(errors="replace")[-2000:]
        msg = f"{' '.join(command[:4])} ... ended with {process.returncode}:\n{tail}"
        raise ProcessFailedError(msg)
    own = usage.ru_utime + usage.ru_stime
    others = max(0.0, busy - own) / (seconds * (os.cpu_count() or 1))
    return Measured(seconds, own, max(usage.ru_maxrss / 1024, tree.peak_mib), others, tree.peak_files)


def run_in_turn(
    runs: Mapping[str, Callable[[], Measured]],
    repeats: Mapping[str, int],
    *,
    progress: Callable[[str, Measured], None] = lambda _name, _measured: None,
) -> dict[str, list[Measured]]:
    """Run each contestant once, then each again, so that drift of the machine meets all alike.

    Args:
        runs: Name -> what runs and measures it.
        repeats: Name -> how often; those with fewer sit out the last rounds.
        progress: Called after each.

    Raises:
        ProcessFailedError: Some did not end well; after all others were measured.
    """
    results: dict[str, list[Measured]] = {name: [] for name in runs}
    failed: dict[str, ProcessFailedError] = {}
    for turn in range(max(repeats.values())):
        for name, run in runs.items():
            if turn < repeats[name] and name not in failed:
                try:
                    results[name].append(run())
                except ProcessFailedError as error:
                    failed[name] = error
                else:
                    progress(name, results[name][-1])
    if failed:
        raise ProcessFailedError("\n".join(f"{name}: {error}" for name, error in failed.items()))
    return results


def summary(results: Sequence[Measured]) -> dict[str, Any]:
    """Medians, and every time, for JSON."""
    return {
        "median_s": round(statistics.median(m.seconds for m in results), 3),
        "median_cpu_s": round(statistics.median(m.cpu_seconds for m in results), 3),
        "median_peak_mib": round(statistics.median(m.peak_mib for m in results), 1),
        "others_share": round(statistics.median(m.others_share for m in results), 3),
        "peak_files": max(m.peak_files for m in results),
        "all_s": [round(m.seconds, 3) for m in results],
    }


def _busy_seconds() -> float:
    """Processor time that the whole machine has spent so far, what its host took from it (steal) included."""
    user, nice, system, _idle, _wait, irq, soft_irq, steal = map(int, _stat_fields()[:8])
    return (user + nice + system + irq + soft_irq + steal) / os.sysconf("SC_CLK_TCK")


def _stat_fields() -> list[str]:
    """First line of /proc/stat without its name (proc(5))."""
    return Path("/proc/stat").read_text().splitlines()[0].split()[1:]


class _TreeWatch:
    """Samples a process and its descendants.

    Attributes:
        peak_mib: Of the sum while there is more than one, 0 for a single process.
        peak_files: Descriptors that any one of them had open.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.peak_mib = 0.0
        self.peak_files = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End sampling."""
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            tree = _tree(self._pid)
            self.peak_files = max(self.peak_files, *map(_open_files, tree))
            if len(tree) > 1:
                self.peak_mib = max(self.peak_mib, sum(map(_pss_mib, tree)))


def _tree(pid: int) -> list[int]:
    """A process and its descendants; those that end meanwhile are left out."""
    found = [pid]
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _tree(int(child))
    except OSError:
        pass
    return found


def _pss_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def _open_files(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0
