"""Run mutated studies through the chain: `python -m tests.fuzz --studies 20000` (`make fuzz`).

Workers are watched from outside: one that computes for more than 10 s on a study, or takes more than 2 GB, is killed
and the study is named. `--only SEED` runs one study in this process and keeps its folder.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.fuzz.campaign import Campaign
from tests.fuzz.study import mutate, run_one, write_base


def main() -> int:
    """Parse, run, report; 0 if no rule was broken."""
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=20_000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", type=int, help="run one seed, here, and keep its folder")
    parser.add_argument("--report", type=Path, help="write the summary as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fmcib-fuzz-") as folder:
        base = write_base(Path(folder) / "base")
        if options.only is not None:
            return run_here(base, options.only)
        summary = Campaign(base, Path(folder)).run(options.first_seed, options.studies, options.workers)
    print(json.dumps(summary, indent=1))
    if options.report:
        options.report.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    return 1 if summary["broken"] else 0


def run_here(base: Path, seed: int) -> int:
    """One study, its folder kept."""
    work = Path(tempfile.mkdtemp(prefix=f"fmcib-fuzz-{seed}-"))
    print(work, mutate(base, work / "looked-at", seed))
    shutil.rmtree(work / "looked-at", ignore_errors=True)
    code, broken = run_one(base, work, seed)
    print("exit code", code, *broken, sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
