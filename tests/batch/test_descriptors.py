"""The workflow descriptors: valid to other people's readers, and run on two series with two shards."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fmcib_module.pipeline import run
from tests.batch.cohorts import TABLES, rows, write_cohort

CLOUD = Path(__file__).resolve().parents[2] / "cloud"
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.slow


def _run(program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    return subprocess.run(
        [str(BIN / program), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_wdl_is_valid(tmp_path: Path) -> None:
    checked = _run("miniwdl", "check", "--strict", "--no-shellcheck", str(CLOUD / "fmcib_batch.wdl"), cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", ["fmcib_batch.cwl", "fmcib_shard.cwl", "fmcib_merge.cwl"])
def test_cwl_is_valid(name: str, tmp_path: Path) -> None:
    checked = _run("cwltool", "--validate", str(CLOUD / name), cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "is valid CWL" in checked.stdout + checked.stderr


def test_cwl_runs_two_series_in_two_shards(tmp_path: Path) -> None:
    write_cohort(tmp_path / "input", 2)
    manifest = (tmp_path / "input/manifest.csv").rename(tmp_path / "manifest.csv")  # cwltool stages each path once
    job = {
        "manifest": {"class": "File", "path": str(manifest)},
        "root": {"class": "Directory", "path": str(tmp_path / "input")},
        "shards": 2,
        "weights": "mini",
        "settings": [f"{name}=false" for name in ("sr", "seg", "pictures", "report")],
        "cpus": 1,
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    ended = _run(
        "cwltool", "--no-container", "--preserve-entire-environment", "--outdir", str(tmp_path / "done"),
        str(CLOUD / "fmcib_batch.cwl"), str(tmp_path / "job.json"), cwd=tmp_path,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    run(tmp_path / "input", tmp_path / "expected", settings=TABLES)
    output = tmp_path / "done/output"
    assert (output / "features.csv").read_bytes() == (tmp_path / "expected/features.csv").read_bytes()
    assert rows(output).equals(rows(tmp_path / "expected"))
    assert json.loads((output / "run_status.json").read_bytes())["exit_code"] == 0
