"""The results files as the Markdown of docs/performance.md: tables of figures, and the machine they were taken on."""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.bench import DEFAULT_WORK

Result = dict[str, Any]
BUSY: Final = 0.5
"""Other work at the start (1-minute load) from which figures are called taken on a busy machine."""


def render(folder: Path, *, quick: bool = False) -> str:
    """Every results file in `folder` as one Markdown text; programs that have not run are left out."""
    parts = []
    for name, section in SECTIONS.items():
        path = folder / f"{name}{'_quick' if quick else ''}.json"
        if path.is_file():
            result = json.loads(path.read_text())
            parts += [f"## {name.replace('_', ' ').capitalize()}", _conditions(result)]
            if result["complete"]:
                parts.append(section(result["results"]))
            else:
                parts += ["The program ended early; it had measured:", _runs(result["measured"])]
            parts.append(_targets(result["targets"]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _conditions(result: Result) -> str:
    machine = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    load = result["load_1min_before"]
    state = f"busy with other work (load {load})" if load >= BUSY else f"quiet (load {load})"
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']:g} GiB; "
        f"{', '.join(machine['flags'])}. {machine['system']}, Python {machine['python']}, {versions}. "
        f"At the start the machine was {state}."
    ]
    if result["quick"]:
        lines.append("A smoke test on tiny inputs: the figures mean nothing.")
    return " ".join(lines)


def _targets(targets: list[Result]) -> str:
    rows = [
        (
            t["name"],
            f"{t['value']:.3g}",
            f"{'at least' if t['at_least'] else 'at most'} {t['limit']:.3g}",
            _word(t["met"]),
        )
        for t in targets
    ]
    return _table(("Figure", "Measured", "Wanted", "Met"), rows) if rows else ""


def _compare(results: Result) -> str:
    agreement = [
        (
            row["run"],
            row["lesions_compared"],
            f"{row['max_abs']:.1e}",
            f"{row['relative_l2']:.1e}",
            _word(row["agrees"]),
        )
        for row in results["agreement"]
    ]
    hundred = results["published_100_s"]
    how = "measured" if hundred["measured"] else "not measured: ten lesions, and 90 more at the same cost"
    note = (
        f"The published package takes {results['published_per_lesion_s']:.2f} s for each further lesion; "
        f"100 lesions are {hundred['seconds']:.0f} s ({how}). With the fastest of its loops, ten lesions take "
        f"{results['ratio_to_fastest_published_10']:.1f} times as long as ours from DICOM."
    )
    heads = ("Run", "Lesions", "Largest difference", "Relative L2", "Agrees")
    return "\n\n".join([_runs(results["runs"]), note, _table(heads, agreement)])


def _scaling(results: Result) -> str:
    parts = []
    for name in ("lesions_full_network", "lesions_small_network"):
        part = results[name]
        fit = f"exponent of the whole run {part['exponent_of_whole_run']}, of its stages {part['exponent_of_work']}"
        parts += [f"Lesions in one scan, weights {part['weights']}: {fit}.", _runs(part["runs"])]
    one, steady, headers = results["one_lesion"], results["steady_state"], results["headers"]
    parts += ["Series with two lesions each:", _runs(results["series"])]
    parts.append(
        f"Each further series costs {steady['series_s']:.3f} s: the network alone {steady['encoder_s']:.3f} s, "
        f"decoding {steady['decode_s']:.3f} s, decoding and resampling {steady['cut_s']:.3f} s (stages of the ledger: "
        f"{', '.join(f'{stage} {seconds:.3f}' for stage, seconds in steady['stages_s'].items())}). One lesion opens "
        f"{one['slices_opened']} of {one['slices_in_series']} slices. The header scan looks at "
        f"{headers['files_per_s']:.0f} files per second ({headers['files']} files)."
    )
    return "\n\n".join(parts)


def _encoder(results: Result) -> str:
    rows = [
        (
            name,
            *(f"{row['ms_per_patch'][batch]:.1f}" for batch in ("1", "8")),
            f"{row['times_plain_at_8']:.2f}",
            f"{100 * row['share_of_gemm_at_8']:.0f} %",
            f"{row['load_s']:.1f}",
            f"{row['first_batch_s']:.1f}",
            f"{row['max_abs_difference']:.1e}",
            f"{row['least_cosine']:.6f}",
            f"{100 * row['others_share']:.0f} %",
        )
        for name, row in results["engines"].items()
    ]
    heads = (
        "Engine",
        "ms, batch 1",
        "ms, batch 8",
        "Times plain",
        "Of GEMM",
        "Load s",
        "First batch s",
        "Max diff",
        "Cosine",
        "Used by others",
    )
    note = f"{results['gflop_per_patch']} GFLOP per patch; the matrix product reaches {results['gemm_gflops']} GFLOP/s."
    refused = [f"Not offered: {name} ({why})." for name, why in results["refused"].items()]
    return "\n\n".join([_table(heads, rows), " ".join([note, *refused])])


def _import_time(results: Result) -> str:
    imports = [
        (f"fmcib {name}", part["all_imports_ms"], part["modules"], _milliseconds(part["heavy_ms"]))
        for name, part in results["imports"].items()
    ]
    heads = ("Command", "All imports, ms", "Modules", "Of these (cumulative ms)")
    return "\n\n".join([_runs(results["runs"]), _table(heads, imports)])


def _loader(results: Result) -> str:
    rates = results["ours_samples_per_core_s"]
    rows = [("ours, patches read", rates["read"]), ("ours, with views on the CPU", rates["read_and_views"])]
    if "published_samples_per_core_s" in results:
        rows.append(("published", results["published_samples_per_core_s"]))
    note = f"Ours reads a cache that took {results['prepare_cpu_s']:.1f} s of processor time to make."
    return "\n\n".join([_table(("Loader", "Samples/s per core"), [(n, f"{rate:.3g}") for n, rate in rows]), note])


def _milliseconds(heavy: dict[str, float]) -> str:
    return ", ".join(f"{name} {ms:.0f}" for name, ms in heavy.items())


def _runs(runs: dict[str, Result]) -> str:
    rows = [
        (
            name,
            f"{run['median_s']:.2f}",
            f"{run['median_cpu_s']:.2f}",
            f"{run['median_peak_mib']:.0f}",
            f"{100 * run['others_share']:.0f} %",
            len(run["all_s"]),
        )
        for name, run in runs.items()
    ]
    return _table(("Whole process", "Seconds (median)", "CPU seconds", "Peak MiB", "Used by others", "Runs"), rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in lines)


def _word(met: bool) -> str:
    return "yes" if met else "no"


SECTIONS: Final[dict[str, Callable[[Result], str]]] = {
    "compare": _compare,
    "encoder": _encoder,
    "scaling": _scaling,
    "import_time": _import_time,
    "loader": _loader,
}


def main() -> None:
    """Print the Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    print(render(options.work, quick=options.quick), end="")


if __name__ == "__main__":
    main()
