"""results.json of `evaluate` -> tables to draw and to write about."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from fmcib_module.core.errors import InputError
from training.evaluation.results import TABLES

TEXT_COLUMNS: Final = frozenset(
    {"task", "method", "metric", "class", "a", "b", "sides", "group", "covariate", "note", "cox.model"}
)
"""Every other column holds numbers, with NaN where there is none. A name may have its table before it."""


@dataclass(frozen=True, slots=True, eq=False)
class StudyResults:
    """What `evaluate` found.

    Attributes:
        tables: Name of `TABLES` -> its rows.
        settings: Of `evaluate`.
        version: Of the software that judged.
        git_revision: Likewise; empty where unknown.
    """

    tables: Mapping[str, pd.DataFrame]
    settings: Mapping[str, Any]
    version: str
    git_revision: str

    @property
    def tasks(self) -> list[str]:
        """Names, in their order."""
        return [str(task) for task in self.tables["metrics"]["task"].drop_duplicates()]

    def of(self, table: str, task: str, **equal: object) -> pd.DataFrame:
        """Rows of a table that are of a task, and whose columns have some values."""
        rows = self.tables[table]
        rows = rows[rows["task"] == task]
        for column, value in equal.items():
            rows = rows[rows[column] == value]
        return rows.reset_index(drop=True)

    def methods(self, task: str) -> list[str]:
        """Of a task, in their order: figures give each one look, whatever it is drawn with."""
        return [str(method) for method in self.of("metrics", task)["method"].drop_duplicates()]

    def of_most_data(self, table: str, task: str) -> pd.DataFrame:
        """Rows of the largest share of the training data that each method was fitted on."""
        rows = self.of(table, task)
        largest = rows.groupby("method")["share"].transform("max")
        return rows[rows["share"] == largest].reset_index(drop=True)


def read_study_results(folder: Path) -> StudyResults:
    """Read OUTPUT/results.json of `evaluate`.

    Raises:
        InputError: It is absent, or not such a file.
    """
    path, fix = folder / "results.json", "give OUTPUT of `python -m training evaluate`"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        tables = {name: _table(name, columns, found[name]) for name, columns in TABLES.items()}
        results = StudyResults(tables, found["settings"], str(found["version"]), str(found["git_revision"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = type(error).__name__
        raise InputError(f"the results cannot be read: {reason}", f"{folder.name}/{path.name}", fix) from error
    if not results.tasks:
        raise InputError("the results hold no metric", f"{folder.name}/{path.name}", fix)
    return results


def _table(name: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(columns))
    text = {column for column in columns if {column, f"{name}.{column}"} & TEXT_COLUMNS}
    return table.assign(**{column: pd.to_numeric(table[column]) for column in columns if column not in text})
