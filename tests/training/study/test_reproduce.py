"""Stages run in order, once; again where something that they depend on has changed; and the end is judged."""

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from training.__main__ import main
from training.study.reproduce import Outcome, reproduce

FIRST = {"name": "first", "verb": "cohort", "settings": "a.yml", "inputs": ["in.csv"], "outputs": ["a/lesions.csv"]}
SECOND = {
    "name": "second",
    "verb": "cohort",
    "settings": "b.yml",
    "inputs": ["a/lesions.csv"],
    "outputs": ["b/lesions.csv"],
}
DONE, KEPT = Outcome.DONE, Outcome.KEPT


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table, and two stages that hand it on."""
    monkeypatch.chdir(tmp_path)
    write_lesions(4)
    for name, table in (("a", "in.csv"), ("b", "a/lesions.csv")):
        write(f"{name}.yml", kind="table", tables=[table], output=name, test=0.5)


def write(name: str, **values: Any) -> None:
    Path(name).write_text(yaml.safe_dump(values), encoding="utf-8")


def write_lesions(n: int) -> None:
    rows = {"image_path": "scan.nrrd", "coordX": range(n), "coordY": 0.0, "coordZ": 0.0}
    pd.DataFrame(rows).assign(label="a", patient=[f"p{k}" for k in range(n)]).to_csv("in.csv", index=False)


def run(*stages: dict[str, Any], **more: Any) -> list[Outcome]:
    write("study.yml", output="study", stages=list(stages or (FIRST, SECOND)), **more)
    return list(reproduce(Path("study.yml")).values())


def test_a_second_run_keeps_everything() -> None:
    assert run() == [DONE, DONE]
    before = Path("b/lesions.csv").stat().st_mtime_ns
    assert run() == [KEPT, KEPT]
    assert Path("b/lesions.csv").stat().st_mtime_ns == before
    record = json.loads(Path("study/reproduce.json").read_text(encoding="utf-8"))
    assert list(record) == ["first", "second"]
    assert {record["first"]["verb"], record["first"]["outcome"]} == {"cohort", "done"}


def test_a_change_runs_what_depends_on_it_and_nothing_else() -> None:
    run()
    write("b.yml", kind="table", tables=["a/lesions.csv"], output="b", test=0.25)
    assert run() == [KEPT, DONE]
    write_lesions(6)
    assert run() == [DONE, DONE]
    assert len(pd.read_csv("b/lesions.csv")) == 6
    Path("b/lesions.csv").unlink()
    assert run() == [KEPT, DONE]
    Path("a/lesions.csv").write_text("damaged", encoding="utf-8")
    assert run() == [DONE, KEPT], "the first stage writes what it wrote before"


def test_a_failed_stage_is_told_and_the_next_run_goes_on_there(caplog: pytest.LogCaptureFixture) -> None:
    write("b.yml", kind="tabel")
    write("study.yml", output="study", stages=[FIRST, SECOND])
    assert main(["reproduce", "study.yml"]) == 2
    assert "stage second failed" in caplog.text
    assert "kind is 'tabel'" in caplog.text
    write("b.yml", kind="table", tables=["a/lesions.csv"], output="b")
    assert run() == [KEPT, DONE]


def test_what_is_optional_is_left_out_where_its_data_are_not_there(caplog: pytest.LogCaptureFixture) -> None:
    private = {**FIRST, "inputs": ["private.csv"], "hint": "ask for it"}
    dependent = {**SECOND, "optional": True}
    write("study.yml", output="study", stages=[private])
    assert main(["reproduce", "study.yml"]) == 2
    assert "private.csv is not there [stage first]: ask for it" in caplog.text
    assert run({**private, "optional": True}, dependent) == [Outcome.LEFT_OUT, Outcome.LEFT_OUT]
    write_lesions(2)
    Path("in.csv").rename("private.csv")
    write("a.yml", kind="table", tables=["private.csv"], output="a")
    assert run({**private, "optional": True}, dependent) == [DONE, DONE]


def test_a_stage_that_fails_on_some_lesions_counts_where_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    from fmcib_module.core.errors import InputError
    from training.study import reproduce as module

    def fails(settings: Path) -> None:
        Path("out.txt").write_text("the others", encoding="utf-8")
        raise InputError("1 lesion(s) have no features", "x", "see the lines above")

    monkeypatch.setattr(module, "load_verb", lambda verb: fails)
    stage = {"name": "one", "verb": "features", "settings": "a.yml", "outputs": ["out.txt"]}
    with pytest.raises(InputError, match="no features"):
        run(stage)
    assert run({**stage, "incomplete": True}) == [Outcome.INCOMPLETE]
    assert run({**stage, "incomplete": True}) == [KEPT]
    with pytest.raises(InputError, match="no features"):
        run({**stage, "incomplete": True, "outputs": ["out.txt", "never.txt"]})


def test_numbers_that_came_out_get_a_verdict(caplog: pytest.LogCaptureFixture) -> None:
    one = {"value": 2.0, "table": "b/lesions.csv", "column": "coordX"}
    rows = [{"column": "patient", "value": "p2"}]
    write("expected.yml", expected=[{**one, "name": "x of the third", "rows": rows}])
    with caplog.at_level(logging.INFO):
        run(expected="expected.yml")
    assert "x of the third: expected 2.000, found 2.000 [nan, nan]: no interval by +0.000" in caplog.text
    assert pd.read_csv("study/verdicts.csv")["found"].tolist() == [2.0]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([SECOND, FIRST], "a/lesions.csv is not written yet [stage second]"),
        ([FIRST, {**SECOND, "name": "first"}], "two stages have the same name"),
        ([FIRST, {**SECOND, "outputs": FIRST["outputs"], "inputs": []}], "a/lesions.csv is written by first too"),
        ([{**FIRST, "verb": "reproduce"}], "no such verb: reproduce [stage first]"),
        ([{**FIRST, "outputs": []}], "it writes nothing [stage first]"),
        ([{**FIRST, "outputs": ["a/other.csv"]}], "it did not write a/other.csv [stage first]"),
        ([{**FIRST, "settings": "absent.yml", "optional": True}], "absent.yml is not there [stage first]"),
        ([], "there is no stage"),
    ],
)
def test_stages_that_cannot_be_are_refused(
    stages: list[dict[str, Any]], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    write("study.yml", output="study", stages=stages)
    assert main(["reproduce", "study.yml"]) == 2
    assert message in caplog.text
