"""The output folder of one run: what is there already, what is added, and the ledger over it."""

import json
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.adapters.identifiers import name_patient
from fmcib_module.adapters.output_lock import OutputLock
from fmcib_module.adapters.salt import FolderSalt
from fmcib_module.adapters.tables import CohortWriter, read_series_csv
from fmcib_module.core.domain import SeriesReport
from fmcib_module.core.errors import OutputError
from fmcib_module.core.extractors import CARDS
from fmcib_module.core.ledger import LEDGER_NAME, Ledger, ProblemEntry, SeriesEntry, Status
from fmcib_module.core.naming import (
    COMPARISON_NAMES,
    EXTRACTOR_SUFFIXES,
    PATIENTS_NAME,
    PICTURE_FOLDER,
    REPORT_NAME,
    extractor_stem,
)
from fmcib_module.core.report import series_rows
from fmcib_module.ledger_file import FORCE, read_ledger
from fmcib_module.patients import write_patients

EXTRACTOR_TABLES = [f"{extractor_stem(card.name)}{suffix}" for card in CARDS for suffix in EXTRACTOR_SUFFIXES]
"""Tables over the whole run that `extractors` asks for."""

FLUSH_AFTER_S = 5.0
"""The ledger is rewritten at most this often; a killed run repeats only what came after."""

FLUSH_SHARE = 0.02
"""Most of a run's time that goes into rewriting the ledger, which takes half a second for 2,000 series."""


