"""Seeds from structured reports: phantoms for the whole way, real reports for the parser."""

import shutil
import zlib
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from fmcib_module import run
from fmcib_module.adapters import report_marks
from fmcib_module.adapters.report_marks import list_marked
from fmcib_module.adapters.seed_finder import find_rois
from fmcib_module.adapters.sr_seeds import read_sr_lesions
from fmcib_module.core.conventions import SeedKind
from fmcib_module.core.domain import Instance, RoiSource
from fmcib_module.core.ledger import ExitCode, Status
from fmcib_module.inspection import inspect_folder
from fmcib_module.settings import Settings
from tests import phantoms
from tests.adapters.marked_reports import (
    LENGTH,
    LONG_AXIS,
    SHORT_AXIS,
    group,
    index_of,
    line,
    measured,
    region,
    slice_at,
    surface,
    write_sr,
)
from tests.adapters.seed_sources import bare_series
from tests.chain import reasons, rows_of
from tests.phantoms import Orientation
from tests.shared import SHARED, needs_shared

REPORTS = SHARED / "data" / "sr-tid1500"
RECIST_IMAGE = "1.3.6.1.4.1.14519.5.2.1.3098.5025.258689768683178195119522016250"


@pytest.fixture
def study(tmp_path):
    return phantoms.write_study(
        tmp_path / "in", orientation=Orientation.OBLIQUE, spacing_mm=(1.5, 1.25, 2.5), rtstruct=False, seg=False
    )


def _found(folder, **settings):
    ledger = inspect_folder(folder, settings=Settings(**settings)).ledger
    return ledger, {roi.label: roi for entry in ledger.series for roi in entry.rois}


def test_each_way_to_mark_a_lesion_gives_its_place(study, tmp_path):
    i, j, k = index_of(study, "GTV-1")
    image, middle = slice_at(study, k), np.array([i, j]) + 0.5
    node = np.array(study.centroids["Node"])
    outline = np.add(middle, [[-3, -2], [3, -2], [3, 2], [-3, 2], [-3, -2]])
    axes = 4 * np.array([[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]])
    short = measured(SHORT_AXIS, np.add(middle, [[0, 0], [0, 3]]), image)
    uid = write_sr(
        study.folder / "report",
        study,
        [
            group("recist", short, measured(LONG_AXIS, line(study, "GTV-1", (4, 3)), image)),
            group("", measured(LENGTH, line(study, "GTV-1", (2, 5)), image)),
            group("", measured(LENGTH, line(study, "GTV-1", (5, 2)), image), finding_type=codes.SCT.Mass),
            region("circle", "CIRCLE", [middle, np.add(middle, [3, 0])], image),
            region("outline", "POLYLINE", outline, image),
            region("point", "POINT", [middle], image),
            surface("ball", "ELLIPSOID", node + axes, study),
            surface("spot", "POINT", node[None], study),
        ],
    )
    ledger, rois = _found(tmp_path / "in")
    assert ledger.exit_code is ExitCode.OK
    assert list(rois) == ["recist", "measurement 2", "Mass", "circle", "outline", "point", "ball", "spot"]
    for label, roi in rois.items():
        where = study.centroids["Node" if label in ("ball", "spot") else "GTV-1"]
        np.testing.assert_allclose(roi.lps_mm, where, atol=1e-4, err_msg=label)  # SCOORD holds float32
        assert (roi.kind, roi.source_uid) == (SeedKind.SR, uid)
    assert rois["recist"].roi_number == 1


def test_features_of_a_reports_lesion_name_the_report(study, tmp_path):
    image = slice_at(study, index_of(study, "GTV-1")[2])
    axis = measured(LONG_AXIS, line(study, "GTV-1", (4, 3)), image)
    uid = write_sr(study.folder / "report", study, [group("target 1", axis)])
    ledger = run(tmp_path / "in", tmp_path / "out", pictures=False, report=False)
    assert ledger.exit_code is ExitCode.OK
    (row,) = rows_of(tmp_path / "out" / "features.csv")
    assert (row["Mhub ROI"], row["source_uid"], row["roi_number"]) == ("target 1", uid, "1")
    results = tmp_path / "out" / study.series_uid
    (segment,) = pydicom.dcmread(results / "seeds.seg.dcm").SegmentSequence
    assert uid in segment.SegmentDescription
    written = pydicom.dcmread(results / "features.sr.dcm")
    (lesion,) = read_sr_lesions(written)  # its own centre in space, read back
    np.testing.assert_allclose(lesion.marks[0].points[0], study.centroids["GTV-1"], atol=1e-4)
    evidence = written.CurrentRequestedProcedureEvidenceSequence
    named = {
        image.ReferencedSOPInstanceUID
        for s in evidence[0].ReferencedSeriesSequence
        for image in s.ReferencedSOPSequence
    }
    assert uid in named
    assert inspect_folder(tmp_path / "in", settings=Settings(seed_sources=(SeedKind.RTSTRUCT,))).ledger.n_lesions == 0


