"""What a further series costs, against the encoder's own time plus decoding: the series of `scaling.py` alone."""

import argparse

from benchmarks.bench import Bench, run_bench
from benchmarks.scaling import measure_series


def measure(bench: Bench, _: argparse.Namespace) -> None:
    """Series only."""
    measure_series(bench)


if __name__ == "__main__":
    run_bench("steady", measure)
