"""Much at once: thousands of series in one input tree, thousands of lesions in one series.

Time has to grow in proportion, memory and open files not at all. Every output is written, by the small network, so that
what is measured is everything but the network.
"""

import argparse
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.bench import Bench, run_bench
from benchmarks.measure import Measured, summary

SERIES: Final = (1250, 5000)
LESIONS: Final = (500, 2000)
QUICK_SERIES: Final = (4, 12)
QUICK_LESIONS: Final = (3, 9)

MOST_FILES: Final = 256
"""A quarter of the 1,024 descriptors that a process may have open by default."""


def measure(bench: Bench, _options: argparse.Namespace) -> None:
    """Series in a tree, then lesions in a series, each once."""
    series, lesions = (QUICK_SERIES, QUICK_LESIONS) if bench.quick else (SERIES, LESIONS)
    bench.prepare("tree", series)
    bench.prepare("single", lesions)
    for what, counts, folder in (("series", series, "tree"), ("lesions", lesions, "single/dicom")):
        sources = {count: bench.inputs / f"{folder}_{count}" for count in counts}
        bench.results[what] = _grow(bench, what, sources)


def _grow(bench: Bench, what: str, sources: dict[int, Path]) -> dict[str, Any]:
    """Run the smaller and the larger; growth of time as an exponent, of memory as a ratio."""
    counts = sorted(sources)
    outputs = {count: bench.work / f"out/load_{what}_{count}" for count in counts}
    runs = {f"{what}_{n}": partial(bench.fmcib_run, sources[n], outputs[n], weights="mini") for n in counts}
    measured = bench.in_turn(runs, dict.fromkeys(runs, 1))
    less, most = (measured[f"{what}_{n}"][0] for n in counts)
    n_written = sum(1 for _ in (outputs[counts[-1]]).glob("*/features.csv"))
    exponent, memory = _exponent(counts, (less, most)), most.peak_mib / less.peak_mib
    bench.target(f"series written, {what}", n_written, at_least=counts[-1] if what == "series" else 1)
    label = f"{counts[0]} to {counts[-1]} {what}"
    bench.target(f"exponent of processor time, {label}", exponent, at_most=1.05)
    bench.target(f"peak memory, {label}", memory, at_most=1.25)
    bench.target(f"open files, {counts[-1]} {what}", most.peak_files, at_most=MOST_FILES)
    return {
        "runs": {name: summary(rows) for name, rows in measured.items()},
        "exponent": exponent,
        "memory_growth": memory,
        "series_written": n_written,
    }


def _exponent(counts: Sequence[int], measured: Sequence[Measured]) -> float:
    """Power of growth of the processor time, which other work on the machine disturbs less than the clock."""
    less, most = (run.cpu_seconds for run in measured)
    return math.log(most / less) / math.log(counts[-1] / counts[0])


if __name__ == "__main__":
    run_bench("load", measure)
