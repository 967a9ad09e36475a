"""Seeds from presentation states that highdicom wrote on a phantom."""

import highdicom as hd
import numpy as np
import pydicom
import pytest

from fmcib_module.core.conventions import SeedKind
from fmcib_module.core.ledger import ExitCode, Status
from fmcib_module.inspection import inspect_folder
from tests import phantoms
from tests.adapters.marked_reports import index_of, line, write_gsps
from tests.phantoms import Orientation


@pytest.fixture
def study(tmp_path):
    return phantoms.write_study(
        tmp_path / "in", orientation=Orientation.SAGITTAL, spacing_mm=(1.5, 1.25, 2.5), rtstruct=False, seg=False
    )


def _rois(folder):
    ledger = inspect_folder(folder).ledger
    return ledger, [roi for entry in ledger.series for roi in entry.rois]


def test_lines_in_pixel_units_mark_lesions_at_their_middle(study, tmp_path):
    graphics = [
        (name, hd.pr.GraphicObject("POLYLINE", line(study, name, half), "PIXEL"))
        for name, half in (("GTV-1", (4, 3)), ("Node", (2, -3)))
    ]
    uid = write_gsps(study.folder / "state", study, [(index_of(study, n)[2], [graphic]) for n, graphic in graphics])
    ledger, rois = _rois(tmp_path / "in")
    assert ledger.exit_code is ExitCode.OK
    assert [(roi.label, roi.kind, roi.source_uid) for roi in rois] == [
        ("measurement 1", SeedKind.GSPS, uid),
        ("measurement 2", SeedKind.GSPS, uid),
    ]
    for roi, name in zip(rois, ("GTV-1", "Node"), strict=True):
        np.testing.assert_allclose(roi.lps_mm, study.centroids[name], atol=1e-4)


def test_graphics_of_one_group_are_one_lesion_at_the_middle_of_the_longer_line(study, tmp_path):
    write_gsps(
        study.folder / "state",
        study,
        [
            (
                index_of(study, "GTV-1")[2],
                [
                    hd.pr.GraphicObject("POLYLINE", np.add(line(study, "GTV-1", (0.5, 3)), [0.5, 0]), "PIXEL"),
                    hd.pr.GraphicObject("POLYLINE", line(study, "GTV-1", (6, 0)), "PIXEL"),
                    hd.pr.GraphicObject("POINT", np.array([[3.0, 3.0]]), "PIXEL"),
                ],
            )
        ],
    )
    state = pydicom.dcmread(study.folder / "state")
    for graphic in state.GraphicAnnotationSequence[0].GraphicObjectSequence[:2]:
        graphic.GraphicGroupID = 7
    state.save_as(study.folder / "state")
    _, rois = _rois(tmp_path / "in")
    assert [roi.label for roi in rois] == ["measurement 1", "measurement 2"]
    np.testing.assert_allclose(rois[0].lps_mm, study.centroids["GTV-1"], atol=1e-4)


def test_graphics_of_the_screen_and_notes_on_all_images_mark_nothing(study, tmp_path):
    graphics = [
        hd.pr.GraphicObject("POLYLINE", np.array([[0.1, 0.1], [0.5, 0.5]]), "DISPLAY"),
        hd.pr.GraphicObject("POLYLINE", np.array([[3.0, 3], [9, 9]]), "PIXEL"),
    ]
    write_gsps(study.folder / "screen", study, [(3, graphics[:1])])
    write_gsps(study.folder / "all", study, [(3, graphics[1:])])
    state = pydicom.dcmread(study.folder / "all")
    del state.GraphicAnnotationSequence[0].ReferencedImageSequence  # as for every image of the state
    state.save_as(study.folder / "all")
    ledger, rois = _rois(tmp_path / "in")
    assert not rois
    assert not ledger.problems
    assert [entry.modality for entry in ledger.series if entry.status is Status.SKIPPED].count("PR") == 2
