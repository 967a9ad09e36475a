"""`fmcib watch`: follow an Orthanc's changes, run each study that is ready, and put SR and SEG back."""

import fcntl
import hashlib
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from fmcib_module.core.errors import ConfigError, OutputError, PeerError, PeerUnavailableError
from fmcib_module.core.naming import safe_name
from fmcib_module.pacs.audit import Audit, silence_libraries
from fmcib_module.pacs.orthanc import Instance, Listing, Orthanc, download_all
from fmcib_module.pacs.orthanc_state import End, Remembered, WatchState
from fmcib_module.pacs.web import ATTEMPTS as QUESTIONS
from fmcib_module.pacs.web import Access, back_off_s
from fmcib_module.pacs.worker import Job, Outcome, Work, Worker, WorkerError, run_study
from fmcib_module.settings import Settings

ATTEMPTS: Final = 5
"""At one study with the same objects; a crash of the whole program counts too."""

LOW_DISK_WAIT_S: Final = 60.0
GIGABYTE: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How to watch.

    Attributes:
        folder: For state, pulled objects and results; a watcher has it for itself.
        url: Of the Orthanc, as `check_url` gives it.
        run: What is done with a study.
        from_start: At the first start, also run studies that are there already.
        poll_s: Between two looks.
        keep: How many studies' results stay in the folder; the oldest go first.
        free_disk_gb: Studies wait as long as pulling them would leave less than this.
        timeout_s: For one study's work.
    """

    folder: Path
    url: str
    run: Settings
    from_start: bool = False
    poll_s: float = 5.0
    keep: int = 100
    free_disk_gb: float = 5.0
    timeout_s: float = 3600.0


class Watcher:
    """Watches one Orthanc; a context manager."""

    def __init__(self, settings: WatchSettings, access: Access, log: IO[str], work: Work = run_study) -> None:
        """Take up what an earlier watcher left; nothing is asked of the Orthanc yet.

        Raises:
            ConfigError: The folder cannot be used, or another watcher has it.
        """
        self._settings, self._audit = settings, Audit(log)
        folder = settings.folder
        self._pulled, self._results = folder / "pulled", folder / "results"
        try:
            self._results.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)  # what lies here is about patients
            self._lock = (folder / "watch.lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with (folder / "worker.lock").open("w") as worker:
                fcntl.flock(worker, fcntl.LOCK_EX)  # the worker of a watcher that was killed ends by itself
        except BlockingIOError as error:
            self._lock.close()
            raise ConfigError(
                "another watcher uses this folder", folder.name, "stop it, or give another one"
            ) from error
        except OSError as error:
            what = f"the folder cannot be used: {error.strerror}"
            raise ConfigError(what, folder.name, "give another one") from error
        self._state = WatchState(folder / "state.sqlite")
        self._orthanc = Orthanc(settings.url, access)
        self._worker = Worker(work, folder / "worker.lock")
        self._stop = threading.Event()

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.stop()
        self._orthanc.close()
        self._state.close()
        self._lock.close()

    def stop(self) -> None:
        """End soon; a study that is being worked on starts again next time."""
        self._stop.set()
        self._worker.stop()

    def once(self) -> int:
        """Do what there is to do now.

        Returns:
            How many studies have failed so far.

        Raises:
            PeerError: The Orthanc refuses, or does not answer for some seconds.
        """
        self._keep_trying(self._round, QUESTIONS)
        return self._state.count_failed()

    def forever(self) -> None:
        """Go on until `stop`.

        Raises:
            PeerError: The Orthanc refuses us.
        """
        while not self._stop.is_set():
            self._keep_trying(self._round, None)
            self._stop.wait(self._settings.poll_s)

    def _keep_trying(self, action: Callable[[], None], attempts: int | None) -> None:
        """Do something, with growing pauses while the peer does not answer; no end of them for None."""
        failures = 0
        while not self._stop.is_set():
            try:
                action()
            except PeerUnavailableError as error:
                failures += 1
                self._audit("peer-unavailable", reason=error.what, failures=failures)
                if failures == attempts:
                    raise
                self._stop.wait(back_off_s(failures))
            else:
                return

    def _round(self) -> None:
        """Read the changes, then look at every study that waits."""
        self._read_changes()
        for study in self._state.waiting(time.time()):
            if self._stop.is_set():
                return
            self._look_at(study)

    def _read_changes(self) -> None:
        peer, newest = self._settings.url, self._orthanc.last_change()
        since = self._state.place(peer)
        if since is None:
            since = 0 if self._settings.from_start else newest
            self._state.note(peer, since)
        elif newest < since:
            self._audit("changes-start-over", reason="the Orthanc counts from the beginning again")
            since = 0
            self._state.note(peer, since)
        done = since == newest
        while not done and not self._stop.is_set():
            changes, since, done = self._orthanc.changes(since)
            self._state.note(peer, since, self._orthanc.studies_of(changes))

    def _look_at(self, study: Remembered) -> None:
        listing = self._orthanc.study(study.name)
        if listing is None:
            self._state.forget(study.name)
            self._clear(study.name)
        elif listing.stable:
            digest = _digest(listing.instances)
            if digest == study.finished:
                self._state.settle(study.name)
                self._clear(study.name)
            elif not listing.runs:
                self._state.finish(study.name, digest, End.INCOMPLETE)
                self._audit("study-incomplete", study=listing.uid)
            elif digest == study.started and study.attempts >= ATTEMPTS:
                self._fail(study.name, listing, digest, f"{ATTEMPTS} attempts failed")
            elif self._has_room(study.name, listing):
                self._attempt(study.name, listing, digest)

    def _has_room(self, name: str, listing: Listing) -> bool:
        """Whether a study fits on the disk; else it waits."""
        needed = sum(one.size for one in listing.instances) + int(self._settings.free_disk_gb * GIGABYTE)
        if shutil.disk_usage(self._settings.folder).free >= needed:
            return True
        self._audit("disk-low", study=listing.uid)
        self._state.try_again(name, time.time() + LOW_DISK_WAIT_S, "not enough free disk")
        return False

    def _attempt(self, name: str, listing: Listing, digest: str) -> None:
        """Pull, run and put back; what fails is tried again later."""
        attempts = self._state.begin(name, digest)
        try:
            outcome = self._run(name, listing)
            if outcome is None:
                self._state.interrupted(name)
                return
            sent = self._put_back(listing, outcome)
        except PeerUnavailableError:
            self._state.interrupted(name)  # no fault of the study
            raise
        except (WorkerError, OutputError, PeerError) as error:  # refused credentials show in the next round
            if self._stop.is_set():
                self._state.interrupted(name)
            elif attempts < ATTEMPTS:
                self._audit("study-retried", study=listing.uid, attempts=attempts, reason=error)
                self._state.try_again(name, time.time() + back_off_s(attempts), str(error))
            else:
                self._fail(name, listing, digest, str(error))
            return
        if outcome.failed:
            self._fail(name, listing, digest, outcome.reason)
        else:
            self._state.finish(name, digest, End.DONE, outcome.reason)
            said = {"reason": outcome.reason} if outcome.reason else {}
            self._audit("study-done", study=listing.uid, lesions=outcome.lesions, sent=sent, **said)
        self._clear(name)

    def _fail(self, name: str, listing: Listing, digest: str, reason: str) -> None:
        self._state.finish(name, digest, End.FAILED, reason)
        self._audit("study-failed", study=listing.uid, reason=reason)
        self._clear(name)

    def _run(self, name: str, listing: Listing) -> Outcome | None:
        """A study's outcome; None if the watcher is to stop."""
        pulled = self._pulled / name
        pulled.mkdir(parents=True, exist_ok=True)
        paths = tuple(download_all(self._orthanc, listing.instances, pulled, self._stop.is_set))
        if self._stop.is_set():
            return None
        output = self._results / safe_name(listing.uid)
        job = Job(paths, self._settings.folder / "inputs" / name, output, self._settings.run)
        return self._worker.run(job, self._settings.timeout_s)

    def _put_back(self, listing: Listing, outcome: Outcome) -> int:
        """Hand results over, segments before the reports that refer to them; returns how many were new there."""
        folder = self._results / safe_name(listing.uid)
        ordered = sorted(outcome.results, key=lambda result: (not result.endswith(".seg.dcm"), result))
        return sum(self._orthanc.upload(folder / result) for result in ordered)

    def _clear(self, name: str) -> None:
        """Bound the disk: pulled objects go, and the oldest results."""
        shutil.rmtree(self._pulled / name, ignore_errors=True)
        oldest_first = sorted(self._results.iterdir(), key=lambda folder: folder.stat().st_mtime)
        for folder in oldest_first[: max(len(oldest_first) - self._settings.keep, 0)]:
            shutil.rmtree(folder, ignore_errors=True)


def watch(settings: WatchSettings, access: Access, log: IO[str], *, once: bool) -> int:
    """Watch until SIGTERM or SIGINT, or do once what there is to do.

    Returns:
        How many studies failed; 0 unless `once`.

    Raises:
        ConfigError: The folder cannot be used.
        PeerError: The Orthanc refuses us; with `once` also, that it does not answer.
    """
    silence_libraries()
    with Watcher(settings, access, log) as watcher:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: watcher.stop())
        if once:
            return watcher.once()
        watcher.forever()
        return 0


def _digest(instances: tuple[Instance, ...]) -> str:
    """What a study holds; changes with every object that is added, taken away or stored again."""
    return hashlib.sha256("".join(f"{one.name}{one.version}" for one in instances).encode()).hexdigest()
