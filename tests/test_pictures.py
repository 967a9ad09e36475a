"""Pictures and report as the chain writes them: on the ledger, optional, repeated when they are gone."""

import numpy as np
import pytest
from PIL import Image

from fmcib_module import run
from fmcib_module.adapters.picture_writer import COLOURS, HEADER, panel_left
from fmcib_module.core.picture import PANEL_PIXELS
from fmcib_module.ledger_file import read_ledger
from fmcib_module.output import sha256_of
from tests import phantoms
from tests.chain import LESIONS


@pytest.fixture
def study(tmp_path):
    return phantoms.write_study(tmp_path / "in" / "patient", lesions=LESIONS)


def test_each_lesion_has_a_picture_that_the_ledger_names_and_hashes(study, tmp_path):
    ledger = run(tmp_path / "in", tmp_path / "out")
    [entry] = [entry for entry in ledger.series if entry.rois]
    assert {roi.label for roi in entry.rois} == {"GTV-1", "Node"}
    for place, roi in enumerate(entry.rois, start=1):
        assert roi.picture == f"qc/{place:03d}-{roi.label}.png"
        assert sha256_of(tmp_path / "out" / entry.output / roi.picture) == entry.files[roi.picture]
    assert read_ledger(tmp_path / "out") == ledger


@pytest.mark.parametrize("label", ["GTV-1", "Node"])
def test_contours_and_segments_are_outlined_around_the_seed(study, tmp_path, label):
    run(tmp_path / "in", tmp_path / "out")
    [picture] = (tmp_path / "out" / study.series_uid / "qc").glob(f"*-{label}.png")
    image = np.asarray(Image.open(picture).convert("RGB"))
    axial = image[HEADER : HEADER + PANEL_PIXELS, panel_left(1) : panel_left(1) + PANEL_PIXELS]
    rows, columns = np.nonzero((axial == COLOURS["roi"]).all(axis=-1))
    cross_rows, cross_columns = np.nonzero((axial == COLOURS["cross"]).all(axis=-1))
    for outline, cross in ((rows, cross_rows), (columns, cross_columns)):
        assert (outline.min() + outline.max()) / 2 == pytest.approx((cross.min() + cross.max()) / 2, abs=4)


def test_a_point_has_a_cross_and_no_outline(tmp_path):
    study = phantoms.write_study(tmp_path / "in", rtstruct=False, seg=False)
    x, y, z = phantoms.CENTRE_LPS
    (tmp_path / "in" / f"{study.series_uid}.csv").write_text(f"coordX,coordY,coordZ\n{x},{y},{z}\n")
    [entry] = [entry for entry in run(tmp_path / "in", tmp_path / "out").series if entry.rois]
    image = np.asarray(Image.open(tmp_path / "out" / entry.output / entry.rois[0].picture).convert("RGB"))
    assert (image == COLOURS["cross"]).all(axis=-1).any()
    assert not (image == COLOURS["roi"]).all(axis=-1).any()


def test_a_rerun_repeats_a_series_whose_picture_is_gone(study, tmp_path):
    first = run(tmp_path / "in", tmp_path / "out")
    [picture] = (tmp_path / "out" / study.series_uid / "qc").glob("*-GTV-1.png")
    before = picture.read_bytes()
    picture.unlink()
    assert run(tmp_path / "in", tmp_path / "out").exit_code is first.exit_code
    assert picture.read_bytes() == before


def test_pictures_and_report_can_be_left_out(study, tmp_path):
    ledger = run(tmp_path / "in", tmp_path / "out", pictures=False, report=False)
    assert not list((tmp_path / "out").rglob("*.png"))
    assert not (tmp_path / "out" / "report.html").exists()
    assert {roi.picture for entry in ledger.series for roi in entry.rois} == {""}


def test_force_takes_pictures_away_with_their_folder(study, tmp_path):
    run(tmp_path / "in", tmp_path / "out")
    run(tmp_path / "in", tmp_path / "out", pictures=False, force=True)
    assert not (tmp_path / "out" / study.series_uid / "qc").exists()


def test_a_report_is_written_again_without_repeating_the_run_and_goes_when_results_change(study, tmp_path):
    run(tmp_path / "in", tmp_path / "out", report=False)
    ledger = run(tmp_path / "in", tmp_path / "out")  # the report is no part of the configuration
    assert (tmp_path / "out" / "report.html").is_file()
    assert "load_encoder" not in ledger.run["timings_s"]
    run(tmp_path / "in", tmp_path / "out", report=False)
    assert not (tmp_path / "out" / "report.html").exists()


def test_no_picture_or_report_names_the_patient(tmp_path):
    phantoms.write_study(tmp_path / "in", patient_name="SECRET^NAME", patient_id="SECRET-ID", lesions=LESIONS)
    run(tmp_path / "in", tmp_path / "out")
    for path in [tmp_path / "out" / "report.html", *(tmp_path / "out").rglob("*.png")]:
        assert b"SECRET" not in path.read_bytes()
        assert b"PHANTOM" not in path.read_bytes()
