"""Files that appear whole or not at all: written under another name in the same folder, flushed, renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fmcib_module.core.errors import OutputError

PARTIAL_PATTERN: Final = ".*.*.partial"
"""What `PendingFile` calls a file that is not whole yet: .NAME.PROCESS.partial."""


class PendingFile:
    """A file that is not there yet.

    Attributes:
        path: Where it will appear.
        temporary: Where to write it; a hidden name in the same folder, since a rename is atomic only within one
            file system.
    """

    def __init__(self, path: Path) -> None:
        """Make the folder; nothing is written.

        Raises:
            OutputError: The folder cannot be made.
        """
        self.path = path
        self.temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
        with translated_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)

    def commit(self) -> None:
        """Flush the temporary file to disk and rename it.

        Raises:
            OutputError: The disk is full, or the folder is gone or read-only.
        """
        with translated_errors(self.path):
            _flush(self.temporary)
            self.temporary.replace(self.path)
            _flush(self.path.parent)

    def discard(self) -> None:
        """Remove the temporary file; what was at `path` before stays."""
        self.temporary.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `path` when the block ends without an error.

    Raises:
        OutputError: The file cannot be written.
    """
    pending = PendingFile(path)
    try:
        with translated_errors(path):
            yield pending.temporary
        pending.commit()
    finally:
        pending.discard()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file at once.

    Raises:
        OutputError: The file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's errors into ours; only the last two parts of `path` are named."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        where = f"{path.parent.name}/{path.name}"
        raise OutputError(f"cannot be written: {reason}", where, "free disk space or check permissions") from error


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
