"""Numbers that a study should give beside those that it gave, with a verdict on each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import pandas as pd

from fmcib_module.core.errors import ConfigError, InputError
from fmcib_module.settings import from_plain, read_yaml

UNKNOWN: Final = float("nan")


class Verdict(StrEnum):
    """What is said of a number."""

    AGREES = "agrees"  # the expected value lies in the interval found
    DIFFERS = "differs"  # it does not; `difference` says how far
    NO_INTERVAL = "no interval"  # a value without one: only the difference is told
    NOT_THERE = "not there"  # the table, or the row, has not come about


@dataclass(frozen=True, slots=True)
class Cell:
    """A row of a CSV file must have this value in a column.

    Attributes:
        column: Its name.
        value: As text; a number equals any way of writing it.
    """

    column: str
    value: str


@dataclass(frozen=True, slots=True)
class Expected:
    """A number that is expected.

    Attributes:
        name: What it is, in words.
        value: Expected.
        table: CSV file that holds what was found, such as metrics.csv of `evaluate`; relative to where it is run.
        rows: What tells the row.
        low: Of the expected value's own interval; NaN where none is published.
        high: Likewise.
        column: Of the value found.
        source: Where the expectation comes from.
    """

    name: str
    value: float
    table: str
    rows: tuple[Cell, ...]
    low: float = UNKNOWN
    high: float = UNKNOWN
    column: str = "value"
    source: str = ""


@dataclass(frozen=True, slots=True)
class ExpectedSettings:
    """The file; its only key is `expected`."""

    expected: tuple[Expected, ...]

    def __post_init__(self) -> None:
        if len({one.name for one in self.expected}) < len(self.expected):
            raise ConfigError("two expected values have the same name", "expected", "name each once")


@dataclass(frozen=True, slots=True)
class Judgement:
    """An expected number and what was found in its place; NaN where nothing was."""

    expected: Expected
    value: float
    low: float
    high: float
    verdict: Verdict

    @property
    def difference(self) -> float:
        """Found minus expected."""
        return self.value - self.expected.value


def read_expected(path: Path) -> tuple[Expected, ...]:
    """Read a file of expected values.

    Raises:
        ConfigError: It is absent, or wrong.
    """
    return from_plain(ExpectedSettings, read_yaml(path), where=path.name).expected


def judge_expected(expected: Sequence[Expected]) -> list[Judgement]:
    """Look up what was found.

    Raises:
        InputError: A table is there, but lacks a column, or several of its rows fit.
    """
    return [_judge(one) for one in expected]


def verdict_table(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """One row per number, as it is written and shown."""
    rows: list[Mapping[str, Any]] = [
        {
            "name": one.expected.name,
            "expected": one.expected.value,
            "expected_low": one.expected.low,
            "expected_high": one.expected.high,
            "found": one.value,
            "low": one.low,
            "high": one.high,
            "difference": one.difference,
            "verdict": one.verdict.value,
            "source": one.expected.source,
        }
        for one in judgements
    ]
    return pd.DataFrame(rows)


def _judge(expected: Expected) -> Judgement:
    row = _row(expected)
    if row is None:
        return Judgement(expected, UNKNOWN, UNKNOWN, UNKNOWN, Verdict.NOT_THERE)
    value, low, high = (float(row[name]) if name in row else UNKNOWN for name in (expected.column, "low", "high"))
    if low <= expected.value <= high:
        verdict = Verdict.AGREES
    else:
        verdict = Verdict.NO_INTERVAL if pd.isna(low) or pd.isna(high) else Verdict.DIFFERS
    return Judgement(expected, value, low, high, verdict)


def _row(expected: Expected) -> "pd.Series[Any] | None":
    path = Path(expected.table)
    if not path.is_file():
        return None
    table = pd.read_csv(path, keep_default_na=False, na_values={name: "" for name in (expected.column, "low", "high")})
    if missing := [name for name in (*(c.column for c in expected.rows), expected.column) if name not in table]:
        fix = "name columns of the table"
        raise InputError(f"{path.name} has no column {', '.join(missing)}", f"expected: {expected.name}", fix)
    for cell in expected.rows:
        table = table[[_same(value, cell.value) for value in table[cell.column]]]
    if len(table) > 1:
        fix = "say more under `rows`"
        raise InputError(f"{len(table)} rows of {path.name} fit", f"expected: {expected.name}", fix)
    return None if table.empty or pd.isna(table[expected.column].iloc[0]) else table.iloc[0]


def _same(found: object, wanted: str) -> bool:
    if str(found) == wanted:
        return True
    try:
        return float(str(found)) == float(wanted)
    except ValueError:
        return False
