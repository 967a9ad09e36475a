"""Our training loader against the published one: samples per second and core, same scan and lesions, in turn.

A sample is two augmented views of a lesion and two of a random patch of its scan. The published loader is given the
scan as uncompressed NRRD, the form it reads fastest. Ours reads the cache that `prepare` made, which
is measured apart.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.bench import Bench, run_bench
from benchmarks.measure import run_process
from benchmarks.published_env import published_python

MOST_LESIONS: Final = 100

ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}


def measure(bench: Bench, options: argparse.Namespace) -> None:
    """Run both, in turn, and compare."""
    published = None if bench.quick else published_python()
    lesions = min(MOST_LESIONS, max(bench.prepare_scan()))
    table = bench.inputs / f"single/published_{lesions}.csv"
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    for turn in range(bench.repeats):
        ours.append(_ours(bench, table, batch_size=2 if bench.quick else 32))
        if published is not None:
            theirs.append(_published(bench, published, table, options.samples))
        bench.say(f"turn {turn + 1} of {bench.repeats}")
    rates = {name: statistics.median(_per_core(run[name]) for run in ours) for name in ("read", "read_and_views")}
    bench.results = {"ours": ours, "published": theirs, "ours_samples_per_core_s": rates}
    bench.results["prepare_cpu_s"] = max(run["prepare_cpu_s"] for run in ours)
    if theirs:
        rate = statistics.median(_per_core(run) for run in theirs)
        bench.results["published_samples_per_core_s"] = rate
        bench.target(
            "samples per second and core, views on the CPU: times faster", rates["read_and_views"] / rate, at_least=100
        )
        bench.target("the same, views on a GPU (reading alone): times faster", rates["read"] / rate, at_least=100)


def _per_core(run: dict[str, Any]) -> float:
    """Samples per second of processor time, which other work on the machine hardly changes."""
    return float(run["samples"] / run["cpu_s"])


def _ours(bench: Bench, table: Path, *, batch_size: int) -> dict[str, Any]:
    output = bench.work / "logs/our_loader.json"
    cache = bench.work / ("loader_cache_tiny" if bench.quick else "loader_cache")
    command = [sys.executable, "-m", "benchmarks.our_loader", str(table), str(cache), str(output)]
    command += ["--batch-size", str(batch_size), "--seconds", "0.2" if bench.quick else "5"]
    run_process(command, bench.work / "logs/our_loader.log", env=ONE_THREAD)
    loaded: dict[str, Any] = json.loads(output.read_text())
    return loaded


def _published(bench: Bench, python: Path, table: Path, samples: int) -> dict[str, Any]:
    output = bench.work / "logs/published_loader.json"
    script = Path(__file__).with_name("published_loader.py")
    command = [str(python), "-W", "ignore", str(script), str(table), str(output), "--samples", str(samples)]
    run_process(command, bench.work / "logs/published_loader.log", env=ONE_THREAD)
    loaded: dict[str, Any] = json.loads(output.read_text())
    return loaded


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4, help="that the published loader loads each turn")
    run_bench("loader", measure, parser)
