"""`fmcib batch` beside `fmcib run`, and under kills: `python -m benchmarks.batch [kills | overhead]`.

kills: a cluster of two nodes on this machine; while a job runs on it, a worker's process is killed, then the driver's,
and a second driver ends the job. Every lesion has to be there once, with the values of a run in one process.

overhead: the same cohort by `fmcib run` and by `fmcib batch` on all cores of this machine, in turn.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

from benchmarks.bench import Bench, run_bench
from benchmarks.measure import Measured, run_process

N_SERIES: Final = 200
QUICK_SERIES: Final = 12

SHAPES: Final = {"small": (20, 32, 32), "large": (64, 256, 256)}
"""Slices, rows, columns of the phantoms."""

WORKER_TITLE: Final = "ray::MapWorker"
"""How Ray names the processes of a pool, for ps(1)."""

OPTIONS: Final = ("--set", "report=false")


def main() -> None:
    """Choose what to prove."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["kills", "overhead"], default=["kills", "overhead"])
    parser.add_argument("--series", type=int, default=0, help=f"default {N_SERIES}, quick {QUICK_SERIES}")
    parser.add_argument("--shape", choices=list(SHAPES), default="large", help="of the phantoms for overhead")
    parser.add_argument("--cpus-per-worker", type=int, nargs="+", default=[1, 2])
    run_bench("batch", measure, parser)


def measure(bench: Bench, options: argparse.Namespace) -> None:
    """Run what was chosen."""
    n_series = options.series or (QUICK_SERIES if bench.quick else N_SERIES)
    if "kills" in options.what:
        bench.results["kills"] = kills(bench.work / "kills", n_series, bench.say)
    if "overhead" in options.what:
        shape = "small" if bench.quick else options.shape
        overhead(bench, n_series, shape, options.cpus_per_worker)


def write_cohort(folder: Path, n_series: int, shape: str) -> Path:
    """Phantoms with four lesions each (two in an RTSTRUCT, two in a SEG), made once; their manifest."""
    manifest = folder / "manifest.csv"
    names = [f"p{n:04d}" for n in range(n_series)]
    content = "\n".join(["source", *names, ""])
    if not manifest.is_file() or manifest.read_text() != content:
        from tests import phantoms

        rmtree(folder, ignore_errors=True)
        for number, name in enumerate(names):
            phantoms.write_study(folder / name, seed=number, shape_kji=SHAPES[shape])
        manifest.write_text(content)
    return manifest


def overhead(bench: Bench, n_series: int, shape: str, shares: list[int]) -> None:
    """Both commands as whole processes, in turn."""
    manifest = write_cohort(bench.inputs / f"batch_{shape}_{n_series}", n_series, shape)
    bench.prepare("weights")
    environment = {"FMCIB_CACHE": str(bench.work / "cache")}

    def batch(share: int) -> Measured:
        output = bench.work / "out_batch"
        rmtree(output, ignore_errors=True)
        command = [*_fmcib("batch"), str(manifest), str(output), *OPTIONS, "--weights", str(bench.weights)]
        log = bench.work / "logs/batch.log"
        return run_process([*command, "--cpus-per-worker", str(share)], log, env=environment)

    def run() -> Measured:
        return bench.fmcib_run(manifest.parent, bench.work / "out_run", "--no-report")

    contestants: dict[str, Callable[[], Measured]] = {"run": run}
    contestants |= {f"batch_{share}": partial(batch, share) for share in shares}
    results = bench.in_turn(contestants, dict.fromkeys(contestants, bench.repeats))
    bench.results["overhead"] = {"series": n_series, "shape": SHAPES[shape]}
    best = {name: min(measured.seconds for measured in all_of) for name, all_of in results.items()}
    for name in list(contestants)[1:]:
        bench.target(f"{name}, times `fmcib run`", best[name] / best["run"], at_most=1.1)


