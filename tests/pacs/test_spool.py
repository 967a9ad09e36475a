"""The spool and the outbox by themselves: what a deletion, a crash or a lost file at the wrong moment leaves."""

import io
import os
from pathlib import Path

import pytest

from fmcib_module.pacs.audit import Audit
from fmcib_module.pacs.received import Received, read_received
from fmcib_module.pacs.results import Outbox
from fmcib_module.pacs.spool import Spool
from fmcib_module.pacs.state import State, StudyState
from tests.pacs.node_helpers import small_study


@pytest.fixture
def parts(tmp_path):
    state, audit = State(tmp_path / "state.sqlite"), Audit(io.StringIO())
    spool = Spool(tmp_path / "spool", state, audit, free_bytes=0)
    yield spool, state, audit
    spool.close()
    state.close()


@pytest.fixture
def ct(tmp_path) -> tuple[Received, bytes]:
    path = tmp_path / "ct.dcm"
    small_study("spool")[0].save_as(path, enforce_file_format=True)
    return read_received(path.read_bytes()), path.read_bytes()


def test_a_file_and_the_folders_that_name_it_are_flushed_before_it_is_acknowledged(parts, ct, tmp_path, monkeypatch):
    spool, _, _ = parts
    received, content = ct
    flushed: list[Path] = []
    flush = os.fsync

    def note(descriptor: int) -> None:
        flush(descriptor)
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr(os, "fsync", note)
    spool.store(received, content)
    assert flushed[0].parent == tmp_path / "incoming"  # under its temporary name, before it is renamed
    assert set(flushed[1:]) == {tmp_path / "spool", tmp_path / "spool" / received.study}


def test_a_copy_that_comes_while_the_first_is_deleted_is_kept(parts, ct, monkeypatch):
    spool, state, _ = parts
    received, content = ct
    assert spool.store(received, content)
    state.set_state(received.study, StudyState.DONE)
    look_up = state.digest_of

    def look_up_and_delete(study: str, name: str) -> str:
        found = look_up(study, name)
        monkeypatch.undo()
        assert spool.remove_study(study)
        return found

    monkeypatch.setattr(state, "digest_of", look_up_and_delete)
    assert spool.store(received, content)  # it had to be written once more
    assert spool.path(received.study, received.name).read_bytes() == content


def test_a_study_that_was_opened_again_is_not_deleted(parts, ct):
    spool, state, _ = parts
    received, content = ct
    spool.store(received, content)
    assert state.studies()[0].state is StudyState.RECEIVING
    assert not spool.remove_study(received.study)
    assert spool.path(received.study, received.name).is_file()


def test_what_a_crash_left_half_written_is_removed_and_what_it_left_unknown_is_noted(parts, ct, tmp_path):
    spool, state, audit = parts
    received, content = ct
    spool.store(received, content)
    state.forget_objects(received.study, [received.name])
    half = tmp_path / "incoming" / "half"
    half.write_bytes(content[:100])
    again = Spool(tmp_path / "spool", state, audit, free_bytes=0)
    again.reconcile()
    again.close()
    assert not half.exists()
    assert state.objects(received.study) == {received.name: received.sha256}
    spool.path(received.study, received.name).unlink()
    spool.reconcile()
    assert state.objects(received.study) == {}


def test_a_result_keeps_its_first_content_and_a_lost_file_comes_back(parts, tmp_path):
    _, state, audit = parts
    outbox = Outbox(tmp_path / "outbox", state, audit, ["archive"])
    first, other = tmp_path / "first.dcm", tmp_path / "other.dcm"
    dataset = small_study("result")[0]
    dataset.save_as(first, enforce_file_format=True)
    dataset.SeriesDescription = "made later"
    dataset.save_as(other, enforce_file_format=True)
    for path in (first, other):
        new = outbox.keep([path])
        with state.transaction() as db:
            outbox.note(db, "study", new)
    (delivery,) = outbox.due("archive", 10)
    assert delivery.path.read_bytes() == first.read_bytes()
    assert audit.counts == {"result-kept-as-first-made": 1}
    delivery.path.unlink()
    outbox.keep([first])
    assert delivery.path.read_bytes() == first.read_bytes()
    outbox.delivered("archive", delivery)
    assert outbox.waiting() == {"archive": 0}
    assert outbox.keep([first]) == []
    assert outbox.due("archive", 10) == []


def test_objects_are_named_by_hashes_whatever_their_uids_are(ct):
    received, content = ct
    hostile = content.replace(
        received.sop_uid.encode(), b"../" * (len(received.sop_uid) // 3) + b"x" * (len(received.sop_uid) % 3)
    )
    name = read_received(hostile).name
    assert Path(name).name == name
    assert set(name) <= set("0123456789abcdef")
