"""Verdicts on expected numbers: inside the interval found, outside by how much, without one, or not there."""

from pathlib import Path

import pandas as pd
import pytest

from fmcib_module.core.errors import ConfigError, InputError
from training.study.expected import Cell, Expected, Verdict, judge_expected, read_expected, verdict_table

STUDY = Path(__file__).parents[3] / "config/training/study"

TABLE = """task,method,share,metric,class,value,low,high
one,a,1.0,auc,,0.70,0.60,0.80
one,a,1.0,auc,c1,0.90,0.85,0.95
one,a,0.5,auc,,0.60,,
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("metrics.csv").write_text(TABLE, encoding="utf-8")


def expected(value: float, *rows: tuple[str, str], table: str = "metrics.csv") -> Expected:
    return Expected("n", value, table, tuple(Cell(*row) for row in (("metric", "auc"), *rows)))


@pytest.mark.parametrize(
    ("value", "rows", "verdict", "difference"),
    [
        (0.65, [("share", "1"), ("class", "")], Verdict.AGREES, 0.05),
        (0.80, [("share", "1"), ("class", "")], Verdict.AGREES, -0.10),
        (0.55, [("share", "1"), ("class", "")], Verdict.DIFFERS, 0.15),
        (0.81, [("share", "1.0"), ("class", "c1")], Verdict.DIFFERS, 0.09),
        (0.65, [("share", "0.5")], Verdict.NO_INTERVAL, -0.05),
    ],
)
def test_a_verdict_is_whether_the_expected_value_lies_in_the_interval_found(
    value: float, rows: list[tuple[str, str]], verdict: Verdict, difference: float
) -> None:
    (found,) = judge_expected([expected(value, *rows)])
    assert found.verdict is verdict
    assert found.difference == pytest.approx(difference)
    row = verdict_table([found]).iloc[0]
    assert (row["expected"], row["verdict"]) == (value, verdict.value)


def test_what_has_not_come_about_is_not_there() -> None:
    cases = [expected(0.5, ("task", "two")), expected(0.5, table="absent.csv")]
    assert [one.verdict for one in judge_expected(cases)] == [Verdict.NOT_THERE] * 2


def test_a_row_must_be_told_apart_and_its_columns_be_there() -> None:
    with pytest.raises(InputError, match=r"2 rows of metrics\.csv fit"):
        judge_expected([expected(0.5, ("share", "1"))])
    with pytest.raises(InputError, match=r"metrics\.csv has no column shore"):
        judge_expected([expected(0.5, ("shore", "1"))])


def test_the_papers_numbers_are_the_papers_and_each_is_a_row_of_its_own() -> None:
    found = read_expected(STUDY / "expected_paper.yml")
    assert (found[0].value, found[0].low, found[0].high) == (0.779, 0.750, 0.810)
    assert {one.value for one in found} >= {0.847, 0.804, 0.857, 0.944, 0.953, 0.638, 0.653, 0.984}
    rows = [{cell.column: cell.value for cell in one.rows} for one in found]
    assert len({(one.table, *row.items()) for one, row in zip(found, rows, strict=True)}) == len(found)
    table = pd.DataFrame(rows).assign(value=[one.value for one in found], low=0.0, high=1.0)
    for name in {one.table for one in found}:
        Path(name).parent.mkdir(parents=True)
        table.to_csv(name, index=False)
    assert {one.verdict for one in judge_expected(found)} == {Verdict.AGREES}


def test_a_file_with_the_same_name_twice_is_refused() -> None:
    one = "  - {name: n, value: 1.0, table: t.csv, rows: []}\n"
    Path("e.yml").write_text("expected:\n" + one * 2, encoding="utf-8")
    with pytest.raises(ConfigError, match="the same name"):
        read_expected(Path("e.yml"))