def kills(work: Path, n_series: int, say: Any = print) -> dict[str, Any]:
    """The proof; fails with an AssertionError where a lesion is lost, doubled or changed."""
    manifest = write_cohort(work / "input", n_series, "small")
    expected, output = work / "expected", work / "output"
    for folder in (expected, output):
        rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    run_process([*_fmcib("run"), str(manifest.parent), str(expected), "--no-report"], work / "run.log")
    run_s = time.perf_counter() - started
    say(f"fmcib run: {run_s:.1f} s")
    with two_nodes() as address:
        command = [*_fmcib("batch"), str(manifest), str(output), *OPTIONS]
        command += ["--ray-address", address, "--cpus-per-worker", "1", "--scratch", str(work / "scratch")]
        started = time.perf_counter()
        first = _start(command, work / "first.log")
        _wait_for(lambda: _n_done(output) >= n_series // 4, first)
        victim = _workers()[0]
        os.kill(victim, signal.SIGKILL)
        at_kill = _n_done(output)
        say(f"worker {victim} killed after {at_kill} series")
        _wait_for(lambda: _n_done(output) >= n_series // 2, first)
        first.kill()
        first.wait()
        at_restart = _n_done(output)
        say(f"driver killed after {at_restart} series")
        second = _start(command, work / "second.log")
        code = second.wait(timeout=1800)
        batch_s = time.perf_counter() - started
    assert code == 0, (work / "second.log").read_text()[-2000:]
    n_lesions = check_equal(output, expected)
    claims = [path.name.split(".")[0] for path in (output / "_batch/done").iterdir()]
    assert len(claims) == len(set(claims)) == n_series
    say(f"{n_lesions} lesions of {n_series} series, each once, equal to the run; {batch_s:.1f} s in all")
    return {
        "series": n_series,
        "lesions": n_lesions,
        "done_at_worker_kill": at_kill,
        "done_at_driver_kill": at_restart,
        "run_s": round(run_s, 1),
        "batch_s": round(batch_s, 1),
    }


def check_equal(output: Path, expected: Path) -> int:
    """Both cohorts hold the same rows with the same float32 values, each once; how many there are."""
    import pandas as pd

    tables = []
    for folder in (output, expected):
        table = pd.read_parquet(folder / "features.parquet")
        keys = ["series_uid", "source_uid", "roi_number"]
        assert not table.duplicated(keys).any(), "a lesion is there twice"
        tables.append(table.sort_values(keys, ignore_index=True))
    ours, theirs = tables
    assert len(ours) == len(theirs)
    assert all((a == b).all() for a, b in zip(ours["features"], theirs["features"], strict=True))
    assert ours.drop(columns="features").equals(theirs.drop(columns="features"))
    return len(ours)


@contextmanager
def two_nodes(*, n_gpus: int = 0) -> Iterator[str]:
    """A Ray cluster of two nodes with one core each on this machine; its address.

    Args:
        n_gpus: What the first one says that it has.
    """
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 1, "num_gpus": n_gpus, "object_store_memory": 100_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    try:
        cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
        yield cluster.address
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


def _fmcib(command: str) -> list[str]:
    return [sys.executable, "-m", "fmcib_module.cli", command]


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def _n_done(output: Path) -> int:
    folder = output / "_batch/done"
    return len(list(folder.glob("*.ok"))) if folder.is_dir() else 0


def _workers() -> list[int]:
    """Process ids of our pool's workers: processes that this one began, by the title that Ray gives them."""
    import psutil

    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.cmdline()[:1] and process.cmdline()[0].startswith(WORKER_TITLE):
                found.append(process.pid)
    return sorted(found)


def _wait_for(condition: Any, process: subprocess.Popen[bytes]) -> None:
    """Wait until something is true while a process runs."""
    while not condition():
        assert process.poll() is None, f"the driver ended early with {process.returncode}"
        time.sleep(0.2)


if __name__ == "__main__":
    main()
