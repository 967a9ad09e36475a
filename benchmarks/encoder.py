"""Milliseconds per patch by engine and precision, against eager torch and against the machine's matrix product.

Each engine runs in a process of its own, in turn with the others; the baseline `plain` is the network in eager torch
with its default layout, as the published package runs it.
"""

import statistics
from argparse import Namespace
from typing import Any, Final

from benchmarks.bench import Bench, run_bench
from benchmarks.measure import ProcessFailedError

BATCHES: Final = (1, 8)
FLOAT32_GAIN: Final = 1.45
BF16_GAIN: Final = 2.7


def measure(bench: Bench, _options: Namespace) -> None:
    """Every engine and precision that the encoder offers, several times."""
    from fmcib_module.adapters.runner import ENGINES, PRECISIONS  # after the inputs: this process gets larger

    bench.prepare("weights")
    contestants = [("plain", "float32")]
    contestants += [(engine, precision) for engine in ENGINES if engine != "auto" for precision in PRECISIONS]
    rounds: dict[str, list[dict[str, Any]]] = {}
    refused: dict[str, str] = {}
    gemm: list[float] = []
    for _ in range(bench.repeats):
        gemm.append(bench.probe("gemm", *(["--quick"] if bench.quick else []))["gflops"])
        for engine, precision in contestants:
            name = f"{engine} {precision}"
            if name not in refused:
                try:
                    rounds.setdefault(name, []).append(_probe(bench, engine, precision))
                except ProcessFailedError as error:
                    refused[name] = str(error).strip().splitlines()[-1]
                    bench.say(f"{name}: {refused[name]}")
    bench.results = _compare(bench, {name: taken for name, taken in rounds.items() if taken}, gemm)
    bench.results["refused"] = refused


def _probe(bench: Bench, engine: str, precision: str) -> dict[str, Any]:
    batches = list(BATCHES)
    figures = bench.probe(
        "encoder",
        *("--engine", engine, "--precision", precision, "--weights", str(bench.weights), "--batches", str(batches)),
        *("--rounds", "1" if bench.quick else "5"),
    )
    features = bench.work / "logs/probe_encoder.npy"
    features.replace(bench.work / f"logs/features_{engine}_{precision}.npy")
    bench.say(
        f"{engine} {precision}: {', '.join(f'{v:.1f} ms at batch {k}' for k, v in figures['ms_per_patch'].items())}"
    )
    return figures


def _compare(bench: Bench, rounds: dict[str, list[dict[str, Any]]], gemm: list[float]) -> dict[str, Any]:
    import numpy as np

    gflops = statistics.median(gemm)
    gflop = rounds["plain float32"][0]["gflop_per_patch"]
    expected = np.load(bench.work / "logs/features_plain_float32.npy")
    rows = {}
    for name, taken in rounds.items():
        found = np.load(bench.work / f"logs/features_{name.replace(' ', '_')}.npy")
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        ms = {str(b): statistics.median(figures["ms_per_patch"][str(b)] for figures in taken) for b in BATCHES}
        plain = statistics.median(figures["ms_per_patch"]["8"] for figures in rounds["plain float32"])
        rows[name] = {
            "ms_per_patch": {batch: round(value, 2) for batch, value in ms.items()},
            "times_plain_at_8": round(plain / ms["8"], 3),
            "share_of_gemm_at_8": round(gflop / (ms["8"] / 1000) / gflops, 3),
            "load_s": round(statistics.median(figures["load_s"] for figures in taken), 2),
            "first_batch_s": round(statistics.median(figures["first_batch_s"] for figures in taken), 2),
            "max_abs_difference": float(np.abs(found - expected).max()),
            "least_cosine": float(((found * expected).sum(axis=1) / lengths).min()),
            "others_share": statistics.median(figures["others_share"] for figures in taken),
            "described": taken[-1].get("described", {}),
        }
    for precision, gain in (("float32", FLOAT32_GAIN), ("bf16", BF16_GAIN)):
        best = [row["times_plain_at_8"] for name, row in rows.items() if name.endswith(precision)]
        if best:
            bench.target(f"encoder {precision}, times faster than eager", max(best), at_least=gain)
    return {"gemm_gflops": round(gflops, 1), "gflop_per_patch": round(gflop, 2), "engines": rows}


def main() -> None:
    """Command line."""
    run_bench("encoder", measure)


if __name__ == "__main__":
    main()
