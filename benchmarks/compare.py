"""Ours against the published package: the same scan, lesions and random weights, whole processes, in turn.

The published package only returns features, and is given an NRRD whose conversion from DICOM is not counted. Ours does
the same from DICOM (`table`) and from that NRRD (`nrrd`), and once more with all that it writes by default: SR, SEG,
pictures and report (`all`).
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.bench import Bench, run_bench
from benchmarks.measure import Measured, run_process, summary
from benchmarks.published_env import published_python

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LESIONS: Final = (1, 10, 100)
TABLE_ONLY: Final = ("--no-sr", "--no-seg", "--no-pictures", "--no-report")
FORMS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "table": ("dicom", TABLE_ONLY),
    "nrrd": ("nrrd", TABLE_ONLY),
    "all": ("dicom", ()),
}
"""Our runs: name -> input and options."""

PUBLISHED_LESIONS: Final = (1, 10)
"""More take the published package many minutes; its cost per lesion follows from these two."""

ABSOLUTE_LIMIT: Final = 2e-5
RELATIVE_LIMIT: Final = 2e-6
"""Largest difference of a feature, and relative L2 distance: noise of float32 between kernels."""

MIB_PER_WORKER: Final = 7000
"""What each process of the published data loader may need; fewer are started where the memory does not hold them."""


def measure(bench: Bench, options: argparse.Namespace) -> None:
    """Run all contestants and compare."""
    if bench.quick:
        sys.exit("compare has no quick form: the published code takes only its own network")
    published = published_python()
    bench.prepare_scan()
    bench.prepare("weights")
    bench.fmcib_run(bench.inputs / "single/dicom_1", bench.work / "out/warm")  # converts the weights, once
    contestants = _Contestants(bench, published)
    runs = {}
    repeats = {}
    for count in LESIONS:
        for form in FORMS:
            runs[f"ours_{form}_{count}"] = contestants.ours(form, count)
            repeats[f"ours_{form}_{count}"] = bench.repeats if count < 100 else max(1, bench.repeats - 1)
    published_counts = LESIONS if options.all_lesions else PUBLISHED_LESIONS
    for count in published_counts:
        runs[f"published_{count}"] = contestants.published("features", count)
        repeats[f"published_{count}"] = bench.repeats if count <= max(PUBLISHED_LESIONS) else 1
    if (workers := _workers_that_fit(options.workers)) > 0:
        runs[f"published_10_workers_{workers}"] = contestants.published("features", 10, workers)
        repeats[f"published_10_workers_{workers}"] = max(1, bench.repeats - 1)
    runs["mhub_1"] = contestants.published("mhub", 1)
    repeats["mhub_1"] = max(1, bench.repeats - 1)
    results = bench.in_turn(runs, repeats)
    bench.results = {"runs": {name: summary(measured) for name, measured in results.items()}}
    bench.results["agreement"] = [contestants.agreement(count, form) for count in LESIONS for form in FORMS]
    _ratios(bench)


class _Contestants:
    """What is run, and what came out."""

    def __init__(self, bench: Bench, published: Path) -> None:
        self._bench = bench
        self._python = published
        self._out = bench.work / "out"

    def ours(self, form: str, count: int) -> Any:
        given, options = FORMS[form]
        source = self._bench.inputs / f"single/{given}_{count}"
        return lambda: self._bench.fmcib_run(source, self._out / f"ours_{form}_{count}", *options)

    def published(self, loop: str, count: int, workers: int = 0) -> Any:
        script = Path(__file__).with_name("published_run.py")
        table = self._bench.inputs / f"single/published_{count}.csv"
        features = self._out / f"{loop}_{count}.npy"
        command = [str(self._python), str(script), str(table), str(features), "--loop", loop]
        command += ["--workers", str(workers), "--weights-folder", str(self._bench.inputs)]

        def run() -> Measured:
            features.parent.mkdir(exist_ok=True)
            return run_process(command, self._bench.work / "logs/published.log")

        return run

    def agreement(self, count: int, form: str) -> dict[str, Any]:
        """How far features are apart; of 100 lesions, the first are those that the published package did."""
        import numpy as np

        done = max(n for n in PUBLISHED_LESIONS if n <= count)
        expected = np.load(self._out / f"features_{done}.npy")
        found = _our_features(self._out / f"ours_{form}_{count}")[:done]
        distance = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
        worst, relative = float(np.abs(found - expected).max()), float(distance.max())
        return {
            "run": f"ours_{form}_{count}",
            "lesions_compared": done,
            "max_abs": worst,
            "relative_l2": relative,
            "agrees": worst <= ABSOLUTE_LIMIT and relative <= RELATIVE_LIMIT,
        }


def _our_features(output: Path) -> "NDArray[np.float32]":
    """(n, n_features) in the order of the seed table: ROIs are named L0, L1, ..."""
    import numpy as np
    import pandas as pd

    (table,) = output.glob("*/features.csv")
    frame = pd.read_csv(table)
    order = frame["Mhub ROI"].str[1:].astype(int).to_numpy()
    columns = [name for name in frame.columns if name.startswith("feature_")]
    features = np.empty((len(frame), len(columns)), dtype=np.float32)
    features[order] = frame[columns].to_numpy(np.float32)
    return features


def _ratios(bench: Bench) -> None:
    runs = bench.results["runs"]
    per_lesion = (runs["published_10"]["median_s"] - runs["published_1"]["median_s"]) / 9
    hundred = runs["published_10"]["median_s"] + 90 * per_lesion
    if "published_100" in runs:
        hundred = runs["published_100"]["median_s"]
    fastest_10 = min(
        run["median_s"] for name, run in runs.items() if name.startswith("published_10") and name != "published_100"
    )
    bench.results["published_per_lesion_s"] = round(per_lesion, 3)
    bench.results["published_100_s"] = {"seconds": round(hundred, 1), "measured": "published_100" in runs}
    bench.results["ratio_to_fastest_published_10"] = round(fastest_10 / runs["ours_table_10"]["median_s"], 2)
    for form in FORMS:
        ten, all_hundred = runs[f"ours_{form}_10"], runs[f"ours_{form}_100"]
        bench.target(
            f"10 lesions ({form}), times faster", runs["published_10"]["median_s"] / ten["median_s"], at_least=25
        )
        share = ten["median_peak_mib"] / runs["published_10"]["median_peak_mib"]
        bench.target(f"10 lesions ({form}), share of the peak memory", share, at_most=1 / 3)
        bench.target(f"100 lesions ({form}), times faster", hundred / all_hundred["median_s"], at_least=50)
    worst = max(bench.results["agreement"], key=lambda row: row["max_abs"])
    bench.target("largest difference of a feature", worst["max_abs"], at_most=ABSOLUTE_LIMIT)
    relative = max(row["relative_l2"] for row in bench.results["agreement"])
    bench.target("largest relative L2 distance of a lesion", relative, at_most=RELATIVE_LIMIT)


def _workers_that_fit(wanted: int) -> int:
    """Data-loader processes that the free memory holds."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable"))
    return min(wanted, int(available / MIB_PER_WORKER))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all-lesions", action="store_true", help="run the published package on 100 lesions too")
    parser.add_argument("--workers", type=int, default=2, help="also with this many processes of its data loader")
    run_bench("compare", measure, parser)


if __name__ == "__main__":
    main()
