"""The node in this process: who may send, what is kept, what each study becomes, and what is told about it."""

import errno
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE, build_context

from fmcib_module.adapters.derived import MANUFACTURER, PRODUCT
from fmcib_module.adapters.study_writer import StudyTags, start_dataset
from fmcib_module.core.errors import ConfigError
from fmcib_module.pacs import spool as spool_module
from fmcib_module.pacs.node import STORED_CLASSES, TRANSFER_SYNTAXES
from fmcib_module.pacs.node_settings import Peer, read_node_settings
from fmcib_module.pacs.state import StudyState
from tests.pacs.node_helpers import (
    SR_CLASS,
    events,
    failing_work,
    hopeless_work,
    node_settings,
    running,
    send,
    slow_work,
    small_study,
    wait_for,
)

ROOT = Path(__file__).resolve().parents[2]


def runs_in(folder: Path) -> list[str]:
    path = folder / "runs"
    return path.read_text().split() if path.exists() else []


def in_state(service, state: StudyState, count: int = 1):
    return lambda: service.state.counts()[state] == count


def test_the_example_settings_are_what_the_node_reads(tmp_path):
    settings = read_node_settings(ROOT / "config" / "pacs" / "serve.yml", folder=tmp_path)
    assert settings.peers == (Peer("ORTHANC", "127.0.0.1"), Peer("STORESCU"))
    assert settings.run.weights == "mini"
    for wrong in ({"peers": []}, {"porte": 1}, {"ae_title": "A" * 17}, {"workers": 0}, {"run": "mini"}):
        with pytest.raises(ConfigError):
            read_node_settings(ROOT / "config" / "pacs" / "serve.yml", folder=tmp_path, **wrong)


@pytest.mark.parametrize(
    ("peer", "title", "address", "admitted"),
    [
        (Peer("A"), "A", "203.0.113.9", True),
        (Peer("A"), "B", "203.0.113.9", False),
        (Peer("A", "192.0.2.0/24"), "A", "192.0.2.77", True),
        (Peer("A", "192.0.2.0/24"), "A", "192.0.3.77", False),
        (Peer("A", "2001:db8::/32"), "A", "2001:db8::5", True),
    ],
)
def test_a_peer_is_a_title_and_where_it_calls_from(peer, title, address, admitted):
    assert peer.admits(title, address) is admitted


def test_a_study_is_run_once_when_ct_and_roi_are_there_whatever_is_sent_twice(tmp_path):
    *ct, rtstruct = small_study("once")
    settings = node_settings(tmp_path)
    with running(settings) as (service, log):
        assert send(service.port, [*ct, *ct]) == [0] * 6
        wait_for(lambda: service.state.studies()[0].changed < time.time() - 3 * settings.quiet_s)
        assert runs_in(tmp_path) == []  # quiet, but without an ROI
        assert send(service.port, [rtstruct, *ct[::-1], rtstruct]) == [0] * 5
        wait_for(in_state(service, StudyState.DONE))
        assert send(service.port, [rtstruct, *ct]) == [0] * 4  # a copy of what is done opens nothing
        assert service.state.counts()[StudyState.DONE] == 1
        late = pydicom.dcmread(tmp_path / "spool" / service.state.studies()[0].study / _name_of(ct[0]), force=True)
        late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
        assert send(service.port, [late]) == [0]
        wait_for(lambda: len(runs_in(tmp_path)) == 2 and service.state.counts()[StudyState.DONE] == 1)
    assert [event["event"] for event in events(log)].count("study-done") == 2
    assert "SECRET" not in log.getvalue()


def _name_of(dataset: pydicom.Dataset) -> str:
    from fmcib_module.pacs.received import hashed_name

    return hashed_name(dataset.SOPInstanceUID) + ".dcm"


def test_what_is_stored_is_what_was_sent_and_a_restart_knows_it(tmp_path):
    datasets = small_study("restart")
    settings = node_settings(tmp_path, quiet_s=60.0)
    with running(settings) as (service, _):
        assert send(service.port, datasets) == [0] * len(datasets)
    stored = [pydicom.dcmread(path) for path in (tmp_path / "spool").rglob("*.dcm")]
    by_uid = {ds.SOPInstanceUID: ds for ds in stored}
    assert {uid: by_uid[uid] for uid in by_uid} == {ds.SOPInstanceUID: ds for ds in datasets}
    for path in tmp_path.glob("state.sqlite*"):
        path.unlink()  # as after a loss of power before the state was on disk
    with running(replace(settings, quiet_s=0.1)) as (service, log):
        wait_for(in_state(service, StudyState.DONE))
    assert next(e for e in events(log) if e["event"] == "objects-recovered")["objects"] == len(datasets)


