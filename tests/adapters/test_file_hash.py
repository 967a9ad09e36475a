"""Hashes are right, and remembered only while a file is not touched."""

import hashlib
import os

import pytest

from fmcib_module.adapters import file_hash
from fmcib_module.adapters.file_hash import sha256_of


@pytest.fixture(autouse=True)
def small_files_count_as_large(monkeypatch):
    monkeypatch.setattr(file_hash, "REMEMBERED_FROM_BYTES", 1)


@pytest.fixture
def reads(monkeypatch):
    done = []
    plain = file_hash._read
    monkeypatch.setattr(file_hash, "_read", lambda path: done.append(path) or plain(path))
    return done


def fresh_process() -> None:
    file_hash._known.cache_clear()


def test_a_hash_is_remembered_between_processes(tmp_path, reads):
    (tmp_path / "w").write_bytes(b"weights")
    for _ in range(2):
        fresh_process()
        assert sha256_of(tmp_path / "w", memory=tmp_path / "m") == hashlib.sha256(b"weights").hexdigest()
    assert len(reads) == 1


def test_a_changed_file_is_read_again_even_if_its_time_and_size_are_set_back(tmp_path, reads):
    path = tmp_path / "w"
    path.write_bytes(b"weights")
    before = path.stat()
    sha256_of(path, memory=tmp_path / "m")
    path.write_bytes(b"WEIGHTS")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    fresh_process()
    assert sha256_of(path, memory=tmp_path / "m") == hashlib.sha256(b"WEIGHTS").hexdigest()


def test_again_reads_the_file_whatever_is_remembered(tmp_path, reads):
    (tmp_path / "w").write_bytes(b"weights")
    sha256_of(tmp_path / "w", memory=tmp_path / "m")
    sha256_of(tmp_path / "w", memory=tmp_path / "m", again=True)
    assert len(reads) == 2


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"state": {}, "sha256": "0"}', b"\xff"])
def test_a_damaged_record_is_ignored(tmp_path, content):
    (tmp_path / "w").write_bytes(b"weights")
    sha256_of(tmp_path / "w", memory=tmp_path / "m")
    [record] = (tmp_path / "m").iterdir()
    record.write_bytes(content)
    fresh_process()
    assert sha256_of(tmp_path / "w", memory=tmp_path / "m") == hashlib.sha256(b"weights").hexdigest()


def test_no_memory_is_no_matter(tmp_path):
    (tmp_path / "w").write_bytes(b"weights")
    (tmp_path / "m").write_text("a file where the folder should be")
    assert sha256_of(tmp_path / "w", memory=tmp_path / "m") == hashlib.sha256(b"weights").hexdigest()
