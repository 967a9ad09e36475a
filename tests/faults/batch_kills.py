"""Kills of `fmcib batch`: its driver, which the same command follows, or a worker, which the job outlives."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from random import Random

import psutil

from tests.faults.outputs import check_whole, comparable, differences
from tests.faults.processes import end, start

RECORDS = "_batch/"
"""Claims and records of jobs, which tell of the kills."""

WORKER = "ray::MapWorker"
"""How a worker of the job calls itself once it is ready."""


def kill_and_resume(folder: Path, n_kills: int, seed: int) -> tuple[int, int]:
    """Kill, check, resume, compare; each second kill hits a worker, the others the driver.

    Args:
        folder: Holds the studies in `in`.
        n_kills: How often.
        seed: Of the moments.

    Returns:
        How many kills hit a job that had not ended, and how many ended jobs were compared.

    Raises:
        AssertionError: A job ended otherwise than the undisturbed one.
    """
    rng = Random(seed)
    studies = sorted(path.name for path in (folder / "in").iterdir())
    (folder / "manifest.csv").write_text("\n".join(["source", *(f"in/{name}" for name in studies), ""]))
    started = time.monotonic()
    assert _start(folder, folder / "expected-batch").wait() == 0
    duration_s = time.monotonic() - started
    expected = _results(folder / "expected-batch")
    hits = compared = 0
    for kill in range(n_kills):
        output = folder / f"batch-{kill // 2}"
        driver = _start(folder, output)
        time.sleep(rng.uniform(0, duration_s))
        if kill % 2 == 0:
            family = _family(driver.pid)
            hits += driver.poll() is None
            end(driver)
            check_whole(output)
        if kill % 2 == 1:
            hits += _kill_a_worker(driver.pid)
        elif kill == n_kills - 1:
            driver = _start(folder, output)
        else:
            continue
        assert driver.wait() == 0, f"kill {kill}: {output.with_suffix('.log').read_text()[-2000:]}"
        _see_end(family)
        check_whole(output)
        assert not (different := differences(_results(output), expected)), f"kill {kill}: {different}"
        compared += 1
    return hits, compared


def _start(folder: Path, output: Path) -> "subprocess.Popen[bytes]":
    return start(
        "batch", folder / "manifest.csv", output, "--cpus-per-worker", "1", "--scratch", str(folder / "scratch")
    )


def _results(output: Path) -> dict[str, object]:
    return {name: content for name, content in comparable(output).items() if not name.startswith(RECORDS)}


def _family(pid: int) -> list[psutil.Process]:
    """All processes of a job but its driver."""
    with suppress(psutil.Error):
        children: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
        return children
    return []


def _kill_a_worker(driver: int) -> bool:
    """SIGKILL a worker when there is one; false where the job ends before."""
    while psutil.pid_exists(driver) and psutil.Process(driver).status() != psutil.STATUS_ZOMBIE:
        for process in _family(driver):
            with suppress(psutil.Error):
                if WORKER in " ".join(process.cmdline()):
                    os.kill(process.pid, signal.SIGKILL)
                    return True
        time.sleep(0.1)
    return False


def _see_end(family: list[psutil.Process]) -> None:
    """Processes of a job whose driver was killed end by themselves."""
    _, left = psutil.wait_procs(family, timeout=60)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    assert not left, f"still there: {[process.name() for process in left]}"
