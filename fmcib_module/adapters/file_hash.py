"""SHA-256 of files; that of a large one is remembered while the file is not touched (0.45 s for 738 MB)."""

import hashlib
import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.core.errors import OutputError

REMEMBERED_FROM_BYTES: Final = 50_000_000


def sha256_of(path: Path, *, memory: Path, again: bool = False) -> str:
    """SHA-256 of a file, hexadecimal.

    Args:
        path: The file.
        memory: Folder with one small record per large file; made if it can be, not needed.
        again: Read the file even if it is remembered.

    Raises:
        OSError: The file cannot be read.
    """
    stat = path.stat()
    # any write moves the change time, which no program can set back
    state = {"size": stat.st_size, "mtime": stat.st_mtime_ns, "ctime": stat.st_ctime_ns, "inode": stat.st_ino}
    record = memory / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.json"
    if again:
        return _remember(record, state, _read(path))
    return _known(path, record, json.dumps(state))


@cache
def _known(path: Path, record: Path, state_json: str) -> str:
    state = json.loads(state_json)
    if state["size"] < REMEMBERED_FROM_BYTES:
        return _read(path)
    try:
        remembered = json.loads(record.read_bytes())
        if remembered["state"] == state and len(remembered["sha256"]) == 64:
            return str(remembered["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no record, or not one of ours
    return _remember(record, state, _read(path))


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remember(record: Path, state: dict[str, Any], sha256: str) -> str:
    if state["size"] >= REMEMBERED_FROM_BYTES:
        with suppress(OutputError):  # a cache that cannot be written only costs time
            write_bytes(record, json.dumps({"state": state, "sha256": sha256}).encode())
    return sha256
