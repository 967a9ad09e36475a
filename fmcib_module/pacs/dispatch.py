"""Ready studies -> workers -> results, retries or dead letters; and what is old is deleted."""

import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Final

from fmcib_module.pacs.audit import Audit
from fmcib_module.pacs.node_settings import NodeSettings
from fmcib_module.pacs.received import ROI_NAMES, Role
from fmcib_module.pacs.results import DeliveryState, Outbox
from fmcib_module.pacs.spool import Spool, flush_folder
from fmcib_module.pacs.state import State, StudyRow, StudyState, digest_objects, set_state
from fmcib_module.pacs.worker import Job, Outcome, Work, Worker, WorkerError

POLL_S: Final = 0.1
KEEP_HOUSE_S: Final = 10.0
REASON_NAME: Final = "reason.json"


class Dispatcher:
    """Threads, each with a worker process, that take studies as they become ready."""

    def __init__(
        self, settings: NodeSettings, state: State, spool: Spool, outbox: Outbox, audit: Audit, work: Work
    ) -> None:
        """Start.

        Args:
            settings: Of the node.
            state: What is known.
            spool: Received objects.
            outbox: Where results go.
            audit: The log.
            work: What to do with a study.
        """
        self._settings, self._state, self._spool, self._outbox, self._audit = settings, state, spool, outbox, audit
        self._folder = Path(settings.folder)
        self._claiming = threading.Lock()
        self._stop = threading.Event()
        self._workers = [Worker(work, self._folder / "workers.lock") for _ in range(settings.workers)]
        self._threads = [threading.Thread(target=self._work, args=(worker,)) for worker in self._workers]
        self._threads.append(threading.Thread(target=self._keep_house))
        for thread in self._threads:
            thread.start()

    def close(self, wait_s: float) -> None:
        """Start no more work; what runs may go on for some seconds, then it is left for the next start."""
        self._stop.set()
        until = time.monotonic() + wait_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        for worker in self._workers:
            worker.stop()
        for thread in self._threads:
            thread.join()

    def _work(self, worker: Worker) -> None:
        while not self._stop.wait(POLL_S):
            with self._audit.guard("dispatch"):
                while not self._stop.is_set() and (row := self._claim()) is not None:
                    self._run(worker, row)

    def _claim(self) -> StudyRow | None:
        """The next ready study, marked as running; None where there is none, or no disk space for results."""
        with self._claiming:
            if not self._spool.has_room():
                return None
            for row in self._state.ready(quiet_s=self._settings.quiet_s, now=time.time()):
                if row.done_as == digest_objects(self._state.objects(row.study)):
                    self._state.set_state(row.study, StudyState.DONE)  # the same objects came once more
                    self._audit("study-unchanged", study=row.study)
                    continue
                self._state.start(row)
                return row
        return None

    def _run(self, worker: Worker, row: StudyRow) -> None:
        study, objects = row.study, self._state.objects(row.study)
        job = Job(
            objects=tuple(self._spool.path(study, name) for name in sorted(objects)),
            inputs=self._folder / "inputs" / study,
            output=self._folder / "results" / study,
            run=self._settings.run,
        )
        self._audit("study-started", study=study, objects=len(objects))
        started = time.monotonic()
        try:
            outcome = worker.run(job, self._settings.job_timeout_s)
        except WorkerError as error:
            if not self._stop.is_set():
                self._retry(row, str(error))
            return  # when the node stops, the study stays as running, and the next start takes it up
        seconds = round(time.monotonic() - started, 3)
        try:
            if outcome.failed:
                self._audit("study-failed", study=study, reason=outcome.reason)
                self._bury(row, outcome.reason, attempts=row.attempts + 1)
            else:
                self._finish(row, outcome, digest_objects(objects))
                self._audit("study-done", study=study, lesions=outcome.lesions, seconds=seconds, reason=outcome.reason)
        except OSError as error:
            self._retry(row, f"its results cannot be kept: {error.strerror}")

    def _finish(self, row: StudyRow, outcome: Outcome, done_as: str) -> None:
        """Keep the results and note them in one transaction with the end of the work."""
        results = self._folder / "results" / row.study
        new = self._outbox.keep([results / name for name in outcome.results])
        shutil.rmtree(self._letter(row.study), ignore_errors=True)
        with self._state.transaction() as db:
            self._outbox.note(db, row.study, new)
            opened_again = self._state.study(row.study).version != row.version
            columns = {"reason": outcome.reason, "lesions": outcome.lesions, "done_as": done_as, "attempts": 0}
            state = StudyState.RECEIVING if opened_again else StudyState.DONE
            set_state(db, row.study, state, **columns)

    def _retry(self, row: StudyRow, reason: str) -> None:
        """Try again later, unless it was tried often enough."""
        attempts = row.attempts + 1
        if attempts >= self._settings.attempts:
            self._audit("study-failed", study=row.study, reason=reason, attempts=attempts)
            self._bury(row, reason, attempts=attempts)
            return
        wait_s = self._settings.back_off_s * 2 ** (attempts - 1)
        self._audit("study-retried", study=row.study, reason=reason, attempts=attempts, wait_s=wait_s)
        with self._state.transaction() as db:
            if self._state.study(row.study).version != row.version:
                set_state(db, row.study, StudyState.RECEIVING)
            else:
                columns = {"attempts": attempts, "next_try": time.time() + wait_s, "reason": reason}
                set_state(db, row.study, StudyState.RETRYING, **columns)

    def _bury(self, row: StudyRow, reason: str, *, attempts: int) -> None:
        """Put a study into the dead-letter folder with the reason; a new object gets it out again."""
        letter = self._letter(row.study)
        shutil.rmtree(letter, ignore_errors=True)
        letter.mkdir(parents=True)
        for name in sorted(self._state.all_objects(row.study)):
            os.link(self._spool.path(row.study, name), letter / f"{name}.dcm")
        told = {"study_uid": row.study_uid, "reason": reason, "attempts": attempts}
        (letter / REASON_NAME).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        flush_folder(letter)
        with self._state.transaction() as db:
            opened_again = self._state.study(row.study).version != row.version
            state = StudyState.RECEIVING if opened_again else StudyState.DEAD
            set_state(db, row.study, state, reason=reason, attempts=0 if opened_again else attempts)

    def _letter(self, study: str) -> Path:
        return self._folder / "dead-letters" / study

    def _keep_house(self) -> None:
        while True:
            with self._audit.guard("house-keeping"):
                self._give_up()
                self._delete_old()
            if self._stop.wait(min(KEEP_HOUSE_S, max(self._settings.quiet_s, POLL_S))):
                return

    def _give_up(self) -> None:
        """Studies that CT or ROI never came for."""
        for row in self._state.incomplete(before=time.time() - 3600 * self._settings.patience_h):
            roles = {role for (role,) in self._state.rows("SELECT role FROM objects WHERE study = ?", row.study)}
            if roles == {Role.OTHER}:
                self._state.set_state(row.study, StudyState.DONE, reason="neither CT nor ROI arrived")
                continue
            absent = [text for role, text in ((Role.CT, "CT"), (Role.ROI, ROI_NAMES)) if role not in roles]
            reason = f"no {' and no '.join(absent)} arrived within {self._settings.patience_h:g} h"
            self._audit("study-failed", study=row.study, reason=reason)
            self._bury(row, reason, attempts=0)

    def _delete_old(self) -> None:
        """Objects and results of studies that are done, delivered and old enough, and objects of dead letters."""
        before = time.time() - 3600 * self._settings.keep_h
        query = (
            "SELECT study FROM studies s WHERE state IN (?, ?) AND changed <= ? "
            "AND EXISTS (SELECT 1 FROM objects o WHERE o.study = s.study) "
            "AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.study = s.study AND d.state = ?)"
        )
        states = (StudyState.DONE, StudyState.DEAD)
        for (study,) in self._state.rows(query, *states, before, DeliveryState.PENDING):
            if not self._spool.remove_study(study):
                continue
            self._outbox.remove_study(study)
            shutil.rmtree(self._folder / "results" / study, ignore_errors=True)
            self._audit("study-deleted", study=study)
