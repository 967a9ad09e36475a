"""A whole job gives what `fmcib run` gives, goes on where it stopped, and loses nothing."""

import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fmcib_module import steps
from fmcib_module.batch.claims import DEAD_AFTER_S
from fmcib_module.batch.fetch import Fetcher, Scratch
from fmcib_module.batch.items import Item, SeedRow, Shard
from fmcib_module.core.conventions import Mode
from fmcib_module.core.errors import ConfigError, OutputError
from fmcib_module.core.ledger import ExitCode
from fmcib_module.ledger_file import read_ledger
from fmcib_module.pipeline import run
from fmcib_module.settings import Settings
from tests import phantoms
from tests.batch.cohorts import TABLES, batch, results, rows, write_cohort, write_manifest


def _files(folder: Path) -> dict[str, Path]:
    return {
        str(path.relative_to(folder)): path
        for path in folder.rglob("*")
        if path.is_file() and "_batch" not in path.relative_to(folder).parts
    }


@pytest.mark.slow
def test_a_job_writes_what_a_run_writes(tmp_path: Path) -> None:
    write_cohort(tmp_path / "input", 2)
    ledger = batch(tmp_path / "input/manifest.csv", tmp_path / "output", tmp_path / "scratch", settings=Settings())
    expected = run(tmp_path / "input", tmp_path / "expected")
    assert (ledger.exit_code, ledger.complete) == (expected.exit_code, True)
    assert set(_files(tmp_path / "output")) == set(_files(tmp_path / "expected"))
    for name in ("features.csv", *(name for name in _files(tmp_path / "expected") if name.endswith(".png"))):
        assert (tmp_path / "output" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes(), name
    ours, theirs = results(tmp_path / "output"), results(tmp_path / "expected")
    for entry in (*ours.values(), *theirs.values()):
        entry["files"] = sorted(entry["files"])  # SR and SEG hold the time when they were written
    assert ours == theirs


def test_a_job_that_ends_leaves_alone_what_another_is_writing(tmp_path: Path) -> None:
    write_cohort(tmp_path / "input", 1)
    folder = tmp_path / "output/1.2.3"
    folder.mkdir(parents=True)
    fresh, left = folder / ".features.csv.71.partial", folder / ".features.csv.72.partial"
    for partial in (fresh, left):
        partial.write_text("begun")
    long_ago = time.time() - 2 * DEAD_AFTER_S
    os.utime(left, (long_ago, long_ago))
    batch(tmp_path / "input/manifest.csv", tmp_path / "output", tmp_path / "scratch")
    assert (fresh.exists(), left.exists()) == (True, False)


def test_what_is_done_is_not_repeated_and_new_rows_are_done(tmp_path: Path) -> None:
    studies = write_cohort(tmp_path / "input", 2)
    manifest, output, scratch = tmp_path / "input/manifest.csv", tmp_path / "output", tmp_path / "scratch"
    batch(manifest, output, scratch)
    table = output / studies[0].series_uid / "features.csv"
    written = table.stat().st_mtime_ns
    third = phantoms.write_study(tmp_path / "input/p002", seed=2)
    write_manifest(manifest, ["p000", "p001", "p002"])
    ledger = batch(manifest, output, scratch)
    assert table.stat().st_mtime_ns == written
    assert {entry.series_uid for entry in ledger.series} == {third.series_uid, *(s.series_uid for s in studies)}
    assert rows(output)["series_uid"].nunique() == 3
    assert [path for path in scratch.iterdir() if path.is_dir()] == []


def test_shards_are_merged_into_the_same_tables(tmp_path: Path) -> None:
    write_cohort(tmp_path / "input", 3)
    manifest, output, scratch = tmp_path / "input/manifest.csv", tmp_path / "output", tmp_path / "scratch"
    first = batch(manifest, output, scratch, shard=Shard(1, 2))
    assert 0 < len(first.series) < 3
    early = batch(manifest, output, scratch, merge_only=True)
    assert (early.exit_code, len(early.problems)) == (ExitCode.PARTIAL, 3 - len(first.series))
    assert all("not done yet" in str(problem.reason) for problem in early.problems)
    batch(manifest, output, scratch, shard=Shard(2, 2))
    merged = batch(manifest, output, scratch, merge_only=True)
    run(tmp_path / "input", tmp_path / "expected", settings=TABLES)
    assert merged.exit_code is ExitCode.OK
    assert (output / "features.csv").read_bytes() == (tmp_path / "expected/features.csv").read_bytes()


def test_a_source_that_is_not_there_fails_alone_and_is_tried_again(tmp_path: Path) -> None:
    write_cohort(tmp_path / "input", 1)
    manifest, output, scratch = tmp_path / "input/manifest.csv", tmp_path / "output", tmp_path / "scratch"
    write_manifest(manifest, ["p000", "late"])
    ledger = batch(manifest, output, scratch)
    assert ledger.exit_code is ExitCode.PARTIAL
    assert "no such file or folder" in str([entry.reason for entry in ledger.series])
    phantoms.write_study(tmp_path / "input/late", seed=7)
    assert batch(manifest, output, scratch).exit_code is ExitCode.OK
    stored = read_ledger(output)
    assert stored is not None
    assert stored.exit_code is ExitCode.OK


def test_a_series_that_the_manifest_holds_twice_is_written_by_one(tmp_path: Path) -> None:
    write_cohort(tmp_path / "input", 1)
    shutil.copytree(tmp_path / "input/p000", tmp_path / "input/copy")
    write_manifest(tmp_path / "input/manifest.csv", ["p000", "copy"])
    ledger = batch(tmp_path / "input/manifest.csv", tmp_path / "output", tmp_path / "scratch")
    assert ledger.exit_code is ExitCode.PARTIAL
    assert "holds this series twice" in str([entry.reason for entry in ledger.series])
    assert len(rows(tmp_path / "output")) == sum(entry.n_lesions for entry in ledger.series) == 4


def test_seed_points_of_the_manifest_are_lesions(tmp_path: Path) -> None:
    study = phantoms.write_study(tmp_path / "input/p000", rtstruct=False, seg=False)
    x, y, z = phantoms.CENTRE_LPS
    (tmp_path / "input/manifest.csv").write_text(f"path,coordX,coordY,coordZ,label\np000,{x},{y},{z},nodule\n")
    batch(tmp_path / "input/manifest.csv", tmp_path / "output", tmp_path / "scratch")
    row = rows(tmp_path / "output").iloc[0]
    assert (row["series_uid"], row["Mhub ROI"]) == (study.series_uid, "nodule")
    assert (row["coordX"], row["coordY"], row["coordZ"]) == phantoms.CENTRE_LPS


def test_a_store_that_refuses_leaves_the_item_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cohort(tmp_path / "input", 2)
    manifest, output, scratch = tmp_path / "input/manifest.csv", tmp_path / "output", tmp_path / "scratch"
    write = steps.write
    calls: list[Any] = []

    def full_once(work: Any, folder: Path, **arguments: Any) -> Any:
        calls.append(work)
        if len(calls) == 1:
            raise OutputError("cannot be written: No space left on device", "x/features.csv", "free disk space")
        return write(work, folder, **arguments)

    monkeypatch.setattr(steps, "write", full_once)
    ledger = batch(manifest, output, scratch)
    assert (ledger.exit_code, ledger.complete) == (ExitCode.PARTIAL, False)
    assert "No space left" in str(ledger.problems[0].reason)
    assert not (output / "features.parquet").exists()
    assert batch(manifest, output, scratch, merge_only=True).exit_code is ExitCode.PARTIAL


def test_another_kind_of_output_and_other_settings_are_refused(tmp_path: Path) -> None:
    write_cohort(tmp_path / "input", 1)
    manifest = tmp_path / "input/manifest.csv"
    with pytest.raises(ConfigError, match="OUTPUT is memory://"):
        batch(manifest, "memory://results", tmp_path / "scratch")
    batch(manifest, tmp_path / "output", tmp_path / "scratch")
    with pytest.raises(OutputError, match="another configuration"):
        batch(manifest, tmp_path / "output", tmp_path / "scratch", settings=replace(TABLES, mode=Mode.CENTRED))


def test_downloads_wait_for_room_and_an_item_larger_than_it_comes_alone(tmp_path: Path) -> None:
    scratch, order = Scratch(tmp_path / "scratch", 100), []
    scratch.take(80)

    def next_one() -> None:
        scratch.take(500)
        order.append("large")

    thread = threading.Thread(target=next_one)
    thread.start()
    order.append("waiting")
    scratch.give_back(80)
    thread.join(10)
    assert order == ["waiting", "large"]
    assert scratch.peak_bytes == 500
    scratch.close()


def test_what_a_dead_worker_left_is_deleted_and_what_a_living_one_uses_is_not(tmp_path: Path) -> None:
    living = Scratch(tmp_path, 0)
    (tmp_path / "worker-dead").mkdir()
    (tmp_path / "worker-dead.lock").touch()
    new = Scratch(tmp_path, 0)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {living.folder.name, new.folder.name}
    living.close()
    new.close()


def test_local_sources_are_used_where_they_lie(tmp_path: Path) -> None:
    study = phantoms.write_study(tmp_path / "p")
    scratch = Scratch(tmp_path / "scratch", 0)
    fetcher = Fetcher(scratch, root=tmp_path, anonymous=False)
    assert fetcher.fetch(Item(("p",))).folder == tmp_path / "p"
    item = Item(("p/ct", "p/rtstruct.dcm"), (SeedRow("A", (1.0, 2.0, 3.0)),))
    fetched = fetcher.fetch(item)
    found = [path for path in fetched.folder.rglob("*") if path.is_symlink()]
    assert {path.resolve() for path in found} == {tmp_path / "p/ct", study.rtstruct_path}
    fetcher.drop(fetched)
    assert not fetched.folder.exists()
    assert len(os.listdir(tmp_path / "p/ct")) == len(study.ct_paths)  # noqa: PTH208
    assert fetched.n_bytes == 0
    scratch.close()
