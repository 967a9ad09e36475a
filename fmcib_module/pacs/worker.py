"""One study's work in a process of its own: if that dies or hangs, the node goes on."""

import fcntl
import multiprocessing
import os
import shutil
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from fmcib_module.core.errors import FmcibError, OutputError
from fmcib_module.core.ledger import ExitCode, Ledger, Status
from fmcib_module.pacs.audit import silence_libraries
from fmcib_module.settings import Settings

STUDIES_PER_PROCESS: Final = 100
"""Then the process is replaced, so that what libraries keep does not add up."""

LISTED_REASONS: Final = 3


@dataclass(frozen=True, slots=True)
class Job:
    """What to do for a study.

    Attributes:
        objects: Its received objects.
        inputs: Folder to gather them in; removed afterwards.
        output: Folder for the results, which may hold those of an earlier run.
        run: What to do.
    """

    objects: tuple[Path, ...]
    inputs: Path
    output: Path
    run: Settings


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a study.

    Attributes:
        results: DICOM files, relative to the job's output.
        lesions: How many have features.
        reason: What failed or was left out; empty where nothing was.
        failed: Nothing came through, and would not at another time.
    """

    results: tuple[str, ...]
    lesions: int
    reason: str = ""
    failed: bool = False


Work = Callable[[Job], Outcome]


class WorkerError(Exception):
    """A study's work ended without an outcome; it may at another time."""


def run_study(job: Job) -> Outcome:
    """Run the chain on a snapshot of a study's objects, as `fmcib run` does.

    Raises:
        FmcibError: As `pipeline.run` does.
    """
    from fmcib_module.pipeline import run

    shutil.rmtree(job.inputs, ignore_errors=True)
    job.inputs.mkdir(parents=True)
    for path in job.objects:
        os.link(path, job.inputs / path.name)
    try:
        try:
            ledger = run(job.inputs, job.output, settings=job.run)
        except OutputError:  # results of another version or of other settings, or a damaged ledger
            ledger = run(job.inputs, job.output, settings=job.run, force=True)
    finally:
        shutil.rmtree(job.inputs, ignore_errors=True)
    return outcome_of(ledger)


def outcome_of(ledger: Ledger) -> Outcome:
    """What a ledger says in short."""
    entries = [entry for entry in ledger.series if entry.status is not Status.SKIPPED]
    results = [f"{entry.output}/{name}" for entry in entries for name in entry.files if name.endswith(".dcm")]
    rois = [roi for entry in entries for roi in entry.rois]
    failed = [entry.reason for entry in ledger.problems]
    failed += [roi.reason for roi in rois if roi.status is Status.FAILED and roi.reason]
    failed += [entry.reason for entry in entries if entry.status is Status.FAILED and entry.reason]
    reasons = list(dict.fromkeys(map(str, failed)))
    if not entries:
        reasons += [str(entry.reason) for entry in ledger.series if entry.reason]
    shown = "; ".join(reasons[:LISTED_REASONS])
    more = f"; and {len(reasons) - LISTED_REASONS} more" if len(reasons) > LISTED_REASONS else ""
    return Outcome(tuple(results), ledger.n_lesions, shown + more, failed=ledger.exit_code is ExitCode.NOTHING)


class Worker:
    """A process that works on one study after the other; started when it is needed."""

    def __init__(self, work: Work, lock: Path) -> None:
        """Remember what to do.

        Args:
            work: A function of a module, since it travels to the process by name.
            lock: A file that the process holds, shared, as long as it lives.
        """
        self._work, self._lock = work, lock
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._left = 0

    def run(self, job: Job, timeout_s: float) -> Outcome:
        """Work on a study.

        Raises:
            WorkerError: It failed, took too long, or the process died.
        """
        if self._process is None or not self._process.is_alive() or self._left == 0:
            self.stop()
            self._start()
        assert self._connection is not None
        self._left -= 1
        try:
            self._connection.send(job)
            if not self._connection.poll(timeout_s):
                self.stop()
                msg = f"it took more than {timeout_s:g} s"
                raise WorkerError(msg)
            outcome = self._connection.recv()
        except (EOFError, OSError) as error:
            code = self.stop()
            msg = f"the process that worked on it died (exit code {code})"
            raise WorkerError(msg) from error
        if isinstance(outcome, str):
            raise WorkerError(outcome)
        return outcome  # type: ignore[no-any-return]  # what `_serve` sends

    def stop(self) -> int | None:
        """End the process; whoever waits in `run` gets a WorkerError."""
        process, self._process = self._process, None
        if process is None:
            return None
        if process.is_alive():
            process.join(0.2)  # one that is dying should keep its exit code
            process.kill()
        process.join()
        if self._connection is not None:
            self._connection.close()
        return process.exitcode

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._work, self._lock), name="fmcib-worker")
        self._process.start()
        theirs.close()
        self._left = STUDIES_PER_PROCESS


def attempt(work: Work, job: Job) -> Outcome | str:
    """Work on a study; what goes wrong comes back as a text."""
    try:
        return work(job)
    except FmcibError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  # a study must not end the process; messages may quote values
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"


def _serve(connection: Connection, work: Work, lock: Path) -> None:
    """The process: take jobs until the node closes the connection; end at once when the node is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the node decides
    silence_libraries()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        while True:
            try:
                connection.send(attempt(work, connection.recv()))
            except (EOFError, OSError):  # the node is gone, or has closed its end
                return


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
