"""Folders that are no place for results, or hold ones that cannot be gone on from: refused, and nothing is touched."""

import json

import pytest

from fmcib_module import run
from fmcib_module.core.errors import OutputError
from tests import phantoms
from tests.chain import LESIONS

PLAIN = {"sr": False, "seg": False, "pictures": False, "report": False}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return phantoms.write_study(tmp_path_factory.mktemp("in"), seg=False, lesions=LESIONS[:1]).folder


def _other_schema(content: str) -> str:
    return json.dumps({**json.loads(content), "schema": "fmcib-run-status/99"})


def _without_its_series(content: str) -> str:
    return json.dumps({key: value for key, value in json.loads(content).items() if key != "series"})


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_other_schema, "schema 'fmcib-run-status/99'"),
        (_without_its_series, "cannot be read"),
        (lambda content: content[: len(content) // 2], "cannot be read"),
        (lambda _: None, "results without a ledger"),
    ],
    ids=["other schema", "key missing", "cut short", "gone"],
)
def test_a_ledger_that_cannot_be_gone_on_from_stands_in_the_way_until_it_is_replaced(source, tmp_path, harm, message):
    first = run(source, tmp_path / "out", **PLAIN)
    ledger = tmp_path / "out" / "run_status.json"
    harmed = harm(ledger.read_text())
    ledger.unlink() if harmed is None else ledger.write_text(harmed)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    with pytest.raises(OutputError, match=message):
        run(source, tmp_path / "out", **PLAIN)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    again = run(source, tmp_path / "out", force=True, **PLAIN)
    assert (again.n_lesions, again.exit_code) == (first.n_lesions, 0)


def test_a_file_is_no_folder_for_results(source, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="File exists"):
        run(source, tmp_path / "out", **PLAIN)
    assert (tmp_path / "out").read_text() == "mine"