class EarlierResults:
    """What an output folder holds from an earlier run; looking changes nothing unless `force` is given.

    A folder that holds results of another configuration is refused; series whose entry, input and files are
    unchanged are taken over instead of repeated. `force` removes the files that the earlier ledger lists, and
    starts afresh.

    Attributes:
        folder: OUTPUT.
        facts: What the earlier ledger says of its series as a whole: the encoder, and the salt of its pseudonyms.
        salt: Of pseudonyms, from now on.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any], *, force: bool = False) -> None:
        """Check the folder.

        Args:
            folder: OUTPUT; need not exist.
            run: What makes the new results, as `pipeline.describe_run` says it.
            force: Remove results that are there.

        Raises:
            OutputError: It cannot be written, or holds another configuration's results.
        """
        self.folder = folder
        self._run = run
        self.salt = FolderSalt(folder)
        self.facts: Mapping[str, Any] = {}
        self._entries = self._load(force=force)

    def taken_over(self, output_name: str, input_sha256: str) -> SeriesEntry | None:
        """The earlier entry of a series that need not be repeated, None if it must be."""
        entry = self._entries.get(output_name)
        if entry is None or entry.input_sha256 != input_sha256 or entry.status not in (Status.OK, Status.FLAGGED):
            return None
        return entry if all(self._holds(entry, name) for name in entry.files) else None

    def entries(self) -> tuple[SeriesEntry, ...]:
        """Earlier entries that nothing new has taken the place of."""
        return tuple(self._entries.values())

    def supersede(self, entry: SeriesEntry) -> None:
        """Forget the earlier entry of a series, and delete the files that its new entry no longer has."""
        earlier = self._entries.pop(entry.output, None)
        for name in set(earlier.files if earlier else ()) - set(entry.files):
            (self.folder / entry.output / name).unlink(missing_ok=True)

    def _holds(self, entry: SeriesEntry, name: str) -> bool:
        try:
            return sha256_of(self.folder / entry.output / name) == entry.files[name]
        except OSError:
            return False

    def _load(self, *, force: bool) -> dict[str, SeriesEntry]:
        if not self.folder.exists():
            return {}
        if not self.folder.is_dir() or not os.access(self.folder, os.W_OK | os.X_OK):
            raise OutputError("OUTPUT is not a folder that can be written", self.folder.name, "choose another one")
        try:
            previous = read_ledger(self.folder)
        except OutputError:
            if not force:
                raise
            return {}
        if previous is None:
            if (self.folder / "features.parquet").exists() and not force:
                raise OutputError("OUTPUT holds results without a ledger", self.folder.name, FORCE)
            return {}
        if force:
            self._remove(previous)
            return {}
        keys = ("settings_sha256", "weights_sha256", "extractors", "heads", "version")
        if changed := [key for key in keys if previous.run.get(key) != self._run.get(key)]:
            what = f"OUTPUT holds results of another configuration (different: {', '.join(changed)})"
            raise OutputError(what, self.folder.name, FORCE)
        self.facts = {key: previous.run[key] for key in ("encoder", "salt_id") if previous.run.get(key)}
        if self.facts.get("salt_id", self.salt.id) != self.salt.id:
            raise OutputError("OUTPUT holds pseudonyms of another salt", self.folder.name, f"give that one, {FORCE}")
        return {entry.output: entry for entry in previous.series if entry.output}

    def _remove(self, previous: Ledger) -> None:
        """Delete the files that an earlier ledger lists, and only those."""
        for entry in previous.series:
            inside = self.folder / entry.output
            for name in entry.files:
                (inside / name).unlink(missing_ok=True)
            for folder in (inside / PICTURE_FOLDER, inside):
                if entry.output and folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
        for name in ("features.csv", "features.parquet", PATIENTS_NAME, *COMPARISON_NAMES, *EXTRACTOR_TABLES):
            (self.folder / name).unlink(missing_ok=True)


class RunOutput:
    """Adds series to an output folder and keeps its ledger; use as a context manager.

    See `EarlierResults` for what happens to results that are there already.
    """

    def __init__(
        self, folder: Path, run: Mapping[str, Any], *, force: bool = False, stale_after_s: float = 0.0
    ) -> None:
        """Check and prepare the folder.

        Args:
            folder: OUTPUT.
            run: What makes the results, for the ledger.
            force: Remove earlier results.
            stale_after_s: As for `OutputLock`.

        Raises:
            OutputError: It cannot be written, or holds another configuration's results.
        """
        self.folder = folder
        self.ledger = Ledger(run={"started": now(), **run})
        self._changing = Lock()  # the encoder describes itself from the thread that it works in
        self._next_flush = 0.0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = OutputLock(folder, stale_after_s=stale_after_s)
            with ExitStack() as unless_prepared:
                unless_prepared.callback(self._lock.release)
                self._earlier = EarlierResults(folder, run, force=force)
                self._describe(**self._earlier.facts)  # of the series that are taken over
                for name in (REPORT_NAME, PATIENTS_NAME, *COMPARISON_NAMES, *EXTRACTOR_TABLES):
                    (folder / name).unlink(missing_ok=True)
                self._flush()
                unless_prepared.pop_all()
        except OSError as error:
            raise _not_writable(error) from error
        self._cohort = CohortWriter(folder)

    def __enter__(self) -> Self:
        self._cohort.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        complete = False
        try:
            self._cohort.__exit__(kind, error, trace)
            if error is None:
                write_patients(self.folder, self.ledger)
            complete = error is None
        finally:
            self.ledger = replace(self.ledger, complete=complete, run={**self.ledger.run, "finished": now()})
            self._flush()
            self._lock.release()

    @property
    def resumes(self) -> bool:
        """Whether there are earlier results that may be taken over."""
        return bool(self._earlier.entries())

    def taken_over(self, output_name: str, input_sha256: str) -> SeriesEntry | None:
        """The earlier entry of a series that need not be repeated, None if it must be."""
        return self._earlier.taken_over(output_name, input_sha256)

    def add(self, entry: SeriesEntry, report: SeriesReport | None = None) -> None:
        """Put a series on the ledger and its lesions into the cohort tables.

        Without a report, the lesions are read back from the series' own table. A series with lesions gets its patient's
        pseudonym from the report.
        """
        if report is not None and report.lesions and report.series.instances:
            entry = replace(entry, patient=name_patient(report.series, self._earlier.salt.value()))
            self._describe(salt_id=self._earlier.salt.id)
        table = self.folder / entry.output / "features.csv"
        if entry.files and report is not None:
            self._cohort.add(series_rows(report), table)
        elif entry.files:
            self._cohort.add(read_series_csv(table), table)
        self._earlier.supersede(entry)
        with self._changing:
            self.ledger = replace(self.ledger, series=(*self.ledger.series, entry))
        if time.monotonic() > self._next_flush:
            self._flush()

    def add_problems(self, problems: tuple[ProblemEntry, ...], ignored_files: int) -> None:
        """Put files that cannot be used on the ledger."""
        self.ledger = replace(self.ledger, problems=problems, ignored_files=ignored_files)

    def time(self, step: str, seconds: float) -> None:
        """Note how long a step of the whole run took."""
        self._describe(timings_s={**self.ledger.run["timings_s"], step: round(seconds, 4)})

    def describe_encoder(self, encoder: Mapping[str, Any]) -> None:
        """Note what computed the features."""
        self._describe(encoder=dict(encoder))

    def _describe(self, **more: Any) -> None:
        with self._changing:
            self.ledger = replace(self.ledger, run={**self.ledger.run, **more})

    def _flush(self) -> None:
        started, ledger = time.monotonic(), self.ledger
        if not ledger.complete:  # what an interrupted rerun has not come to yet is still true
            ledger = replace(ledger, series=(*ledger.series, *self._earlier.entries()))
        write_bytes(self.folder / LEDGER_NAME, json.dumps(ledger.to_dict(), indent=1).encode())
        ended = time.monotonic()
        self._next_flush = ended + max(FLUSH_AFTER_S, (ended - started) / FLUSH_SHARE)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _not_writable(error: OSError) -> OutputError:
    return OutputError(f"OUTPUT cannot be written: {error.strerror}", "OUTPUT", "choose a folder that can be written")


def now() -> str:
    """The time as the ledger writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
