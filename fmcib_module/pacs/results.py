"""Results that wait to be delivered: their files in the outbox, and who has them in the state.

An object goes out as it was first made: a file with the same SOPInstanceUID never takes its place, so nothing is
delivered twice with different content.
"""

import os
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from fmcib_module.pacs.audit import Audit
from fmcib_module.pacs.received import Received, read_received_file
from fmcib_module.pacs.spool import flush_folder
from fmcib_module.pacs.state import State

LONGEST_WAIT_S: Final = 300.0


class DeliveryState(StrEnum):
    """Whether a destination has an object."""

    PENDING = "pending"
    DELIVERED = "delivered"


@dataclass(frozen=True, slots=True)
class Delivery:
    """An object for a destination.

    Attributes:
        name: Hashed SOPInstanceUID.
        study: Hashed StudyInstanceUID.
        attempts: Failures so far.
        path: The file.
    """

    name: str
    study: str
    attempts: int
    path: Path


class Outbox:
    """Files on their way out."""

    def __init__(self, folder: Path, state: State, audit: Audit, destinations: Sequence[str]) -> None:
        """Make the folder."""
        self._folder, self._state, self._audit, self._destinations = folder, state, audit, tuple(destinations)
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, paths: Sequence[Path]) -> list[Received]:
        """Keep files under names of their own, durably; those that are not yet known are returned, to be noted."""
        new = []
        for path in paths if self._destinations else ():
            result = read_received_file(path)
            known = self._state.rows("SELECT sha256 FROM deliveries WHERE name = ? LIMIT 1", result.name)
            if known and known[0][0] != result.sha256:
                self._audit("result-kept-as-first-made", study=result.study, object=result.name)
            kept = self._path(result.name)
            if not known:
                kept.unlink(missing_ok=True)  # left by a crash before it was noted
                new.append(result)
            if not known or (known[0][0] == result.sha256 and not kept.exists()):
                os.link(path, kept)
        flush_folder(self._folder)
        return new

    def note(self, db: sqlite3.Connection, study: str, results: Sequence[Received]) -> None:
        """Note that files wait for every destination, inside a transaction."""
        rows = [
            (result.name, destination, study, result.sha256, DeliveryState.PENDING, 0, 0.0, "")
            for result in results
            for destination in self._destinations
        ]
        db.executemany("INSERT OR IGNORE INTO deliveries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def due(self, destination: str, limit: int) -> list[Delivery]:
        """What may be sent now, study by study."""
        query = (
            "SELECT name, study, attempts FROM deliveries WHERE state = ? AND destination = ? AND next_try <= ? "
            "ORDER BY next_try, study LIMIT ?"
        )
        rows = self._state.rows(query, DeliveryState.PENDING, destination, time.time(), limit)
        return [Delivery(name, study, attempts, self._path(name)) for name, study, attempts in rows]

    def delivered(self, destination: str, delivery: Delivery) -> None:
        """Note that a destination has an object."""
        with self._state.transaction() as db:
            db.execute(
                "UPDATE deliveries SET state = ?, reason = '' WHERE name = ? AND destination = ?",
                (DeliveryState.DELIVERED, delivery.name, destination),
            )
        self._audit("delivered", destination=destination, study=delivery.study, object=delivery.name)

    def failed(self, destination: str, delivery: Delivery, reason: str, back_off_s: float) -> None:
        """Note that it must be sent again, later with each failure."""
        wait_s = min(back_off_s * 2 ** min(delivery.attempts, 16), LONGEST_WAIT_S)
        with self._state.transaction() as db:
            db.execute(
                "UPDATE deliveries SET attempts = attempts + 1, next_try = ?, reason = ? "
                "WHERE name = ? AND destination = ?",
                (time.time() + wait_s, reason, delivery.name, destination),
            )
        self._audit("delivery-failed", destination=destination, study=delivery.study, reason=reason)

    def waiting(self) -> dict[str, int]:
        """Destination -> objects that it does not have yet."""
        query = "SELECT destination, count(*) FROM deliveries WHERE state = ? GROUP BY destination"
        found = dict(self._state.rows(query, DeliveryState.PENDING))
        return {name: int(found.get(name, 0)) for name in self._destinations}

    def remove_study(self, study: str) -> None:
        """Delete the files of a study."""
        for (name,) in self._state.rows("SELECT DISTINCT name FROM deliveries WHERE study = ?", study):
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.dcm"
