"""What one worker does: items -> files of their series and one record each, through the chain's own steps."""

import json
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from fmcib_module import steps
from fmcib_module.adapters.dicom_import import scan_folder
from fmcib_module.adapters.identifiers import name_patient
from fmcib_module.batch.claims import MOST_ATTEMPTS, Claim, Claims, Task
from fmcib_module.batch.encode import DescribedEncoder
from fmcib_module.batch.fetch import Fetched, Fetcher, Scratch
from fmcib_module.batch.retry import StoreError
from fmcib_module.batch.store import Store, open_store
from fmcib_module.core.domain import FileProblem, Provenance, Scan
from fmcib_module.core.errors import FmcibError, InputError, OutputError
from fmcib_module.core.ledger import Ledger, ProblemEntry, Reason, SeriesEntry, Stage, Status
from fmcib_module.pipeline import SERIES_TO_WRITE, Job, encode_stream
from fmcib_module.settings import Settings
from fmcib_module.side_by_side import SideBySide
from fmcib_module.streams import prefetch
from fmcib_module.work import SeriesWork

FETCHED_AHEAD: Final = 2
"""Items that are brought here while others are computed."""


@dataclass(frozen=True, slots=True)
class JobPlan:
    """What every worker of a job is told.

    Attributes:
        job: Its name.
        output: OUTPUT, a path or URL.
        root: What relative paths of the manifest are relative to.
        settings: Of the run.
        provenance: What makes the features.
        scratch: Folder for downloads, on each machine.
        scratch_bytes: Most of it that one worker fills.
        salt: Of pseudonyms.
        anonymous: Send no credentials to object stores.
    """

    job: str
    output: str
    root: Path
    settings: Settings
    provenance: Provenance
    scratch: Path
    scratch_bytes: int
    salt: str = field(repr=False)
    anonymous: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one task.

    Attributes:
        key: The item's.
        ledger: What was recorded; empty where another job has the item, or it could not be recorded.
        reason: Why it could not be; the item is not done.
    """

    key: str
    ledger: bytes = b""
    reason: str = ""


@dataclass(slots=True)
class _Open:
    """An item that is on this machine, and what is known of it so far."""

    task: Task
    fetched: Fetched | None
    left: int = 0
    entries: list[SeriesEntry] = field(default_factory=list)
    problems: tuple[ProblemEntry, ...] = ()
    ignored_files: int = 0
    undone: str = ""


class Worker:
    """Takes tasks, one stream at a time; used by one thread."""

    def __init__(self, plan: JobPlan, encode: DescribedEncoder) -> None:
        """Open the store and the scratch folder.

        Args:
            plan: The job.
            encode: The network.
        """
        self._plan = plan
        self._encode = encode
        self._others = SideBySide(plan.settings)
        self._store: Store = open_store(plan.output, anonymous=plan.anonymous)
        self._claims = Claims(self._store, plan.job)
        self.scratch = Scratch(plan.scratch, plan.scratch_bytes)
        self._fetcher = Fetcher(self.scratch, root=plan.root, anonymous=plan.anonymous)
        self._written = self._store.folder or self.scratch.folder / "_written"

    def close(self) -> None:
        """Delete the scratch folder."""
        self.scratch.close()

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Do tasks; each outcome comes when the item is on record.

        Batches fill across items; the next items are brought here, and earlier ones written, while the network works.
        """
        of_work: dict[int, _Open] = {}
        idle: deque[_Open] = deque()
        skipped: deque[Outcome] = deque()
        works = encode_stream(self._encode, self._jobs(tasks, of_work, idle, skipped))
        for work, _ in prefetch(works, SERIES_TO_WRITE):
            item = of_work.pop(id(work))
            self._write(item, work)
            item.left -= 1
            if item.left == 0:
                yield self._commit(item)
            yield from self._drain(idle, skipped)
        yield from self._drain(idle, skipped)

    def _drain(self, idle: deque[_Open], skipped: deque[Outcome]) -> Iterator[Outcome]:
        while idle:
            yield self._commit(idle.popleft())
        while skipped:
            yield skipped.popleft()

    def _jobs(
        self, tasks: Sequence[Task], of_work: dict[int, _Open], idle: deque[_Open], skipped: deque[Outcome]
    ) -> Iterator[Job]:
        """Every series that is asked for features, with its patches to come; runs in the thread that cuts patches."""
        for item, _ in prefetch(self._arriving(tasks, skipped), FETCHED_AHEAD):
            works = self._look(item)
            if not works:
                idle.append(item)
            item.left = len(works)
            for work in works:
                of_work[id(work)] = item
                yield work, steps.cut(work, self._plan.settings)

    def _arriving(self, tasks: Sequence[Task], skipped: deque[Outcome]) -> Iterator[_Open]:
        """Items that are ours, brought here; runs in a thread of its own."""
        for task in tasks:
            try:
                claim = self._claims.claim(task)
            except (StoreError, OutputError) as error:
                skipped.append(Outcome(task.item.key, reason=str(error)))
                continue
            if claim in (Claim.BUSY, Claim.DONE):
                skipped.append(Outcome(task.item.key))
            elif claim is Claim.DEADLY:
                yield _failed(task, _deadly(task))
            else:
                try:
                    yield _Open(task, self._fetcher.fetch(task.item))
                except (StoreError, OutputError) as error:
                    yield _failed(task, error)

    def _look(self, item: _Open) -> list[SeriesWork]:
        """Import an item and find its seeds; what is not asked for goes to its entries at once."""
        if item.fetched is None:
            return []
        try:
            scan = scan_folder(item.fetched.folder, exclude=self._store.folder)
        except InputError as error:
            item.problems = (ProblemEntry.of(FileProblem("", "", error)),)
            return []
        item.problems, item.ignored_files = tuple(map(ProblemEntry.of, scan.problems)), scan.ignored_files
        return list(self._found(scan, item))

    def _found(self, scan: Scan, item: _Open) -> Iterator[SeriesWork]:
        for series in (series for study in scan.studies for series in study.series):
            if reason := steps.why_skipped(series, self._plan.settings):
                item.entries.append(SeriesEntry.skipped(series, reason))
            else:
                yield steps.find(series, self._plan.settings)

    def _write(self, item: _Open, work: SeriesWork) -> None:
        """Write one series' files to OUTPUT, if its folder is this item's."""
        if item.undone:
            return
        plan, name = self._plan, work.series.output_name
        try:
            if not self._claims.is_ours(item.task):
                item.undone = "another job took the item over"
            elif not self._claims.own_series(item.task, name):
                item.entries.append(_twice(work))
            else:
                entry, report = steps.write(work, self._written, settings=plan.settings, provenance=plan.provenance)
                entry = self._others.add(work, report, entry, self._written)
                if report.lesions:
                    entry = replace(entry, patient=name_patient(work.series, plan.salt))
                self._upload(entry)
                item.entries.append(entry)
        except (StoreError, OutputError) as error:
            item.undone = str(error)

    def _upload(self, entry: SeriesEntry) -> None:
        """Bring a series' files to a bucket; in a folder they are there already."""
        if self._store.folder is not None or not entry.output:
            return
        folder = self._written / entry.output
        for name in entry.files:
            self._store.write(f"{entry.output}/{name}", (folder / name).read_bytes())
        shutil.rmtree(folder)

    def _commit(self, item: _Open) -> Outcome:
        """Delete what was downloaded, then put the item on record."""
        if item.fetched is not None:
            self._fetcher.drop(item.fetched)
        if item.undone:
            return Outcome(item.task.item.key, reason=item.undone)
        ledger = Ledger(
            run={"item": item.task.item.name, "encoder": self._encode.describe()},
            series=tuple(sorted(item.entries, key=lambda entry: (entry.study_uid, entry.series_uid, entry.output))),
            problems=item.problems,
            ignored_files=item.ignored_files,
            complete=True,
        )
        failed = bool(ledger.problems) or any(entry.status is Status.FAILED for entry in ledger.series)
        content = json.dumps(ledger.to_dict()).encode()
        try:
            recorded = self._claims.record(item.task, content, failed=failed)
        except (StoreError, OutputError) as error:
            return Outcome(item.task.item.key, reason=str(error))
        return Outcome(item.task.item.key, content if recorded else b"")


def _failed(task: Task, error: FmcibError) -> _Open:
    """An item that did not get here."""
    entry = SeriesEntry(task.item.series_uid, "", "", Status.FAILED, Stage.IMPORT, Reason.of(error))
    return _Open(task, None, entries=[entry])


def _deadly(task: Task) -> FmcibError:
    fix = "run it alone with `fmcib run` to see why"
    return InputError(f"workers died of it, {MOST_ATTEMPTS} times", f"item {task.item.name}", fix)


def _twice(work: SeriesWork) -> SeriesEntry:
    """A series whose folder belongs to another item of the manifest."""
    error = InputError(
        "the manifest holds this series twice, from different sources",
        f"SeriesInstanceUID {work.series.uid}",
        "leave one of them out; the other one is written",
    )
    entry = SeriesEntry.skipped(work.series, Reason.of(error))
    return replace(entry, status=Status.FAILED)
