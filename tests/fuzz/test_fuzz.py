"""A slice of `make fuzz`, and every DICOM file that pydicom and highdicom bring along."""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest

from fmcib_module import lazy_encoder, pipeline
from tests.fuzz.campaign import Campaign
from tests.fuzz.dicom_mutations import dicom_files
from tests.fuzz.mutations import MUTATIONS
from tests.fuzz.study import StandInEncoder, mutate, write_base
from tests.shared import DATA, needs_shared

pytestmark = pytest.mark.filterwarnings("ignore")  # pydicom says of many of these files what is wrong with them


def _package(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def test_a_seed_always_makes_the_same_study(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    for seed in range(12):
        first, again = tmp_path / f"a{seed}", tmp_path / f"b{seed}"
        assert mutate(base, first, seed) == mutate(base, again, seed)
        files = [
            path.relative_to(first) for path in sorted(first.rglob("*")) if path.is_file() and not path.is_symlink()
        ]
        assert all((first / file).read_bytes() == (again / file).read_bytes() for file in files)


def test_every_mutation_changes_the_study(tmp_path: Path) -> None:
    """Some seed of each does; what a mutation cannot break it leaves alone."""
    base = write_base(tmp_path / "base")
    before = _state(base)
    for mutation in MUTATIONS:
        states = []
        for seed in range(4):
            folder = tmp_path / f"{mutation.__name__}-{seed}"
            _copy(base, folder)
            mutation(Random(seed), folder)
            states.append(_state(folder))
        assert any(state != before for state in states), mutation.__name__


def test_pipes_and_links_of_an_earlier_mutation_are_left_alone(tmp_path: Path) -> None:
    base, outside = write_base(tmp_path / "base"), tmp_path / "outside.dcm"
    outside.write_bytes(b"of somebody else")
    for mutation in MUTATIONS:
        folder = tmp_path / mutation.__name__
        _copy(base, folder)
        os.mkfifo(folder / "pipe.dcm")
        (folder / "link.dcm").symlink_to(outside)
        assert {"pipe.dcm", "link.dcm"}.isdisjoint(path.name for path in dicom_files(folder))
        mutation(Random(0), folder)
    assert outside.read_bytes() == b"of somebody else"


def _copy(base: Path, folder: Path) -> None:
    for path in base.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(base)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(base)).write_bytes(path.read_bytes())


def _state(folder: Path) -> dict[str, object]:
    found = {}
    for path in folder.rglob("*"):
        plain = path.is_file() and not path.is_symlink()
        found[str(path.relative_to(folder))] = (path.lstat().st_mode, path.read_bytes() if plain else b"")
    return found


@pytest.mark.slow
def test_a_slice_of_the_campaign_breaks_no_rule(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    summary = Campaign(base, tmp_path).run(first=500_000, count=150, n_workers=2)
    assert summary["studies"] == 150
    assert summary["broken"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("package", ["pydicom", "highdicom"])
def test_the_files_that_a_package_ships_are_all_accounted_for(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _account_for(_package(package), tmp_path, monkeypatch)


@pytest.mark.slow
@needs_shared
def test_the_edge_cases_are_all_accounted_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _account_for(DATA / "edge-cases", tmp_path, monkeypatch)


def _account_for(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy_encoder, "load_encoder", lambda *_, **__: StandInEncoder())
    pipeline.run(source, tmp_path / "out", pictures=False, report=False)
    ledger = json.loads((tmp_path / "out" / "run_status.json").read_text(encoding="utf-8"))
    entries = [*ledger["series"], *ledger["problems"], *(roi for entry in ledger["series"] for roi in entry["rois"])]
    unforeseen = [e["reason"]["what"] for e in entries if e.get("reason") and e["reason"]["error"] == "UnforeseenError"]
    assert unforeseen == []
    assert ledger["complete"]
    assert entries or ledger["ignored_files"]
