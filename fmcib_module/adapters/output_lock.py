"""One run at a time writes to a folder, and clears away what a killed one left half-written."""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from fmcib_module.adapters.atomic import PARTIAL_PATTERN
from fmcib_module.core.errors import OutputError


class OutputLock:
    """Holds a folder until it is released or the process ends, however it ends.

    The lock is on the folder itself, so that no file is left. Where the file system knows no locks (some network
    shares), nothing is locked and nothing cleared away.
    """

    def __init__(self, folder: Path, *, stale_after_s: float = 0.0) -> None:
        """Lock a folder and remove partial files in it and in its sub-folders.

        Args:
            folder: It is there.
            stale_after_s: Leave younger ones alone: others who hold no lock, as jobs of a batch, may be writing them.

        Raises:
            OutputError: Another run holds it.
        """
        self._descriptor: int | None = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            fix = "wait for it to end, or choose another folder"
            raise OutputError("another run is writing to OUTPUT", folder.name, fix) from error
        except OSError:
            self.release()
            return
        for partial in folder.rglob(PARTIAL_PATTERN):
            with suppress(FileNotFoundError):  # it got its own name meanwhile
                if time.time() - partial.stat().st_mtime >= stale_after_s:
                    partial.unlink()

    def release(self) -> None:
        """Let others write."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
