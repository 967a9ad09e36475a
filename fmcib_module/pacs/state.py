"""What the node knows of studies and objects, in SQLite: written before anything is acknowledged, read at a restart.

The spool's files are the truth about objects, and are flushed to disk before they are acknowledged; `Spool.reconcile`
mends what a crash left different here. If a loss of power takes the last entries back, work and deliveries are done
again, with the files that are there: the same content.
"""

import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from fmcib_module.core.errors import ConfigError
from fmcib_module.pacs.received import Received, Role

_SCHEMA = """
CREATE TABLE IF NOT EXISTS studies (
    study TEXT PRIMARY KEY, study_uid TEXT NOT NULL, patient_id TEXT NOT NULL, state TEXT NOT NULL,
    version INTEGER NOT NULL, first REAL NOT NULL, changed REAL NOT NULL, attempts INTEGER NOT NULL,
    next_try REAL NOT NULL, done_as TEXT NOT NULL, reason TEXT NOT NULL,
    lesions INTEGER NOT NULL, runs INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS objects (
    study TEXT NOT NULL, name TEXT NOT NULL, role TEXT NOT NULL, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (study, name));
CREATE TABLE IF NOT EXISTS deliveries (
    name TEXT NOT NULL, destination TEXT NOT NULL, study TEXT NOT NULL, sha256 TEXT NOT NULL, state TEXT NOT NULL,
    attempts INTEGER NOT NULL, next_try REAL NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (name, destination));
CREATE INDEX IF NOT EXISTS due ON deliveries (state, next_try);
"""


class StudyState(StrEnum):
    """Where a study is."""

    RECEIVING = "receiving"  # something new arrived; not quiet yet, or CT or ROI is not there
    RUNNING = "running"
    RETRYING = "retrying"  # failed, will be tried again
    DONE = "done"
    DEAD = "dead"  # in the dead-letter folder


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study.

    Attributes:
        study: Hashed name.
        study_uid: StudyInstanceUID.
        patient_id: Empty unless identifiers are asked for.
        state: Where it is.
        version: Grows with every new object of CT or ROI.
        first: When its first object arrived, seconds since the epoch.
        changed: When it last changed.
        attempts: Failures since the last new object.
        next_try: Not before this time.
        done_as: Digest of the objects that it was last done with; empty where it never was.
        reason: Why it failed, or what was left out.
        lesions: With features, at the last run.
        runs: How often work was started.
    """

    study: str
    study_uid: str
    patient_id: str
    state: StudyState
    version: int
    first: float
    changed: float
    attempts: int
    next_try: float
    done_as: str
    reason: str
    lesions: int
    runs: int


class State:
    """The database; its methods may be called from any thread."""

    def __init__(self, path: Path, *, identifiers: bool = False) -> None:
        """Open or make it.

        Raises:
            ConfigError: It cannot be opened.
        """
        self._lock = threading.RLock()
        self._identifiers = identifiers
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")  # survives a kill; a loss of power may take it back a little
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            what = f"the state cannot be opened ({type(error).__name__})"
            raise ConfigError(what, path.name, "give a folder that can be written and is on a local disk") from error

    def close(self) -> None:
        """Close it; further calls fail."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, and on disk when the block ends."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """The answer to a query."""
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def digest_of(self, study: str, name: str) -> str:
        """SHA-256 of an object that is there, empty where it is not."""
        found = self.rows("SELECT sha256 FROM objects WHERE study = ? AND name = ?", study, name)
        return str(found[0][0]) if found else ""

    def add_objects(self, objects: Sequence[Received]) -> None:
        """Note objects whose files are on disk, in one transaction."""
        now = time.time()
        with self.transaction() as db:
            for one in objects:
                patient_id = one.patient_id if self._identifiers else ""
                db.execute(
                    "INSERT OR IGNORE INTO studies VALUES (?, ?, ?, ?, 0, ?, ?, 0, 0, '', '', 0, 0)",
                    (one.study, one.study_uid, patient_id, StudyState.RECEIVING, now, now),
                )
                same = self.digest_of(one.study, one.name) == one.sha256
                values = (one.study, one.name, one.role, one.sha256, one.size)
                db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", values)
                if one.role is not Role.OTHER:
                    _touch(db, one.study, now, is_new=not same)

    def ready(self, *, quiet_s: float, now: float) -> list[StudyRow]:
        """Studies whose turn it is, the longest waiting first."""
        both = "(SELECT count(DISTINCT role) FROM objects o WHERE o.study = s.study AND o.role IN (?, ?)) = 2"
        query = (
            f"SELECT * FROM studies s WHERE state IN (?, ?) AND changed <= ? AND next_try <= ? AND {both} "
            "ORDER BY changed"
        )
        states = (StudyState.RECEIVING, StudyState.RETRYING)
        return _studies(self.rows(query, *states, now - quiet_s, now, Role.CT, Role.ROI))

    def incomplete(self, *, before: float) -> list[StudyRow]:
        """Studies that wait for CT or ROI, and have not changed since `before`."""
        both = "(SELECT count(DISTINCT role) FROM objects o WHERE o.study = s.study AND o.role IN (?, ?)) < 2"
        query = f"SELECT * FROM studies s WHERE state = ? AND changed <= ? AND {both}"
        return _studies(self.rows(query, StudyState.RECEIVING, before, Role.CT, Role.ROI))

    def study(self, study: str) -> StudyRow:
        """One study."""
        return _studies(self.rows("SELECT * FROM studies WHERE study = ?", study))[0]

    def studies(self, *, states: Sequence[StudyState] = tuple(StudyState), limit: int = -1) -> list[StudyRow]:
        """Studies in some states, the last changed first."""
        marks = ", ".join("?" * len(states))
        query = f"SELECT * FROM studies WHERE state IN ({marks}) ORDER BY changed DESC LIMIT ?"
        return _studies(self.rows(query, *states, limit))

    def counts(self) -> dict[StudyState, int]:
        """How many studies are in each state."""
        found: Mapping[str, int] = dict(self.rows("SELECT state, count(*) FROM studies GROUP BY state"))
        return {state: found.get(state, 0) for state in StudyState}

    def objects(self, study: str) -> dict[str, str]:
        """Name -> SHA-256 of the CT and ROI objects of a study."""
        query = "SELECT name, sha256 FROM objects WHERE study = ? AND role != ?"
        return dict(self.rows(query, study, Role.OTHER))

    def all_objects(self, study: str) -> set[str]:
        """Names of everything that is there of a study."""
        return {row[0] for row in self.rows("SELECT name FROM objects WHERE study = ?", study)}

    def forget_objects(self, study: str, names: Sequence[str]) -> None:
        """Note that files are gone."""
        with self.transaction() as db:
            db.executemany("DELETE FROM objects WHERE study = ? AND name = ?", [(study, name) for name in names])

    def start(self, row: StudyRow) -> None:
        """Note that work on a study begins."""
        with self.transaction() as db:
            db.execute("UPDATE studies SET state = ?, runs = runs + 1 WHERE study = ?", (StudyState.RUNNING, row.study))

    def interrupted(self) -> int:
        """Let studies that a crash or stop left running start again; that is no failure of theirs."""
        with self.transaction() as db:
            values = (StudyState.RECEIVING, StudyState.RUNNING)
            return db.execute("UPDATE studies SET state = ? WHERE state = ?", values).rowcount

    def set_state(self, study: str, state: StudyState, **columns: Any) -> None:
        """Change a study's state, and other columns of it."""
        with self.transaction() as db:
            set_state(db, study, state, **columns)


