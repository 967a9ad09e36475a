"""How our cost grows: lesions in one scan, series in a cohort; slices decoded; files looked at per second.

Steady state: what each further series costs (slope between the smaller and the larger cohort, whole processes),
against the encoder's own time for its lesions plus the decoding of the slices under them.
"""

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.bench import Bench, run_bench
from benchmarks.measure import summary

SERIES: Final = (1, 10, 50)
QUICK_SERIES: Final = (1, 3)
LESIONS_PER_SERIES: Final = 2


def measure(bench: Bench, options: argparse.Namespace) -> None:
    """Lesions in one scan, the reader alone, then series."""
    bench.prepare("weights")
    lesions = bench.prepare_scan()
    bench.fmcib_run(bench.inputs / "single/dicom_1", bench.work / "out/warm")
    with_full = [count for count in lesions if count < 1000 or options.full_thousand]
    bench.results["lesions_full_network"] = _lesions(bench, with_full, str(bench.weights))
    bench.results["lesions_small_network"] = _lesions(bench, list(lesions), "mini")
    for name in ("full", "small"):
        fit = bench.results[f"lesions_{name}_network"]["exponent_of_work"]
        counts = with_full if name == "full" else lesions
        bench.target(f"exponent, {counts[1]} to {counts[-1]} lesions, {name} network", fit, at_most=1.05)
    bench.results["one_lesion"] = _reader(bench, bench.inputs / "single/dicom_1", 1)
    bench.target("slices decoded for one lesion", bench.results["one_lesion"]["slices_opened"], at_most=60)
    measure_series(bench)


def _lesions(bench: Bench, counts: Sequence[int], weights: str) -> dict[str, Any]:
    """Whole runs by number of lesions, with the exponent of growth of the whole and of the work per lesion."""
    outputs = {count: bench.work / f"out/lesions_{count}" for count in counts}
    runs = {
        f"lesions_{count}": partial(
            bench.fmcib_run, bench.inputs / f"single/dicom_{count}", outputs[count], weights=weights
        )
        for count in counts
    }
    repeats = {f"lesions_{count}": bench.repeats if count < 100 else 1 for count in counts}
    results = bench.in_turn(runs, repeats)
    wall = [statistics.median(m.seconds for m in results[f"lesions_{count}"]) for count in counts]
    first = 1 if len(counts) > 2 else 0  # a single lesion is mostly start-up
    work = [_stage_seconds(outputs[count]) for count in counts]
    return {
        "weights": "mini" if weights == "mini" else "full size",
        "runs": {name: summary(measured) for name, measured in results.items()},
        "stages_s": dict(zip(map(str, counts), work, strict=True)),
        "exponent_of_whole_run": _exponent(counts[first:], wall[first:]),
        "exponent_of_work": _exponent(counts[first:], [sum(stages.values()) for stages in work[first:]]),
    }


def measure_series(bench: Bench) -> None:
    """Whole runs by number of series, header scan, steady state and memory."""
    counts = QUICK_SERIES if bench.quick else SERIES
    bench.prepare("weights")
    bench.prepare("cohort", counts)
    bench.fmcib_run(bench.inputs / "cohort_1", bench.work / "out/warm")
    runs = {
        f"series_{count}": partial(
            bench.fmcib_run, bench.inputs / f"cohort_{count}", bench.work / f"out/series_{count}"
        )
        for count in counts
    }
    results = bench.in_turn(runs, dict.fromkeys(runs, bench.repeats))
    less, most = (summary(results[f"series_{count}"]) for count in counts[-2:])
    bench.results["series"] = {name: summary(measured) for name, measured in results.items()}
    slope = (most["median_s"] - less["median_s"]) / (counts[-1] - counts[-2])
    reader = _reader(bench, bench.inputs / "cohort_1", LESIONS_PER_SERIES)
    encoder = bench.probe("encoder", "--engine", "auto", "--weights", str(bench.weights), "--batches", "[8]")
    own_s = LESIONS_PER_SERIES * encoder["ms_per_patch"]["8"] / 1000
    headers = bench.probe("headers", "--source", str(bench.inputs / f"cohort_{counts[-1]}"))
    bench.results["steady_state"] = {
        "series_s": slope,
        "encoder_s": own_s,
        "decode_s": reader["decode_s"],
        "cut_s": reader["cut_s"],
        "stages_s": _stage_seconds(bench.work / f"out/series_{counts[-1]}", per_series=True),
        "reader": reader,
    }
    bench.results["headers"] = headers
    bench.say(f"a further series: {slope:.3f} s; encoder's own time {own_s:.3f} s, decoding {reader['decode_s']:.3f} s")
    bench.target("steady state, share of encoder plus decode", slope / (own_s + reader["decode_s"]), at_most=1.3)
    growth = most["median_peak_mib"] / less["median_peak_mib"]
    bench.target(f"peak memory, {counts[-1]} series against {counts[-2]}", growth, at_most=1.1)
    bench.target("header scan, files per second", headers["files_per_s"], at_least=1500)


def _reader(bench: Bench, source: Path, lesions: int) -> dict[str, Any]:
    return bench.probe("decode", "--source", str(source), "--lesions", str(lesions))


def _stage_seconds(output: Path, *, per_series: bool = False) -> dict[str, float]:
    """Stage -> seconds from the ledger, summed over series, or their mean."""
    ledger = json.loads((output / "run_status.json").read_text())
    sums: dict[str, float] = {}
    for entry in ledger["series"]:
        for stage, seconds in entry["timings_s"].items():
            sums[stage] = sums.get(stage, 0.0) + seconds
    return {stage: round(s / (len(ledger["series"]) if per_series else 1), 4) for stage, s in sums.items()}


def _exponent(counts: Sequence[int], seconds: Sequence[float]) -> float:
    """The power of growth: slope of the least-squares line through (log count, log seconds)."""
    x, y = [math.log(count) for count in counts], [math.log(s) for s in seconds]
    return round(statistics.linear_regression(x, y).slope, 4)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full-thousand", action="store_true", help="1,000 lesions with the full network too")
    run_bench("scaling", measure, parser)


if __name__ == "__main__":
    main()
