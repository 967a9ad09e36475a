"""Reports and presentation states as sources of lesions beside a PACS; those that mark nothing, and ours, are none."""

import io
import re
import time
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pynetdicom import AE

from fmcib_module.adapters.derived import MANUFACTURER, PRODUCT
from fmcib_module.core.errors import InputError
from fmcib_module.pacs import received as received_module
from fmcib_module.pacs.dicomweb import WebStudy, fetched
from fmcib_module.pacs.node import STORED_CLASSES
from fmcib_module.pacs.orthanc import Orthanc as Client
from fmcib_module.pacs.received import Role, read_received, read_received_file
from fmcib_module.pacs.state import StudyState
from fmcib_module.pacs.web import Access
from fmcib_module.pacs.worker import run_study
from fmcib_module.pipeline import run
from fmcib_module.settings import Settings
from tests import phantoms
from tests.adapters.marked_reports import (
    LONG_AXIS,
    group,
    index_of,
    line,
    measured,
    slice_at,
    surface,
    write_gsps,
    write_sr,
)
from tests.pacs.node_helpers import node_settings, running, send, wait_for
from tests.pacs.orthanc import PASSWORD, USER, Orthanc, needs_orthanc, orthanc
from tests.pacs.test_watch import events as events_of
from tests.pacs.test_watch import watcher
from tests.shared import DATA, needs_shared

__all__ = ["orthanc"]

QUICK = Settings(pictures=False, report=False)
ACCESS = Access(USER, PASSWORD)


@pytest.fixture
def study(tmp_path):
    """A CT with nothing drawn on it."""
    return phantoms.write_study(tmp_path / "in", rtstruct=False, seg=False)


def write_marking(study, kind: str, path: Path) -> Path:
    """A report or presentation state on a study, by what it holds."""
    k = index_of(study, "GTV-1")[2]
    if kind == "line on an image":
        write_sr(path, study, [group("recist", measured(LONG_AXIS, line(study, "GTV-1", (4, 3)), slice_at(study, k)))])
    elif kind == "point in space":
        write_sr(path, study, [surface("spot", "POINT", np.array(study.centroids["Node"])[None], study)])
    elif kind == "words":
        write_sr(path, study, [group("described", finding_type=codes.SCT.Mass)])
    else:
        write_gsps(path, study, [(k, [hd.pr.GraphicObject("POLYLINE", line(study, "GTV-1", (4, 3)), "PIXEL")])])
    return path


def without_graphics(path: Path) -> Path:
    state = pydicom.dcmread(path)
    del state.GraphicAnnotationSequence
    state.save_as(path)
    return path


MARKING = ("line on an image", "point in space", "line of a presentation state")


@pytest.mark.parametrize("kind", MARKING)
def test_what_marks_a_place_counts_as_an_roi_unless_it_is_ours(study, tmp_path, kind):
    path = write_marking(study, kind, tmp_path / "one.dcm")
    assert read_received_file(path).role is Role.ROI
    report = pydicom.dcmread(path)
    report.Manufacturer, report.ManufacturerModelName = MANUFACTURER, PRODUCT
    report.save_as(path)
    assert (read_received_file(path).role, read_received_file(path).own) == (Role.OTHER, True)


def test_what_marks_none_is_too_large_or_damaged_does_not(study, tmp_path, monkeypatch):
    words = write_marking(study, "words", tmp_path / "words.dcm")
    state = without_graphics(write_marking(study, MARKING[2], tmp_path / "state.dcm"))
    marking = write_marking(study, MARKING[0], tmp_path / "marking.dcm").read_bytes()
    cut = marking[: marking.index(b"SCOORD")]
    for content in (words.read_bytes(), state.read_bytes(), cut):
        assert read_received(content).role is Role.OTHER
    monkeypatch.setattr(received_module, "LARGEST_REPORT", len(marking) - 1)
    assert read_received(marking).role is Role.OTHER


def test_a_report_nested_without_end_is_kept_and_marks_nothing(study, tmp_path):
    words = pydicom.dcmread(write_marking(study, "words", tmp_path / "words.dcm"))
    for element in [element for element in words if element.tag >= 0x0040A730]:
        del words[element.tag]
    words.save_as(tmp_path / "start.dcm")
    begin = b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"  # PS3.5 7.5.2
    for depth in (900, 20_000):
        assert read_received((tmp_path / "start.dcm").read_bytes() + depth * begin).role is Role.OTHER


@needs_shared
@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("ct_recist_long_short_axis", Role.ROI),
        ("ct_length_polyline", Role.ROI),
        ("ct_mixed_scoord", Role.ROI),
        ("ct_liver_seg_volume", Role.OTHER),
        ("ct_liver_rsna2018", Role.OTHER),
    ],
)
def test_real_reports_are_told_apart(name, role):
    assert read_received_file(DATA / "sr-tid1500" / f"{name}.dcm").role is role