def set_state(db: sqlite3.Connection, study: str, state: StudyState, **columns: Any) -> None:
    """As `State.set_state`, inside a transaction; columns are names of `StudyRow`."""
    names = "".join(f", {name} = ?" for name in columns)
    db.execute(f"UPDATE studies SET state = ?{names} WHERE study = ?", (state, *columns.values(), study))


def digest_objects(objects: Mapping[str, str]) -> str:
    """One digest over the objects of a study."""
    return hashlib.sha256("".join(f"{name}{objects[name]}" for name in sorted(objects)).encode()).hexdigest()


def _touch(db: sqlite3.Connection, study: str, now: float, *, is_new: bool) -> None:
    """An object arrived: a new or changed one opens a study again, a copy only one that failed."""
    if is_new:
        db.execute(
            "UPDATE studies SET version = version + 1, changed = ?, attempts = 0, next_try = 0, "
            "state = CASE state WHEN ? THEN state ELSE ? END WHERE study = ?",
            (now, StudyState.RUNNING, StudyState.RECEIVING, study),
        )
    else:
        db.execute(
            "UPDATE studies SET changed = ?, attempts = 0, next_try = 0, state = ? WHERE study = ? AND state = ?",
            (now, StudyState.RECEIVING, study, StudyState.DEAD),
        )
        db.execute("UPDATE studies SET changed = ? WHERE study = ? AND state = ?", (now, study, StudyState.RECEIVING))


def _studies(rows: Sequence[tuple[Any, ...]]) -> list[StudyRow]:
    columns = [one.name for one in fields(StudyRow)]
    rows_by_name = [dict(zip(columns, row, strict=True)) for row in rows]
    return [StudyRow(**{**row, "state": StudyState(row["state"])}) for row in rows_by_name]
