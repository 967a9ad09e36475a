"""Results that come back from an archive beside their CT are not lesions once more."""

import shutil

import pydicom

from fmcib_module import run
from fmcib_module.core.ledger import ExitCode, Status
from fmcib_module.inspection import inspect_folder
from tests import phantoms
from tests.chain import reasons


def test_our_seg_and_sr_among_the_input_add_no_lesion_and_the_ledger_says_so(tmp_path):
    study = phantoms.write_study(tmp_path / "in", seg=False)
    first = run(tmp_path / "in", tmp_path / "out", pictures=False, report=False)
    results = tmp_path / "out" / study.series_uid
    for number, name in enumerate(("seeds.seg.dcm", "features.sr.dcm")):
        shutil.copy(results / name, study.folder / f"from-archive-{number}")  # an archive keeps no ledger and no names
    again = inspect_folder(tmp_path / "in").ledger
    assert [roi.label for entry in again.series for roi in entry.rois] == ["GTV-1", "Node"]
    assert again.exit_code is first.exit_code is ExitCode.OK
    skipped = [entry for entry in again.series if entry.status is Status.SKIPPED]
    assert sorted(entry.modality for entry in skipped) == ["SEG", "SR"]
    assert reasons(again).count("a result of this software") == 2

    edited = pydicom.dcmread(study.folder / "from-archive-0")
    edited.ManufacturerModelName = "Another program"  # which saved it after a person corrected an outline
    edited.SOPInstanceUID = edited.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    edited.save_as(study.folder / "edited.dcm")
    assert inspect_folder(tmp_path / "in").ledger.n_lesions == 4