def test_unknown_callers_are_rejected_and_logged_without_identifiers(tmp_path):
    datasets = small_study("unknown")
    with running(node_settings(tmp_path, peers=[{"ae_title": "TESTER", "address": "192.0.2.1"}])) as (service, log):
        assert send(service.port, datasets) == []
        assert send(service.port, datasets, calling="STRANGER") == []
    rejected = [event for event in events(log) if event["event"] == "association-rejected"]
    assert [event["calling"] for event in rejected] == ["TESTER", "STRANGER"]
    assert not list((tmp_path / "spool").iterdir())


def test_a_full_disk_is_refused_with_a_status_and_accepted_when_there_is_room(tmp_path, monkeypatch):
    datasets = small_study("full")
    with running(node_settings(tmp_path, http_port=0)) as (service, log):
        usage = spool_module.shutil.disk_usage(tmp_path)
        monkeypatch.setattr(spool_module.shutil, "disk_usage", lambda _path: usage._replace(free=99_000_000))
        assert send(service.port, datasets[:2]) == [0xA700, 0xA700]
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"http://127.0.0.1:{service.http_port}/healthz")
        monkeypatch.undo()
        assert send(service.port, datasets) == [0] * len(datasets)
    assert "the disk is full" in next(e["reason"] for e in events(log) if e["event"] == "object-refused")


