"""`fmcib watch` beside a real Orthanc: the same results as `fmcib run`, and nothing lost when something breaks."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from fmcib_module.core.errors import ConfigError, PeerError
from fmcib_module.pacs.orthanc_watch import Watcher, WatchSettings
from fmcib_module.pacs.web import Access
from fmcib_module.pacs.worker import Work, run_study
from fmcib_module.pipeline import run
from fmcib_module.settings import Settings
from tests import phantoms
from tests.pacs.node_helpers import quick_work
from tests.pacs.orthanc import PASSWORD, USER, Orthanc, needs_orthanc, orthanc
from tests.pacs.results import check_results

__all__ = ["orthanc"]

pytestmark = [needs_orthanc, pytest.mark.slow]

QUICK = Settings(pictures=False, report=False)
ACCESS = Access(USER, PASSWORD)


def watcher(
    folder: Path, orthanc: Orthanc, log: io.StringIO | None = None, work: Work = run_study, **settings: object
) -> Watcher:
    """One with settings for tests."""
    chosen = {"run": QUICK, "from_start": True, "free_disk_gb": 0.0, **settings}
    return Watcher(WatchSettings(folder, orthanc.url, **chosen), ACCESS, log or io.StringIO(), work)


def events(log: io.StringIO) -> list[str]:
    """Names of what was logged."""
    return [json.loads(line)["event"] for line in log.getvalue().splitlines()]


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something to come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.1)


def test_results_in_orthanc_equal_those_of_run_and_are_not_taken_for_input(orthanc, tmp_path):
    study = phantoms.write_study(tmp_path / "in")
    assert study.rtstruct_path is not None
    orthanc.send_folder(tmp_path / "in")
    orthanc.wait_until_stable()
    log = io.StringIO()
    with watcher(tmp_path / "watch", orthanc, log) as one:
        assert one.once() == 0
        run(tmp_path / "in", tmp_path / "out", settings=QUICK)
        held = check_results(orthanc, tmp_path / "out", tmp_path)
        assert held == 1 + len(list((tmp_path / "out").rglob("*.dcm")))  # the SEG that was sent, and ours
        orthanc.wait_until_stable()
        one.once()
    assert events(log) == ["study-done"]
    assert "PHANTOM" not in log.getvalue()
    assert not list((tmp_path / "watch" / "pulled").iterdir())


def test_a_late_object_opens_its_study_again(orthanc, tmp_path):
    study = phantoms.write_study(tmp_path / "in", seg=False)
    assert study.rtstruct_path is not None
    orthanc.send(*study.ct_paths)
    orthanc.wait_until_stable()
    log = io.StringIO()
    with watcher(tmp_path / "watch", orthanc, log, quick_work) as one:
        one.once()
        assert events(log) == ["study-incomplete"]
        orthanc.send(study.rtstruct_path)
        one.once()
        assert len(events(log)) == 1, "it waits until the study is stable"
        orthanc.wait_until_stable()
        one.once()
    assert events(log)[1:] == ["study-done"]
    assert len(orthanc.instances("SR")) == 1


def test_an_orthanc_that_stops_and_starts_is_waited_for(orthanc, tmp_path):
    phantoms.write_study(tmp_path / "in", seg=False)
    orthanc.send_folder(tmp_path / "in")
    orthanc.wait_until_stable()
    log = io.StringIO()
    with watcher(tmp_path / "watch", orthanc, log, quick_work, poll_s=0.2) as one:
        orthanc.stop()
        starter = threading.Timer(1.5, orthanc.start)
        starter.start()
        stopper = threading.Thread(target=lambda: (wait_until(lambda: "study-done" in events(log)), one.stop()))
        stopper.start()
        one.forever()
        starter.join()
        stopper.join()
    assert events(log)[0] == "peer-unavailable"
    assert len(orthanc.instances("SR")) == 1


def test_a_wrong_password_ends_it_and_is_not_repeated(orthanc, tmp_path):
    log = io.StringIO()
    settings = WatchSettings(tmp_path / "watch", orthanc.url, QUICK)
    with Watcher(settings, Access(USER, "s3cret"), log) as one, pytest.raises(PeerError, match="credentials") as error:
        one.forever()
    assert "s3cret" not in log.getvalue() + str(error.value)


def test_low_disk_lets_a_study_wait(orthanc, tmp_path):
    phantoms.write_study(tmp_path / "in", seg=False)
    orthanc.send_folder(tmp_path / "in")
    orthanc.wait_until_stable()
    log = io.StringIO()
    with watcher(tmp_path / "watch", orthanc, log, free_disk_gb=1e9) as one:
        one.once()
    assert events(log) == ["disk-low"]
    assert not (tmp_path / "watch" / "pulled").exists()


def test_a_folder_has_one_watcher(orthanc, tmp_path):
    with watcher(tmp_path / "watch", orthanc), pytest.raises(ConfigError, match="another watcher"):
        watcher(tmp_path / "watch", orthanc)


def command(folder: Path, orthanc: Orthanc, *options: str) -> subprocess.Popen[str]:
    """The command line, as a program of its own."""
    fixed = ("--from-start", "--poll", "0.2", "--free-disk", "0")
    return subprocess.Popen(
        [sys.executable, "-m", "fmcib_module.cli", "watch", str(folder), "--orthanc", orthanc.url, *fixed, *options],
        env={**os.environ, "FMCIB_PACS_USER": USER, "FMCIB_PACS_PASSWORD": PASSWORD},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_at_several_moments_and_started_again_it_delivers_everything_once(orthanc, tmp_path):
    for seed in range(2):
        phantoms.write_study(tmp_path / "in" / str(seed), seed=seed, seg=False)
    orthanc.send_folder(tmp_path / "in")
    orthanc.wait_until_stable()
    for alive_s in (1.5, 3.0, 6.0):
        process = command(tmp_path / "watch", orthanc)
        time.sleep(alive_s)
        process.kill()
        process.communicate()
    last = command(tmp_path / "watch", orthanc, "--once")
    _, log = last.communicate(timeout=120)
    assert last.returncode == 0, log
    run(tmp_path / "in", tmp_path / "out", settings=Settings(report=False))
    expected = sorted(pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "out").rglob("*.dcm"))
    assert check_results(orthanc, tmp_path / "out", tmp_path) == len(expected)


def test_sigterm_ends_it_in_good_order(orthanc, tmp_path):
    process = command(tmp_path / "watch", orthanc)
    wait_until(lambda: (tmp_path / "watch" / "state.sqlite").exists())
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
