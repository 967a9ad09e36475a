"""The chain as the image runs it: mhubio's runner, folders under /app, one process with an exit code."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fmcib_module.pipeline
from tests import phantoms
from tests.mhub.app_folders import lay_out, run_in_app
from tests.mhub.chain import OUTSIDE, read_ledger_json, write_points

UNTRAINED = "--config:modules.EncoderRunner.weights=mini"


def test_a_good_input_exits_with_0_and_gives_what_fmcib_run_gives(tmp_path: Path) -> None:
    app = tmp_path / "app"
    source = lay_out(app)
    phantoms.write_study(source / "patient", seg=False)
    ended = run_in_app(app, "models.fmcib.entrypoint", UNTRAINED)
    assert ended.returncode == 0, ended.stderr
    fmcib_module.pipeline.run(source, tmp_path / "by_pipeline", weights="mini")
    written, expected = (
        pd.read_parquet(p / "features.parquet") for p in (app / "data/output_data", tmp_path / "by_pipeline")
    )
    np.testing.assert_array_equal(np.stack(written["features"].tolist()), np.stack(expected["features"].tolist()))
    assert written["Mhub ROI"].tolist() == expected["Mhub ROI"].tolist() == ["GTV-1", "Node"]


@pytest.mark.slow
def test_a_failed_roi_exits_with_3_also_under_mhubio_s_own_runner(tmp_path: Path) -> None:
    app = tmp_path / "app"
    source = lay_out(app)
    study = phantoms.write_study(source / "patient", rtstruct=False, seg=False)
    write_points(source / f"{study.series_uid}.json", inside=phantoms.CENTRE_LPS, outside=OUTSIDE)
    ended = run_in_app(app, "mhubio.run", "--workflow", "from_json", "--non-interactive", UNTRAINED)
    assert ended.returncode == 3, ended.stderr
    assert "'outside'" in ended.stderr
    assert read_ledger_json(app / "data/output_data")["lesions"]["failed"] == 1


def test_nothing_to_do_exits_with_4(tmp_path: Path) -> None:
    app = tmp_path / "app"
    phantoms.write_study(lay_out(app) / "patient", rtstruct=False, seg=False)
    ended = run_in_app(app, "models.fmcib.entrypoint", "--print", UNTRAINED)
    assert ended.returncode == 4, ended.stderr


def test_a_misspelt_module_exits_with_2_before_anything_runs(tmp_path: Path) -> None:
    app = tmp_path / "app"
    phantoms.write_study(lay_out(app) / "patient")
    workflow = app / "models/fmcib/config/default.yml"
    workflow.write_text(workflow.read_text().replace("- CentroidFinder\n", "- CentroidFindr\n"))
    ended = run_in_app(app, "models.fmcib.entrypoint", UNTRAINED)
    assert ended.returncode == 2
    assert "there is no module 'CentroidFindr' [execute]" in ended.stderr
    assert not (app / "data/output_data").exists()
