"""What `fmcib watch` remembers: how far it read the changes, which studies wait; in SQLite, safe from a kill."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fmcib_module.core.errors import ConfigError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS place (peer TEXT PRIMARY KEY, seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS study (
    name TEXT PRIMARY KEY, waits INTEGER NOT NULL DEFAULT 1, next_try REAL NOT NULL DEFAULT 0,
    started TEXT NOT NULL DEFAULT '', attempts INTEGER NOT NULL DEFAULT 0,
    finished TEXT NOT NULL DEFAULT '', outcome TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '');
"""


class End(StrEnum):
    """What became of a study."""

    DONE = "done"
    INCOMPLETE = "incomplete"  # no CT, or nothing drawn on it
    FAILED = "failed"  # no lesion came through, or every attempt failed


@dataclass(frozen=True, slots=True)
class Remembered:
    """A study that waits.

    Attributes:
        name: Orthanc's own.
        started: Digest of the objects that the last attempt was about.
        attempts: How many attempts at them began.
        finished: Digest of the objects that the last finished attempt was about.
    """

    name: str
    started: str
    attempts: int
    finished: str


class WatchState:
    """The file; every method is one transaction that is on disk when it returns."""

    def __init__(self, path: Path) -> None:
        """Open or make it.

        Raises:
            ConfigError: It cannot be opened.
        """
        try:
            self._db = sqlite3.connect(path)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            what = f"the state cannot be opened ({type(error).__name__})"
            raise ConfigError(what, path.name, "give a folder that can be written and is on a local disk") from error

    def close(self) -> None:
        """Close it; further calls fail."""
        self._db.close()

    def place(self, peer: str) -> int | None:
        """Number of the last change that was noted; None where none was."""
        found = self._db.execute("SELECT seq FROM place WHERE peer = ?", (peer,)).fetchone()
        return None if found is None else int(found[0])

    def note(self, peer: str, seq: int, studies: Iterable[str] = ()) -> None:
        """Let studies wait, and remember how far the changes were read."""
        with self._db:
            for name in studies:
                self._db.execute(
                    "INSERT INTO study (name) VALUES (?) ON CONFLICT (name) DO UPDATE SET waits = 1, next_try = 0",
                    (name,),
                )
            self._db.execute("INSERT OR REPLACE INTO place VALUES (?, ?)", (peer, seq))

    def waiting(self, now: float) -> list[Remembered]:
        """Studies whose turn it may be."""
        query = "SELECT name, started, attempts, finished FROM study WHERE waits AND next_try <= ? ORDER BY rowid"
        return [Remembered(*row) for row in self._db.execute(query, (now,))]

    def count_failed(self) -> int:
        """How many studies failed and were not opened again since."""
        query = "SELECT count(*) FROM study WHERE outcome = ? AND NOT waits"
        return int(self._db.execute(query, (End.FAILED,)).fetchone()[0])

    def begin(self, name: str, digest: str) -> int:
        """Note that an attempt begins, before it can do harm; returns how many began for these objects."""
        with self._db:
            self._db.execute(
                "UPDATE study SET attempts = CASE started WHEN ? THEN attempts + 1 ELSE 1 END, started = ? "
                "WHERE name = ?",
                (digest, digest, name),
            )
        found = self._db.execute("SELECT attempts FROM study WHERE name = ?", (name,)).fetchone()
        return int(found[0])

    def interrupted(self, name: str) -> None:
        """Take an attempt back that was stopped on purpose, or by the peer."""
        with self._db:
            self._db.execute("UPDATE study SET attempts = attempts - 1 WHERE name = ?", (name,))

    def try_again(self, name: str, at: float, reason: str) -> None:
        """Let a study wait until a time."""
        with self._db:
            self._db.execute("UPDATE study SET next_try = ?, reason = ? WHERE name = ?", (at, reason, name))

    def finish(self, name: str, digest: str, outcome: End, reason: str = "") -> None:
        """A study waits no more; it is opened again by the next change of it."""
        with self._db:
            self._db.execute(
                "UPDATE study SET waits = 0, attempts = 0, finished = ?, outcome = ?, reason = ? WHERE name = ?",
                (digest, outcome, reason, name),
            )

    def settle(self, name: str) -> None:
        """A study waits no more, and nothing became of it: it is as it was."""
        with self._db:
            self._db.execute("UPDATE study SET waits = 0 WHERE name = ?", (name,))

    def forget(self, name: str) -> None:
        """A study is gone from the peer."""
        with self._db:
            self._db.execute("DELETE FROM study WHERE name = ?", (name,))
