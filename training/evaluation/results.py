"""What `evaluate` found, as rows of tables: results.json holds all of them, and each is a CSV file too."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fmcib_module.adapters.atomic import replacing, write_bytes

Row = Mapping[str, Any]

TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "metrics": (
        "task", "method", "share", "metric", "class", "value", "low", "high", "resample_mean", "n", "n_patients",
        "n_seeds", "seed_sd",
    ),
    "seeds": ("task", "method", "share", "seed", "metric", "class", "value"),
    "pairwise": (
        "task", "share", "metric", "a", "b", "difference", "low", "high", "p", "sides", "n_permutations", "n",
    ),
    "calibration": ("task", "method", "share", "class", "brier", "error", "intercept", "slope", "n"),
    "calibration_bins": ("task", "method", "share", "class", "predicted", "observed", "n"),
    "decision_curves": ("task", "method", "share", "class", "threshold", "model", "treat_all"),
    "kaplan_meier": (
        "task", "method", "share", "group", "time", "survival", "low", "high", "at_risk", "events",
    ),
    "groups": ("task", "method", "share", "cut", "group", "n", "events", "median_survival"),
    "log_rank": ("task", "method", "share", "statistic", "degrees", "p"),
    "cox": ("task", "method", "share", "model", "covariate", "ratio", "low", "high", "p", "n", "events"),
    "notes": ("task", "method", "share", "note"),
}  # fmt: skip
"""Name -> columns. `class` is empty where a metric is of all classes."""


@dataclass(slots=True)
class Results:
    """Rows so far, table by table."""

    rows: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in TABLES})

    def add(self, table: str, **row: Any) -> None:
        """Add a row; dataclasses among the values are spread out."""
        flat: dict[str, Any] = {}
        for name, value in row.items():
            is_data = dataclasses.is_dataclass(value) and not isinstance(value, type)
            flat |= dataclasses.asdict(value) if is_data else {name: value}
        self.rows[table].append({name: flat[name] for name in TABLES[table]})

    def write(self, folder: Path, **facts: Any) -> None:
        """Write results.json, with some facts before the tables, and a CSV file of every table that has rows.

        Raises:
            OutputError: The folder cannot be written.
        """
        import pandas as pd

        content = {**facts, **self.rows}
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / "results.json", (json.dumps(_plain(content), indent=1, allow_nan=False) + "\n").encode())
        for name, rows in self.rows.items():
            if rows:
                with replacing(folder / f"{name}.csv") as temporary:
                    pd.DataFrame(rows, columns=list(TABLES[name])).to_csv(temporary, index=False)
            else:
                (folder / f"{name}.csv").unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