def test_a_report_that_marks_nothing_here_changes_nothing(study, tmp_path):
    fine = measured(LONG_AXIS, line(study, "GTV-1", (4, 3)), slice_at(study, 0))
    write_sr(study.folder / "good", study, [group("good", fine)])
    elsewhere = slice_at(study, 0)
    elsewhere.SOPInstanceUID = "1.2.3.4"
    write_sr(study.folder / "bare", study, [group("no coordinates")])
    write_sr(study.folder / "other-image", study, [region("x", "POINT", [[3.0, 3.0]], elsewhere)], elsewhere)
    write_sr(study.folder / "other-frame", study, [surface("y", "POINT", np.ones((1, 3)), study, frame_uid="1.2.9")])
    broken = pydicom.dcmread(study.folder / "other-image")
    marked = broken.ContentSequence[-1].ContentSequence[0].ContentSequence[-1]
    assert marked.ValueType == "SCOORD"
    marked.ContentSequence[0].ReferencedContentItemIdentifier = [1, 99]  # there is no such item
    broken.SOPInstanceUID = broken.file_meta.MediaStorageSOPInstanceUID = "1.2.3.5"
    broken.save_as(study.folder / "broken")
    ledger, rois = _found(tmp_path / "in")
    assert ledger.exit_code is ExitCode.OK
    assert list(rois) == ["good"]
    assert not ledger.problems
    assert sum(entry.status is Status.SKIPPED for entry in ledger.series) == 4
    assert reasons(ledger).count("lies on no CT of the input") == 2
    assert "whose content cannot be read" in reasons(ledger)


def test_a_report_that_no_reader_foresaw_stops_no_other_file(study, tmp_path, monkeypatch):
    def broken(_):
        raise zlib.error

    write_sr(study.folder / "report", study, [group("no coordinates")])
    monkeypatch.setitem(report_marks._READERS, SeedKind.SR, broken)
    assert "whose content cannot be read" in reasons(inspect_folder(tmp_path / "in").ledger)


def test_what_is_wrong_with_a_mark_is_said_of_that_mark(study, tmp_path):
    image, absent = slice_at(study, 10), slice_at(study, 10)
    absent.SOPInstanceUID = "1.2.3.4"
    groups = [
        region("good", "POINT", [[16.0, 16.0]], image),
        region("outside", "POINT", [[400.0, 4.0]], image),
        region("damaged", "ELLIPSE", [[1.0, 2], [3, 2], [2, 1], [2, 3]], image),
        region("absent", "POINT", [[4.0, 4.0]], absent),
    ]
    write_sr(study.folder / "report", study, groups, absent)
    report = pydicom.dcmread(study.folder / "report")
    for item in report.ContentSequence[-1].ContentSequence[2].ContentSequence:
        if item.ValueType == "SCOORD":
            item.GraphicData = item.GraphicData[:-1]
    report.save_as(study.folder / "report")
    ledger, rois = _found(tmp_path / "in")
    assert ledger.exit_code is ExitCode.PARTIAL
    assert {label: roi.status is Status.FAILED for label, roi in rois.items()} == {
        "good": False,
        "outside": True,
        "damaged": True,
    }
    assert "outside its image of 32 rows and 32 columns" in str(rois["outside"].reason)
    assert "not coordinates" in str(rois["damaged"].reason)
    assert "1 of 2 images that it marks are not in the input" in reasons(ledger)


def _series_of(image_uid, shape, source):
    """A series of one axial slice of 0.5 mm (rows) x 0.25 mm (columns), its first pixel's centre at the origin."""
    image = Instance(source.path, image_uid, "", None, (0, 0, 0), (1, 0, 0, 0, 1, 0), (0.5, 0.25), shape)
    return replace(bare_series(source), instances=(image,))


@needs_shared
def test_the_real_recist_report_gives_the_middle_of_its_long_axis():
    source = RoiSource(REPORTS / "ct_recist_long_short_axis.dcm", SeedKind.SR, "1.2.3.7")
    (seed,), failures = find_rois(_series_of(RECIST_IMAGE, (1200, 1200), source))
    columns, rows = (580.719177, 543.354004), (1090.83582, 988.392151)  # as dsrdump prints them
    assert not failures
    assert seed.lps_mm == pytest.approx(((sum(columns) / 2 - 0.5) * 0.25, (sum(rows) / 2 - 0.5) * 0.5, 0), abs=1e-4)
    assert seed.label == "Cornerstone3DTools@^0.1.0:Bidirectional"
    _, (failure,) = find_rois(_series_of(RECIST_IMAGE, (512, 512), source))
    assert "outside its image" in str(failure.error)


@needs_shared
def test_the_real_mixed_report_gives_one_lesion_per_group_and_the_others_none():
    path = REPORTS / "ct_mixed_scoord.dcm"
    lesions = read_sr_lesions(pydicom.dcmread(path))
    assert [lesion.label.partition(":")[2] for lesion in lesions] == [
        *("ArrowAnnotate", "EllipticalRoi", "Bidirectional", "Length", "Length", "EllipticalRoi")
    ]
    source = RoiSource(path, SeedKind.SR, "1.2.3.8")
    series = _series_of(lesions[0].marks[0].image_uid, (512, 512), source)
    places = [candidate.make_seeds()[0].lps_mm for candidate in list_marked(source, series)]
    middles = [(169.5, 360.0), (342.0, 319.5), (105.5, 363.0), (255.0, 382.0)]  # of the first image's graphics
    expected = [((column - 0.5) * 0.25, (row - 0.5) * 0.5, 0) for column, row in middles]
    np.testing.assert_allclose(places, expected, atol=1e-4)


@needs_shared
def test_real_reports_without_coordinates_leave_a_run_as_it_was(tmp_path):
    study = phantoms.write_study(tmp_path / "in", seg=False)
    for name in ("ct_liver_seg_volume", "ct_liver_rsna2018"):
        shutil.copy(REPORTS / f"{name}.dcm", study.folder)
    ledger, rois = _found(tmp_path / "in")
    assert ledger.exit_code is ExitCode.OK
    assert list(rois) == ["GTV-1", "Node"]
    assert [entry.modality for entry in ledger.series if entry.status is Status.SKIPPED] == ["SR", "SR"]
    assert reasons(ledger).count("Modality SR is not CT") == 2