def test_every_report_that_a_run_reads_is_accepted():
    reports = {f"1.2.840.10008.5.1.4.1.1.88.{n}" for n in (11, 22, 33, 34, 35, 50, 65, 69)}  # PS3.4 annex B.5
    states = {f"1.2.840.10008.5.1.4.1.1.11.{n}" for n in (1, 2, 3)}
    assert reports | states <= set(STORED_CLASSES)
    entity = AE("TESTER")
    for uid in STORED_CLASSES:
        entity.add_requested_context(uid)
    assert len(entity.requested_contexts) <= 128  # PS3.8 9.3.2.2: all of them fit into one association


@pytest.mark.parametrize("kind", [MARKING[0], MARKING[2]])
def test_the_node_runs_a_study_when_a_report_that_marks_lesions_is_there(study, tmp_path, kind):
    ct = [pydicom.dcmread(path) for path in study.ct_paths[:3]]
    words = pydicom.dcmread(write_marking(study, "words", tmp_path / "words.dcm"))
    marking = pydicom.dcmread(write_marking(study, kind, tmp_path / "marking.dcm"))
    settings = node_settings(tmp_path / "node")
    with running(settings) as (service, _):
        assert send(service.port, [*ct, words]) == [0] * 4
        wait_for(lambda: service.state.studies()[0].changed < time.time() - 3 * settings.quiet_s)
        assert service.state.counts()[StudyState.RECEIVING] == 1  # words alone mark nothing
        assert send(service.port, [marking]) == [0]
        wait_for(lambda: service.state.counts()[StudyState.DONE] == 1)
        [row] = service.state.studies()
        assert len(service.state.objects(row.study)) == 4  # the run sees CT and marks


@pytest.mark.slow
def test_the_node_computes_a_reports_lesions_as_run_does(study, tmp_path):
    for number, kind in enumerate(MARKING):
        write_marking(study, kind, study.folder / f"{number}.dcm")
    sent = [pydicom.dcmread(path) for path in sorted(study.folder.rglob("*.dcm"))]
    with running(node_settings(tmp_path / "node", run=QUICK.to_dict()), run_study) as (service, _):
        assert set(send(service.port, sent)) == {0}
        wait_for(lambda: service.state.counts()[StudyState.DONE] == 1, 60)
        [row] = service.state.studies()
    run(study.folder, tmp_path / "out", settings=QUICK)
    table = (tmp_path / "out" / "features.csv").read_bytes()
    assert (tmp_path / "node" / "results" / row.study / "features.csv").read_bytes() == table
    assert table.count(b"\n") == 1 + len(MARKING)


@needs_orthanc
@pytest.mark.slow
def test_the_watcher_takes_reports_that_mark_lesions_and_leaves_words_and_ours(orthanc: Orthanc, study, tmp_path):
    words = write_marking(study, "words", tmp_path / "words.dcm")
    orthanc.send(*study.ct_paths, words)
    orthanc.wait_until_stable()
    log = io.StringIO()
    with watcher(tmp_path / "watch", orthanc, log) as one:
        one.once()
        assert events_of(log) == ["study-incomplete"]
        orthanc.send(write_marking(study, MARKING[1], study.folder / "report.dcm"))
        orthanc.wait_until_stable()
        one.once()
        assert events_of(log)[1:] == ["study-done"]
        orthanc.wait_until_stable()
        [name] = orthanc.get("/studies")
        listing = Client(orthanc.url, ACCESS).study(name)
        assert listing is not None
        assert (listing.modalities, len(listing.instances)) == ({"CT", "SR"}, len(study.ct_paths) + 1)
        one.once()
    assert events_of(log)[1:] == ["study-done"]
    run(study.folder, tmp_path / "out", settings=QUICK)
    [table] = (tmp_path / "watch" / "results").rglob("features.parquet")
    assert table.with_suffix(".csv").read_bytes() == (tmp_path / "out" / "features.csv").read_bytes()


@needs_orthanc
@pytest.mark.slow
def test_dicomweb_fetches_reports_and_no_ct_where_nothing_is_marked(orthanc: Orthanc, study, tmp_path):
    orthanc.send(*study.ct_paths, write_marking(study, "words", tmp_path / "words.dcm"))
    source, told = WebStudy(orthanc.dicomweb, study.study_uid), []
    with (
        pytest.raises(InputError, match=re.escape("no RTSTRUCT, SEG or report with coordinates")),
        fetched(source, ACCESS, lambda done, _: told.append(done)),
    ):
        pass
    assert told == [1]  # the words, and no slice
    orthanc.send(write_marking(study, MARKING[2], study.folder / "state.dcm"))
    with fetched(source, ACCESS, lambda *_: None) as folder:
        found = run(folder, tmp_path / "web", settings=QUICK)
    run(study.folder, tmp_path / "out", settings=QUICK)
    assert found.n_lesions == 1
    tables = [(tmp_path / name / "features.csv").read_bytes() for name in ("web", "out")]
    assert tables[0] == tables[1]
