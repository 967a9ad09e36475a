"""Small cohorts of phantoms with their manifests, and jobs that do them in this process."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from fmcib_module.batch.claims import Task
from fmcib_module.batch.encode import OwnEncoder
from fmcib_module.batch.engine import Cluster
from fmcib_module.batch.job import BatchOptions, run_batch
from fmcib_module.batch.worker import JobPlan, Outcome, Worker
from fmcib_module.core.ledger import Ledger
from fmcib_module.settings import Settings
from tests import phantoms

TABLES = Settings(sr=False, seg=False, pictures=False, report=False)
"""Only what every test needs; the rest is written by the same function."""

UNEQUAL = {"started", "finished", "timings_s", "encoder", "input_sha256"}
"""What may differ between two runs of the same thing: times, threads, and paths below INPUT."""


def write_cohort(folder: Path, n_series: int, *, first: int = 0) -> list[phantoms.PhantomStudy]:
    """Phantoms in folder/pNNN, and manifest.csv over them."""
    studies = [phantoms.write_study(folder / f"p{n:03d}", seed=n) for n in range(first, first + n_series)]
    write_manifest(folder / "manifest.csv", [f"p{n:03d}" for n in range(first, first + n_series)])
    return studies


def write_manifest(path: Path, sources: Sequence[str]) -> None:
    """A manifest with the column `source` alone."""
    path.write_text("\n".join(["source", *sources, ""]))


def in_process(tasks: Sequence[Task], plan: JobPlan, cluster: Cluster) -> Iterator[Outcome]:
    """What Ray's workers do, without Ray."""
    worker = Worker(plan, OwnEncoder(plan.settings))
    yield from worker.run(tasks)
    worker.close()


def batch(manifest: Path, output: Path | str, scratch: Path, *, settings: Settings = TABLES, **options: Any) -> Ledger:
    """A job in this process."""
    options_here = replace(BatchOptions(scratch=scratch), **options)
    return run_batch(manifest, str(output), settings=settings, options=options_here, engine=in_process)


def rows(output: Path) -> pd.DataFrame:
    """The cohort's table, in a fixed order."""
    table = pd.read_parquet(output / "features.parquet")
    return table.sort_values(["series_uid", "source_uid", "Mhub ROI"], ignore_index=True)


def results(output: Path) -> dict[str, Any]:
    """The series of a ledger without what may differ."""
    ledger = json.loads((output / "run_status.json").read_bytes())
    return {
        entry["output"]: {key: value for key, value in entry.items() if key not in UNEQUAL}
        for entry in ledger["series"]
    }
