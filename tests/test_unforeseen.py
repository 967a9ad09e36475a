"""Whatever breaks inside a step costs what it was about, and is told without what the file says of the patient."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fmcib_module import series_writer, steps
from fmcib_module.adapters import dicom_import, seed_finder
from fmcib_module.core.conventions import SeedKind
from fmcib_module.core.ledger import ExitCode, Ledger, Status
from fmcib_module.pipeline import run
from tests import phantoms
from tests.chain import reasons


def _breaks(works: Callable[..., Any], when: Callable[..., bool]) -> Callable[..., Any]:
    def broken(*args: Any, **options: Any) -> Any:
        if when(*args):
            msg = "DOE^JANE was born on 19330107"
            raise ZeroDivisionError(msg)
        return works(*args, **options)

    return broken


def _once() -> Callable[..., bool]:
    """True when it is asked first."""
    answers = iter([True])
    return lambda *_: next(answers, False)


def _run(tmp_path: Path) -> Ledger:
    phantoms.write_study(tmp_path / "in" / "a", seed=1)
    phantoms.write_study(tmp_path / "in" / "b", seed=2)
    return run(tmp_path / "in", tmp_path / "out", pictures=False, report=False)


def _check_words(ledger: Ledger) -> None:
    assert ledger.exit_code is ExitCode.PARTIAL
    assert "ZeroDivisionError in " in reasons(ledger)
    assert "report it" in reasons(ledger)
    assert not any(word in reasons(ledger) for word in ("DOE", "1933"))


def _check(ledger: Ledger, n_lost: int) -> None:
    _check_words(ledger)
    lost = [roi for entry in ledger.series for roi in entry.rois if roi.status is Status.FAILED]
    assert (len(lost), ledger.n_lesions) == (n_lost, 8 - n_lost)


def test_a_reader_costs_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lister = seed_finder._LISTERS[SeedKind.SEG]
    broken = _breaks(lister, _once())
    monkeypatch.setitem(seed_finder._LISTERS, SeedKind.SEG, broken)
    ledger = _run(tmp_path)
    assert ledger.n_lesions == 6
    _check_words(ledger)


def test_a_patch_costs_its_lesion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = _breaks(steps.extract_patch, lambda _, seed, *__: seed.label == "Node" and seed.kind is SeedKind.SEG)
    monkeypatch.setattr(steps, "extract_patch", broken)
    _check(_run(tmp_path), 2)


def test_a_scan_costs_its_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = steps.volume_reader.read_volume
    monkeypatch.setattr(steps.volume_reader, "read_volume", _breaks(read, _once()))
    _check(_run(tmp_path), 4)


def test_a_writer_costs_its_object_and_the_table_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = _breaks(series_writer.write_sr, _once())
    monkeypatch.setattr(series_writer, "write_sr", broken)
    ledger = _run(tmp_path)
    assert ledger.n_lesions == 8
    assert len(list((tmp_path / "out").glob("*/features.csv"))) == 2
    assert len(list((tmp_path / "out").glob("*/features.sr.dcm"))) == 1
    _check_words(ledger)


def test_a_file_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = _breaks(dicom_import.read_header, lambda path: path.name == "0001.dcm" and path.parts[-3] == "a")
    monkeypatch.setattr(dicom_import, "read_header", broken)
    ledger = _run(tmp_path)
    assert [problem.path for problem in ledger.problems] == ["a/ct/0001.dcm"]
    _check_words(ledger)
