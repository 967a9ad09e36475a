"""Faults of the machine: kills, a full disk, input that vanishes, a clock that goes back."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fmcib_module import output as output_module
from fmcib_module.core.ledger import ExitCode
from fmcib_module.pipeline import run
from fmcib_module.progress import Progress
from tests import phantoms
from tests.chain import reasons
from tests.faults import batch_kills
from tests.faults.kills import kill_and_resume, write_studies
from tests.faults.outputs import check_whole, comparable

CAN_MOUNT = (
    shutil.which("unshare") is not None
    and subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
)


@pytest.mark.slow
def test_killed_runs_go_on_to_what_an_undisturbed_run_gives(tmp_path: Path) -> None:
    write_studies(tmp_path)
    hits, compared = kill_and_resume(tmp_path, n_kills=8, seed=1)
    assert hits > 0
    assert compared == 2


@pytest.mark.slow
def test_a_batch_outlives_its_killed_driver_and_a_killed_worker(tmp_path: Path) -> None:
    write_studies(tmp_path)
    hits, compared = batch_kills.kill_and_resume(tmp_path, n_kills=2, seed=1)
    assert hits > 0
    assert compared == 1


@pytest.mark.slow
@pytest.mark.skipif(not CAN_MOUNT, reason="needs root, to mount a small disk in a namespace of its own")
def test_a_full_disk_is_said_and_a_rerun_with_space_goes_on(tmp_path: Path) -> None:
    for number in range(3):
        phantoms.write_study(tmp_path / "in" / str(number), seed=number)
    (tmp_path / "disk").mkdir()
    command = f'"{sys.executable}" -m fmcib_module.cli run "{tmp_path}/in" "{tmp_path}/disk/out" --no-report'
    script = f"""
        mount -t tmpfs -o size=300k tmpfs "{tmp_path}/disk"
        {command} 2>"{tmp_path}/full.txt"; echo "full $?"
        mount -o remount,size=50m "{tmp_path}/disk"
        {command} 2>/dev/null; echo "space $?"
        cp -r "{tmp_path}/disk/out" "{tmp_path}/kept"
    """
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=True)
    codes = dict(line.split() for line in done.stdout.splitlines() if line.startswith(("full", "space")))
    said = (tmp_path / "full.txt").read_text(encoding="utf-8")
    assert codes == {"full": "2", "space": "0"}, said
    assert "No space left on device" in said
    assert "Traceback" not in said
    check_whole(tmp_path / "kept")
    run(tmp_path / "in", tmp_path / "expected", report=False)
    assert comparable(tmp_path / "kept") == comparable(tmp_path / "expected")


def test_input_that_vanishes_while_it_is_read_costs_its_series(tmp_path: Path) -> None:
    for number in range(2):
        phantoms.write_study(tmp_path / "in" / str(number), seed=number)

    def vanish(_: int) -> None:
        shutil.rmtree(tmp_path / "in" / "1" / "ct")

    ledger = run(tmp_path / "in", tmp_path / "out", progress=Progress(planned=vanish), report=False)
    assert ledger.exit_code is ExitCode.PARTIAL
    assert ledger.n_lesions == 4
    assert "pixels cannot be decoded" in reasons(ledger)


def test_a_clock_that_goes_back_changes_nothing_but_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = phantoms.write_study(tmp_path / "in")
    run(study.folder, tmp_path / "expected", report=False)
    times = iter(f"2026-01-01T00:{60 - n:02d}:00+00:00" for n in range(1, 50))
    monkeypatch.setattr(output_module, "now", lambda: next(times))
    monkeypatch.setattr("time.monotonic", iter(range(10_000, 0, -1)).__next__)
    run(study.folder, tmp_path / "out", report=False)
    assert comparable(tmp_path / "out") == comparable(tmp_path / "expected")
