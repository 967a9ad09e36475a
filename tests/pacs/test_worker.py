"""Work in a process of its own: what it gives back, and what happens when it dies, hangs or loses its node."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from fmcib_module.pacs.worker import Job, Outcome, Worker, WorkerError
from fmcib_module.settings import Settings
from tests.pacs.node_helpers import wait_for

pytestmark = pytest.mark.slow


def work_as_told(job: Job) -> Outcome:
    """The job's only object says what to do."""
    what = job.objects[0].name
    if what == "die":
        os._exit(139)
    if what == "hang":
        (job.output / "pid").write_text(str(os.getpid()))
        time.sleep(60)
    return Outcome((), os.getpid(), what)


def job(tmp_path: Path, what: str) -> Job:
    return Job((tmp_path / what,), tmp_path / "in", tmp_path, Settings())


@pytest.fixture
def worker(tmp_path):
    one = Worker(work_as_told, tmp_path / "lock")
    yield one
    one.stop()


def test_one_process_serves_many_jobs_and_another_one_follows_a_crash(worker, tmp_path):
    first, second = (worker.run(job(tmp_path, name), 30) for name in "ab")
    assert first.lesions == second.lesions != os.getpid()
    with pytest.raises(WorkerError, match="exit code 139"):
        worker.run(job(tmp_path, "die"), 30)
    assert worker.run(job(tmp_path, "c"), 30).lesions != first.lesions


def test_a_job_that_takes_too_long_is_ended_with_its_process(worker, tmp_path):
    with pytest.raises(WorkerError, match=r"more than 3 s"):
        worker.run(job(tmp_path, "hang"), 3)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def work_in_child(tmp_path: Path) -> None:
    Worker(work_as_told, tmp_path / "lock").run(job(tmp_path, "hang"), 60)


def test_a_worker_ends_when_its_node_is_killed(tmp_path):
    node = multiprocessing.get_context("spawn").Process(target=work_in_child, args=(tmp_path,))
    node.start()
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    os.kill(node.pid, signal.SIGKILL)
    node.join()
    worker = int((tmp_path / "pid").read_text())

    def is_gone() -> bool:
        try:
            return Path(f"/proc/{worker}/stat").read_text().split()[2] == "Z"
        except FileNotFoundError:
            return True

    wait_for(is_gone)
