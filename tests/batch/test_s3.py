"""s3:// for input and output, with a server that fails: retried, verified, nothing half-written."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fmcib_module.batch import retry, storage
from fmcib_module.batch.fetch import Fetcher, Scratch
from fmcib_module.batch.items import Item
from fmcib_module.batch.retry import StoreError
from fmcib_module.batch.store import BucketStore, open_store
from fmcib_module.core.ledger import ExitCode
from fmcib_module.pipeline import run
from tests.batch.cohorts import TABLES, batch, rows, write_cohort, write_manifest
from tests.batch.s3_server import Faults, serving

pytestmark = pytest.mark.slow  # seconds: moto and botocore are large

QUICK = (0.0, 0.01, 0.01)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Faults]]:
    faults = Faults()
    with serving(faults) as endpoint:
        yield endpoint, faults


@pytest.fixture
def faults(server: tuple[str, Faults], monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    endpoint, faults = server
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(retry, "DELAYS_S", QUICK)
    monkeypatch.setattr(retry.retried, "__kwdefaults__", {"delays_s": QUICK})
    storage.file_system.cache_clear()
    faults.busy_every = faults.cut_every = faults.damage_every = 0
    faults.always_busy = ""
    faults.done.clear()
    faults.requests.clear()
    yield faults
    storage.file_system.cache_clear()


def _upload(folder: Path, prefix: str) -> dict[str, bytes]:
    """A folder's files, now in the bucket too."""
    fs: Any = storage.file_system("s3", anonymous=False)
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name, content in files.items():
        fs.pipe_file(f"bucket/{prefix}/{name}", content)
    return files


@pytest.mark.parametrize("with_s5cmd", [True, False])
def test_downloads_are_whole_although_the_server_fails(
    tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch, with_s5cmd: bool
) -> None:
    write_cohort(tmp_path / "input", 1)
    prefix = f"whole/{with_s5cmd}"
    files = _upload(tmp_path / "input/p000", prefix)
    if not with_s5cmd:
        monkeypatch.setattr(shutil, "which", lambda _: None)
    faults.busy_every, faults.cut_every, faults.damage_every = 5, 4, 3
    scratch = Scratch(tmp_path / "scratch", 10**9)
    fetcher = Fetcher(scratch, root=tmp_path, anonymous=False)
    fetched = fetcher.fetch(Item((f"s3://bucket/{prefix}",)))
    found = {str(p.relative_to(fetched.folder)): p.read_bytes() for p in fetched.folder.rglob("*") if p.is_file()}
    assert found == files
    assert {"busy", "cut", "damage"} <= set(faults.done), faults.done
    assert fetched.n_bytes == scratch.peak_bytes == sum(map(len, files.values()))
    fetcher.drop(fetched)
    assert not fetched.folder.exists()
    scratch.close()


def test_what_cannot_be_had_leaves_nothing_behind(tmp_path: Path, faults: Faults) -> None:
    write_cohort(tmp_path / "input", 1)
    _upload(tmp_path / "input/p000", "lost")
    scratch = Scratch(tmp_path / "scratch", 10**9)
    fetcher = Fetcher(scratch, root=tmp_path, anonymous=False)
    with pytest.raises(StoreError, match="there is nothing at this location"):
        fetcher.fetch(Item(("s3://bucket/absent",)))
    faults.always_busy = "lost/ct/0007.dcm"
    with pytest.raises(StoreError, match=r"failed 4 times.*ct/0007\.dcm"):
        fetcher.fetch(Item(("s3://bucket/lost",)))
    assert list(scratch.folder.iterdir()) == []
    scratch.take(10**9)  # all of it is free again
    scratch.close()


def test_a_job_from_and_to_a_bucket_gives_what_a_run_gives(tmp_path: Path, faults: Faults) -> None:
    write_cohort(tmp_path / "input", 2)
    for name in ("p000", "p001"):
        _upload(tmp_path / "input" / name, f"cohort/{name}")
    manifest = tmp_path / "manifest.csv"
    write_manifest(manifest, [f"s3://bucket/cohort/{name}" for name in ("p000", "p001", "absent")])
    faults.busy_every, faults.cut_every, faults.damage_every = 6, 5, 7
    one_at_a_time = 1e-9  # gigabytes: whatever is here has to go before the next comes
    first = batch(manifest, "s3://bucket/results", tmp_path / "scratch", scratch_gb=one_at_a_time)
    assert first.exit_code is ExitCode.PARTIAL
    write_manifest(manifest, [f"s3://bucket/cohort/{name}" for name in ("p000", "p001")])
    faults.requests.clear()
    again = batch(manifest, "s3://bucket/results", tmp_path / "scratch")
    assert again.exit_code is ExitCode.OK
    assert not [path for _, path in faults.requests if "/cohort/" in path]  # nothing is fetched twice
    fs: Any = storage.file_system("s3", anonymous=False)
    fs.get("bucket/results/", str(tmp_path / "output"), recursive=True)
    run(tmp_path / "input", tmp_path / "expected", settings=TABLES)
    assert (tmp_path / "output/features.csv").read_bytes() == (tmp_path / "expected/features.csv").read_bytes()
    assert rows(tmp_path / "output").equals(rows(tmp_path / "expected"))
    assert faults.done["busy"] > 0


def test_an_object_is_made_only_where_it_is_absent(faults: Faults) -> None:
    store = open_store("s3://bucket/store")
    assert isinstance(store, BucketStore)
    assert store.create("claims/a.0", b"one")
    assert not store.create("claims/a.0", b"two")
    assert store.read("claims/a.0") == b"one"
    assert store.create("claims/a.0", b"one")  # an answer that was lost, asked for again
    assert store.names("claims") == ["a.0"]
    assert store.names("none") == []
    assert store.read("absent") is None


def test_an_answer_that_was_lost_does_not_lose_the_claim(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store("s3://bucket/lost-answer")
    assert isinstance(store, BucketStore)
    send = store._fs.pipe_file
    answers: list[bool] = []

    def lose_first(*arguments: Any, **options: Any) -> Any:
        send(*arguments, **options)
        answers.append(True)
        if len(answers) == 1:
            raise ConnectionError

    monkeypatch.setattr(store._fs, "pipe_file", lose_first)
    assert store.create("claim", b"ours")
    assert not store.create("claim", b"theirs")
