"""Received objects on disk: whole or not there, durable before they are acknowledged, never more than the disk allows.

Each file is written and flushed by the thread that received it. What follows (renames, the flush of folders, the entry
in the state) is done for all waiting objects at once, so that parallel senders share its cost.
"""

import os
import queue
import shutil
import threading
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fmcib_module.core.errors import InputError, OutputError
from fmcib_module.pacs.audit import Audit
from fmcib_module.pacs.received import Received, read_received_file
from fmcib_module.pacs.state import State, StudyState

LARGEST_BATCH: Final = 64
FOLDERS_AT_ONCE: Final = 8


@dataclass(slots=True)
class _Waiting:
    """An object whose file is on disk under a temporary name; None for one that is there already."""

    received: Received
    temporary: Path | None
    done: "Future[bool]"  # whether its file is there


class Spool:
    """The folder of received objects: STUDY/OBJECT.dcm, both hashed names."""

    def __init__(self, folder: Path, state: State, audit: Audit, *, free_bytes: int) -> None:
        """Make the folder, remove what a crash left half written, and start.

        Args:
            folder: For objects only.
            state: Where objects are noted.
            audit: The log.
            free_bytes: Disk space that is left to others.
        """
        self.folder = folder
        self._incoming = folder.parent / "incoming"
        self._state, self._audit, self._free_bytes = state, audit, free_bytes
        self._promised = 0
        self._lock, self._naming = threading.Lock(), threading.Lock()
        self._flushers = ThreadPoolExecutor(max_workers=FOLDERS_AT_ONCE, thread_name_prefix="flush")
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        shutil.rmtree(self._incoming, ignore_errors=True)
        for path in (folder, self._incoming):
            path.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._commit_all, name="spool")
        self._thread.start()

    def close(self) -> None:
        """Finish what waits, and stop."""
        self._queue.put(None)
        self._thread.join()
        self._flushers.shutdown()

    def has_room(self, size: int = 0) -> bool:
        """Whether the disk has room for so many bytes more, besides those that are on their way."""
        return shutil.disk_usage(self.folder).free - self._promised - size >= self._free_bytes

    def store(self, received: Received, content: bytes) -> bool:
        """Keep an object; it is durable when this returns.

        Returns:
            False where the same bytes were there already.

        Raises:
            OutputError: The disk is full, or cannot be written.
        """
        is_known = self._state.digest_of(received.study, received.name) == received.sha256
        if is_known and self._wait(_Waiting(received, None, Future())):
            return False
        with self._lock:
            if not self.has_room(received.size):
                raise OutputError("the disk is full up to its limit", "spool", "free disk space")
            self._promised += received.size
        temporary = self._incoming / uuid.uuid4().hex
        try:
            _write_flushed(temporary, content)
            self._wait(_Waiting(received, temporary, Future()))
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror}", "spool", "free disk space") from error
        finally:
            temporary.unlink(missing_ok=True)
            with self._lock:
                self._promised -= received.size
        return True

    def path(self, study: str, name: str) -> Path:
        """Where an object is."""
        return self.folder / study / f"{name}.dcm"

    def reconcile(self) -> None:
        """After a crash: note files that the state does not know, forget those that are not there."""
        for folder in self.folder.iterdir():
            there = {path.stem for path in folder.iterdir()}
            known = self._state.all_objects(folder.name)
            found = []
            for name in sorted(there - known):
                try:
                    found.append(read_received_file(self.path(folder.name, name)))
                except InputError:
                    self._audit("object-unreadable", study=folder.name, object=name)
            if found:
                self._state.add_objects(found)
                self._audit("objects-recovered", study=folder.name, objects=len(found))
        for row in self._state.studies():
            gone = [name for name in self._state.all_objects(row.study) if not self.path(row.study, name).is_file()]
            if gone:
                self._state.forget_objects(row.study, gone)
                self._audit("objects-gone", study=row.study, objects=len(gone))

    def remove_study(self, study: str) -> bool:
        """Delete the objects of a study, unless it has been opened again.

        Returns:
            Whether they are deleted.
        """
        with self._naming:
            if self._state.study(study).state not in (StudyState.DONE, StudyState.DEAD):
                return False
            self._state.forget_objects(study, sorted(self._state.all_objects(study)))
            shutil.rmtree(self.folder / study, ignore_errors=True)
        return True

    def _wait(self, waiting: _Waiting) -> bool:
        self._queue.put(waiting)
        return waiting.done.result()

    def _commit_all(self) -> None:
        while (first := self._queue.get()) is not None:
            batch: list[_Waiting] = [first]
            stop = False
            while len(batch) < LARGEST_BATCH and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    stop = True
                    break
                batch.append(following)
            try:
                with self._naming:
                    there = self._commit(batch)
            except Exception as error:  # noqa: BLE001  # each sender is told, whatever it was
                for waiting in batch:
                    waiting.done.set_exception(
                        OSError(0, type(error).__name__) if not isinstance(error, OSError) else error
                    )
            else:
                for waiting in batch:
                    waiting.done.set_result(id(waiting) in there)
            if stop:
                return

    def _commit(self, batch: list[_Waiting]) -> set[int]:
        """Names, folders and state for some objects; gives back which of them are there."""
        folders: set[Path] = set()
        there = []
        for waiting in batch:
            target = self.path(waiting.received.study, waiting.received.name)
            if waiting.temporary is None:
                there += [waiting] if target.is_file() else []
                continue
            if not target.parent.exists():
                target.parent.mkdir()
                folders.add(self.folder)
            waiting.temporary.replace(target)
            folders.add(target.parent)
            there.append(waiting)
        list(self._flushers.map(flush_folder, folders))  # at once: the file system writes its journal once for all
        self._state.add_objects([waiting.received for waiting in there])
        return {id(waiting) for waiting in there}


def _write_flushed(path: Path, content: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        view = memoryview(content)
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
