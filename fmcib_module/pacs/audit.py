"""What the node did, as one JSON object per line, and how often, for /metrics; never who a patient is."""

import json
import logging
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

QUIET_EVENTS: Final = frozenset({"object-stored", "object-repeated", "association-accepted", "echo"})
"""Counted but not written: there are thousands of them a minute."""

LONGEST_TEXT: Final = 300
"""Characters of a value; what a peer sends may be anything."""


def silence_libraries() -> None:
    """Keep what DICOM libraries remark out of the process's output: they quote values, which may name a patient."""
    for name in ("pynetdicom", "pydicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore")


class Audit:
    """The log, and the counters behind it."""

    def __init__(self, stream: IO[str]) -> None:
        """Write lines to a stream."""
        self._stream = stream
        self._lock = threading.Lock()
        self.counts: dict[str, int] = {}

    def __call__(self, event: str, **fields: Any) -> None:
        """Note an event.

        Args:
            event: Its name, with dashes.
            fields: Hashed keys, AE titles, addresses, reasons; no names, identifiers, dates or absolute paths.
        """
        with self._lock:
            self.counts[event] = self.counts.get(event, 0) + 1
            if event in QUIET_EVENTS:
                return
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            plain = {key: value if isinstance(value, int | float) else _text(value) for key, value in fields.items()}
            with suppress(OSError, ValueError):  # a log that cannot be written must not stop the node
                self._stream.write(json.dumps({"time": now, "event": event, **plain}) + "\n")
                self._stream.flush()

    @contextmanager
    def guard(self, where: str) -> Iterator[None]:
        """Note what goes wrong in a block and go on: one study or peer must not end a thread of the node."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # whatever it is; its message may quote values
            last = traceback.extract_tb(error.__traceback__)[-1]
            self(
                "internal-error",
                where=where,
                reason=f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}",
            )


def _text(value: object) -> str:
    return str(value)[:LONGEST_TEXT]
