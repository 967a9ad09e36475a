"""How long things take to start, and what the start is made of.

The first result of a run with one lesion is compared with the least that it can cost: torch imported, and one forward
pass of the network with weights from nowhere.
"""

import re
import sys
from argparse import Namespace
from functools import partial
from typing import Any, Final

from benchmarks.bench import Bench, run_bench
from benchmarks.measure import run_process, summary

HEAVY: Final = (
    "torch",
    "monai",
    "highdicom",
    "SimpleITK",
    "pandas",
    "pyarrow",
    "scipy",
    "matplotlib",
    "pydicom",
    "numpy",
)
"""Packages whose import is worth naming."""

IMPORT_LINE: Final = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|(\s+)([\w.]+)")
"""One line of `python -X importtime`: own and cumulative microseconds, depth as indentation, module."""


def measure(bench: Bench, _options: Namespace) -> None:
    """Start-up of the commands that need no network, then the first result of one that does."""
    bench.prepare("weights")
    bench.prepare_scan()
    source = bench.inputs / "single/dicom_1"
    commands = {"help": ["--help"], "inspect": ["inspect", str(source)], "weights_list": ["weights", "list"]}
    bench.results["imports"] = {name: _imports(bench, arguments) for name, arguments in commands.items()}
    bench.fmcib_run(source, bench.work / "out/warm")
    cli = [sys.executable, "-m", "fmcib_module.cli"]
    log = bench.work / "logs/start.log"
    quick = ["--quick"] if bench.quick else []
    runs = {name: partial(run_process, [*cli, *arguments], log) for name, arguments in commands.items()}
    runs["python"] = partial(run_process, [sys.executable, "-c", "pass"], log)
    runs["import_torch"] = partial(run_process, [sys.executable, "-c", "import torch"], log)
    first = [sys.executable, "-m", "benchmarks.probes", "first", str(bench.work / "logs/first.json"), *quick]
    runs["torch_and_forward"] = partial(run_process, first, log)
    runs["run_one_lesion"] = partial(bench.fmcib_run, source, bench.work / "out/first")
    results = bench.in_turn(runs, dict.fromkeys(runs, bench.repeats))
    bench.results["runs"] = {name: summary(measured) for name, measured in results.items()}
    medians: dict[str, Any] = {name: run["median_s"] for name, run in bench.results["runs"].items()}
    ratio = medians["run_one_lesion"] / medians["torch_and_forward"]
    bench.target("one-lesion run, times torch and one forward pass", ratio, at_most=2.5)
    for name in ("help", "inspect"):
        loaded = float("torch" in bench.results["imports"][name]["heavy_ms"])
        bench.target(f"`fmcib {name}` imports torch (0: no)", loaded, at_most=0)


def _imports(bench: Bench, arguments: list[str]) -> dict[str, Any]:
    """What a command imports: total, cumulative times of heavy packages, and our slowest modules."""
    log = bench.work / "logs/importtime.log"
    run_process([sys.executable, "-X", "importtime", "-m", "fmcib_module.cli", *arguments], log)
    own_us = 0
    heavy: dict[str, float] = {}
    modules: set[str] = set()
    for line in log.read_text(errors="replace").splitlines():
        if found := IMPORT_LINE.match(line):
            own_us += int(found[1])
            modules.add(found[4])
            if found[4] in HEAVY:
                heavy[found[4]] = max(heavy.get(found[4], 0.0), int(found[2]) / 1000)
    return {
        "all_imports_ms": round(own_us / 1000, 1),
        "modules": len(modules),
        "heavy_ms": dict(sorted(heavy.items(), key=lambda item: -item[1])),
    }


def main() -> None:
    """Command line."""
    run_bench("import_time", measure)


if __name__ == "__main__":
    main()
