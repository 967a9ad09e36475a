"""Flags of patch and spacing as the chain writes them: ledger, table and SR."""

import json

import numpy as np
import pydicom
import pytest

from fmcib_module import run
from fmcib_module.adapters.contrast import UNKNOWN
from fmcib_module.core.conventions import Flag
from tests import phantoms
from tests.adapters.report_builders import groups_of
from tests.chain import rows_of


def test_thick_slices_and_values_without_intercept_are_flagged_in_ledger_table_and_sr(tmp_path):
    lesion = phantoms.Lesion("GTV-1", in_seg=False)
    study = phantoms.write_study(tmp_path / "in", spacing_mm=(1.5, 1.5, 5.0), lesions=[lesion], seg=False)
    for path in study.ct_paths:
        slice_ = pydicom.dcmread(path)
        slice_.RescaleIntercept = 0
        slice_.save_as(path)
    ledger = run(tmp_path / "in", tmp_path / "out", pictures=False, report=False)
    [entry] = [entry for entry in ledger.series if entry.rois]
    wanted = {Flag.COARSE_SPACING, Flag.NOT_HOUNSFIELD}
    assert wanted <= set(entry.rois[0].flags)
    assert Flag.COARSE_SPACING in entry.flags
    [row] = rows_of(tmp_path / "out" / "features.csv")
    assert wanted <= set(row["flags"].split(";"))
    [group] = groups_of(pydicom.dcmread(tmp_path / "out" / study.series_uid / "features.sr.dcm"))
    evaluations = [item for item in group.ContentSequence if item.ValueType == "CODE"]
    codes = [item.ConceptCodeSequence[0] for item in evaluations]
    assert wanted <= {code.get("CodeValue") or code.get("LongCodeValue") for code in codes}


def test_the_ledger_says_how_much_of_each_patch_lies_outside_and_that_contrast_is_unknown(tmp_path):
    study = phantoms.write_study(tmp_path / "in")  # 48 x 48 x 50 mm: every patch reaches beyond it
    run(tmp_path / "in", tmp_path / "out", sr=False, seg=False, pictures=False, report=False)
    ledger = json.loads((tmp_path / "out" / "run_status.json").read_text())
    [entry] = [entry for entry in ledger["series"] if entry["rois"]]
    assert entry["notes"] == [UNKNOWN]
    size = np.rint(np.array(study.voxels_hu.shape[::-1]) * (1.5, 1.5, 2.5) - np.array((1.5, 1.5, 2.5)) + 1)
    for roi in entry["rois"]:
        assert roi["outside_share"] >= 1 - np.prod(np.minimum(size, 50)) / 50**3 - 1e-6
        assert roi["tissue_share"] == pytest.approx(1.0, abs=0.15)  # its outermost voxels are half outside
        assert Flag.NEAR_BORDER in roi["flags"]
