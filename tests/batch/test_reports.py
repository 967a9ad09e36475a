"""Reports in a batch: what a manifest lists beside a CT marks its lesions as it does in `fmcib run`."""

import shutil
from pathlib import Path

import numpy as np

from fmcib_module.pipeline import run
from fmcib_module.settings import Settings
from tests import phantoms
from tests.adapters.marked_reports import surface, write_sr
from tests.batch.cohorts import batch, rows


def test_a_report_that_the_manifest_lists_marks_the_lesion(tmp_path: Path) -> None:
    study = phantoms.write_study(tmp_path / "ct", rtstruct=False, seg=False)
    (tmp_path / "reports").mkdir()
    point = np.array(study.centroids["Node"])[None]
    uid = write_sr(tmp_path / "reports" / "one.dcm", study, [surface("spot", "POINT", point, study)])
    (tmp_path / "manifest.csv").write_text("source,sr\nct,reports/one.dcm\n")
    batch(tmp_path / "manifest.csv", tmp_path / "output", tmp_path / "scratch")
    [lesion] = rows(tmp_path / "output").to_dict("records")
    assert (lesion["Mhub ROI"], lesion["source_uid"]) == ("spot", uid)
    found = [lesion[f"coord{axis}"] for axis in "XYZ"]
    np.testing.assert_allclose(found, study.centroids["Node"], atol=1e-3)


def test_our_own_report_in_the_manifest_marks_nothing(tmp_path: Path) -> None:
    study = phantoms.write_study(tmp_path / "ct", seg=False)
    run(tmp_path / "ct", tmp_path / "earlier", settings=Settings(pictures=False, report=False))
    (tmp_path / "sr").mkdir()
    shutil.copy(tmp_path / "earlier" / study.series_uid / "features.sr.dcm", tmp_path / "sr")
    (tmp_path / "manifest.csv").write_text("source,sr\nct,sr\n")
    batch(tmp_path / "manifest.csv", tmp_path / "output", tmp_path / "scratch")
    assert set(rows(tmp_path / "output")["source_uid"]) == set(rows(tmp_path / "earlier")["source_uid"])
    assert len(rows(tmp_path / "output")) == len(rows(tmp_path / "earlier"))