def test_a_write_that_fails_half_way_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    def write_half(path: Path, content: bytes) -> None:
        path.write_bytes(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    datasets = small_study("half")
    with running(node_settings(tmp_path)) as (service, log):
        monkeypatch.setattr(spool_module, "_write_flushed", write_half)
        assert send(service.port, datasets[:1]) == [0xA700]
        monkeypatch.undo()
        assert not list((tmp_path / "incoming").iterdir())
        assert not list((tmp_path / "spool").iterdir())
        assert send(service.port, datasets) == [0] * len(datasets)
    assert "No space left" in next(e["reason"] for e in events(log) if e["event"] == "object-refused")


def test_a_log_that_cannot_be_written_does_not_stop_the_node(tmp_path):
    with running(node_settings(tmp_path)) as (service, log):
        log.write = refuse
        assert send(service.port, small_study("log")) == [0] * 4
        assert send(service.port, small_study("log"), calling="STRANGER") == []
        wait_for(in_state(service, StudyState.DONE))


def refuse(_text: str) -> int:
    raise BrokenPipeError


def test_objects_that_make_no_sense_get_a_status(tmp_path):
    lying, without_study = small_study("odd")[:2]
    lying.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    del without_study.StudyInstanceUID
    with running(node_settings(tmp_path)) as (service, _):
        entity = AE("TESTER")
        entity.add_requested_context(lying.SOPClassUID, lying.file_meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", service.port, ae_title="FMCIB")
        uid = lying.SOPInstanceUID
        lying.SOPInstanceUID = "1.2.3.4"
        request = association.dimse.send_msg

        def rename(primitive, context_id):
            primitive.AffectedSOPInstanceUID = uid
            request(primitive, context_id)

        association.dimse.send_msg = rename
        assert association.send_c_store(lying).Status == 0xA900
        association.dimse.send_msg = request
        assert association.send_c_store(without_study).Status == 0xC000
        association.release()


def test_own_results_that_come_back_are_taken_and_forgotten(tmp_path):
    sr = small_study("own")[-1]
    sr.Manufacturer, sr.ManufacturerModelName = MANUFACTURER, PRODUCT
    with running(node_settings(tmp_path)) as (service, log):
        assert send(service.port, [sr]) == [0]
        assert service.state.studies() == []
    assert [event["event"] for event in events(log)].count("own-result-ignored") == 1


def test_a_study_that_fails_is_tried_so_often_and_then_a_dead_letter_until_something_arrives(tmp_path):
    datasets = small_study("failing")
    settings = node_settings(tmp_path, attempts=2, identifiers=True, http_port=0)
    with running(settings, failing_work) as (service, log):
        send(service.port, datasets)
        wait_for(in_state(service, StudyState.DEAD))
        assert len(runs_in(tmp_path)) == 2
        (letter,) = (tmp_path / "dead-letters").iterdir()
        assert len(list(letter.glob("*.dcm"))) == len(datasets)
        assert "OSError at node_helpers.py" in (letter / "reason.json").read_text()
        page = urllib.request.urlopen(f"http://127.0.0.1:{service.http_port}/").read().decode()
        assert "OSError at node_helpers.py" in page
        assert "SECRET-ID" in page  # asked for
        send(service.port, datasets[:1])
        wait_for(lambda: len(runs_in(tmp_path)) == 4)
    assert "SECRET" not in log.getvalue()
    assert [event["event"] for event in events(log)].count("study-retried") == 2


def test_a_study_that_cannot_come_through_is_not_tried_again(tmp_path):
    datasets = small_study("hopeless")
    with running(node_settings(tmp_path, http_port=0), hopeless_work) as (service, log):
        send(service.port, datasets)
        wait_for(in_state(service, StudyState.DEAD))
        page = urllib.request.urlopen(f"http://127.0.0.1:{service.http_port}/").read().decode()
        assert "not one uniform grid" in page
        assert "SECRET" not in page
        assert datasets[0].StudyInstanceUID not in page
    assert [event["event"] for event in events(log)].count("study-started") == 1


def test_a_study_without_roi_becomes_a_dead_letter_after_a_while(tmp_path):
    with running(node_settings(tmp_path, patience_h=0.00003)) as (service, log):
        send(service.port, small_study("no roi")[:-1])
        wait_for(in_state(service, StudyState.DEAD))
    assert "no RTSTRUCT, SEG or report with coordinates arrived" in next(
        e["reason"] for e in events(log) if e["event"] == "study-failed"
    )


def test_an_sr_by_itself_is_kept_a_while_and_is_nobody_s_failure(tmp_path):
    sr = start_dataset(SR_CLASS, "SR", "1.2.3.5", StudyTags("sr only"))
    sr.SOPInstanceUID = sr.file_meta.MediaStorageSOPInstanceUID = "1.2.3.6"
    with running(node_settings(tmp_path, patience_h=0.0)) as (service, log):
        assert send(service.port, [sr]) == [0]
        wait_for(in_state(service, StudyState.DONE))
    assert "study-failed" not in {event["event"] for event in events(log)}


@pytest.mark.slow
def test_what_is_done_and_old_is_deleted(tmp_path):
    with running(node_settings(tmp_path, keep_h=0.0)) as (service, _):
        send(service.port, small_study("old"))
        wait_for(lambda: bool(runs_in(tmp_path)) and not list((tmp_path / "spool").iterdir()))
        wait_for(lambda: not list((tmp_path / "results").iterdir()))
        assert service.state.counts()[StudyState.DONE] == 1


def test_more_associations_than_allowed_are_rejected(tmp_path):
    with running(node_settings(tmp_path, maximum_associations=1)) as (service, log):
        entity = AE("TESTER")
        entity.requested_contexts = [build_context("1.2.840.10008.1.1")]
        first, second = (entity.associate("127.0.0.1", service.port, ae_title="FMCIB") for _ in range(2))
        assert (first.is_established, second.is_rejected) == (True, True)
        assert first.send_c_echo().Status == 0
        first.release()
    assert "too many associations" in [event.get("reason") for event in events(log)]


@pytest.mark.slow
def test_every_class_is_accepted_in_every_syntax_that_the_node_claims(tmp_path):
    with running(node_settings(tmp_path)) as (service, _):
        for syntax in TRANSFER_SYNTAXES:
            entity = AE("TESTER")
            entity.requested_contexts = [build_context(uid, syntax) for uid in STORED_CLASSES]
            association = entity.associate("127.0.0.1", service.port, ae_title="FMCIB")
            accepted = {context.abstract_syntax for context in association.accepted_contexts}
            association.release()
            assert accepted == set(STORED_CLASSES), syntax


def test_two_nodes_do_not_share_a_folder(tmp_path):
    settings = node_settings(tmp_path)
    with running(settings), pytest.raises(ConfigError, match="another node"), running(settings):
        pass


@pytest.mark.slow
def test_a_study_that_changes_while_it_is_worked_on_is_worked_on_again(tmp_path):
    datasets = small_study("changing", slices=4)
    with running(node_settings(tmp_path, quiet_s=0.1), slow_work) as (service, _):
        send(service.port, [datasets[0], datasets[-1]])
        wait_for(in_state(service, StudyState.RUNNING))
        send(service.port, datasets[1:-1])
        wait_for(lambda: len(runs_in(tmp_path)) == 2)
        wait_for(in_state(service, StudyState.DONE))
