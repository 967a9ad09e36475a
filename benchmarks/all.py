"""Every benchmark one after the other, then the table: what `make bench` runs."""

import argparse
import subprocess
import sys
from typing import Final

from benchmarks.bench import DEFAULT_WORK

PROGRAMS: Final = ("import_time", "scaling", "encoder", "compare", "loader")
"""In this order, so that what needs no download comes first."""

WITHOUT_QUICK: Final = ("compare",)
"""The published code takes only its own network."""


def main() -> None:
    """Run them as processes of their own; a failed one does not stop the others, but the exit code tells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny inputs, without the published package")
    parser.add_argument("--work", default=str(DEFAULT_WORK))
    options = parser.parse_args()
    arguments = ["--work", options.work, *(["--quick"] if options.quick else [])]
    failed = []
    for name in PROGRAMS:
        if options.quick and name in WITHOUT_QUICK:
            continue
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=False)
        if done.returncode != 0:
            failed.append(name)
    subprocess.run([sys.executable, "-m", "benchmarks.report", *arguments], check=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
