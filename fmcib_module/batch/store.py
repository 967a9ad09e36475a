"""The output store: a folder or a bucket, in which a file can be made that must not be there yet."""

import errno
import os
import shutil
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

from fmcib_module.adapters.atomic import replacing, translated_errors, write_bytes
from fmcib_module.batch.retry import DamagedError, retried
from fmcib_module.batch.storage import checked_upload, file_system, is_as_stored, local_path, scheme_of, short_name
from fmcib_module.core.errors import ConfigError

EXCLUSIVE: Final = {"s3", "gs", "gcs"}
"""Schemes whose stores make an object only if it is absent (If-None-Match: *, ifGenerationMatch=0)."""


class Store(Protocol):
    """Files below OUTPUT, named with slashes.

    Attributes:
        folder: Where it lies on this machine's disk; None for a bucket.
    """

    folder: Path | None

    def create(self, name: str, content: bytes, *, private: bool = False) -> bool:
        """Write a file whole, only if it is not there; whether it is now there because of this call.

        A private one can be read by its owner alone; in a bucket, by those who can read the bucket.
        """

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole, whether it is there or not."""

    def upload(self, name: str, path: Path) -> None:
        """Bring a file of any size there whole."""

    def read(self, name: str) -> bytes | None:
        """A file's bytes, None if it is not there."""

    def names(self, folder: str) -> list[str]:
        """Names of the files right in a folder; none where it is absent."""

    def modified(self, name: str) -> float:
        """When a file was written, by the store's own clock: seconds."""


def open_store(location: str, *, anonymous: bool = False) -> Store:
    """The store of OUTPUT.

    Args:
        location: A path, s3:// or gs://.
        anonymous: Send no credentials.

    Raises:
        ConfigError: It is of another kind.
    """
    scheme = scheme_of(location)
    if not scheme:
        return FolderStore(local_path(location))
    if scheme not in EXCLUSIVE:
        raise ConfigError(f"OUTPUT is {scheme}://", "OUTPUT", "use a folder, s3:// or gs://")
    return BucketStore(location, anonymous=anonymous)


class FolderStore:
    """A folder, shared or not; a file is made under another name and linked to its own."""

    def __init__(self, folder: Path) -> None:
        """Nothing is touched."""
        self.folder: Path | None = folder
        self._folder = folder

    def create(self, name: str, content: bytes, *, private: bool = False) -> bool:
        """As `Store.create`: link(2) fails where the name is taken, also over NFS."""
        path = self._folder / name
        with translated_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
            try:
                temporary.touch(mode=0o600 if private else 0o666)
                temporary.write_bytes(content)
                os.link(temporary, path)
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
        return True

    def write(self, name: str, content: bytes) -> None:
        """As `Store.write`."""
        write_bytes(self._folder / name, content)

    def upload(self, name: str, path: Path) -> None:
        """As `Store.upload`."""
        with replacing(self._folder / name) as temporary:
            shutil.copyfile(path, temporary)

    def read(self, name: str) -> bytes | None:
        """As `Store.read`."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """As `Store.names`."""
        try:
            return sorted(name for name in os.listdir(self._folder / folder) if not name.startswith("."))  # noqa: PTH208
        except FileNotFoundError:
            return []

    def modified(self, name: str) -> float:
        """As `Store.modified`."""
        return (self._folder / name).stat().st_mtime


class BucketStore:
    """A prefix of a bucket, through fsspec."""

    def __init__(self, url: str, *, anonymous: bool) -> None:
        """Connect."""
        self.folder: Path | None = None
        self._scheme = scheme_of(url)
        self._fs: Any = file_system(self._scheme, anonymous=anonymous)
        self._root = str(self._fs._strip_protocol(url.rstrip("/")))

    def create(self, name: str, content: bytes, *, private: bool = False) -> bool:
        """As `Store.create`; an answer that was lost is told from a file of somebody else by its content."""
        taken = False

        def attempt() -> None:
            nonlocal taken
            try:
                self._fs.pipe_file(self._path(name), content, mode="create", **checked_upload(self._scheme, content))
            except OSError as error:
                if not isinstance(error, FileExistsError) and error.errno != errno.EINVAL:  # S3's 412, to s3fs
                    raise
                there = self._try_read(name)
                if there is None:
                    raise DamagedError("it was refused and is not there") from error
                taken = there != content

        retried(attempt, short_name(name))
        return not taken

    def write(self, name: str, content: bytes) -> None:
        """As `Store.write`; read back by size and checksum."""

        def attempt() -> None:
            self._fs.pipe_file(self._path(name), content, **checked_upload(self._scheme, content))
            if not is_as_stored(self._fs, self._path(name), content):
                raise DamagedError("what the store holds is not what was sent")

        retried(attempt, short_name(name))

    def upload(self, name: str, path: Path) -> None:
        """As `Store.upload`; a large file goes in parts, which S3 and GCS join only when all are there."""

        def attempt() -> None:
            self._fs.put_file(str(path), self._path(name))
            if int(self._fs.info(self._path(name))["size"]) != path.stat().st_size:
                raise DamagedError("what the store holds is not what was sent")

        retried(attempt, short_name(name))

    def read(self, name: str) -> bytes | None:
        """As `Store.read`."""
        return retried(lambda: self._try_read(name), short_name(name))

    def names(self, folder: str) -> list[str]:
        """As `Store.names`."""

        def attempt() -> list[str]:
            try:
                return [str(path) for path in self._fs.ls(self._path(folder), detail=False)]
            except FileNotFoundError:
                return []

        return sorted(path.rpartition("/")[2] for path in retried(attempt, folder) if not path.endswith("/"))

    def modified(self, name: str) -> float:
        """As `Store.modified`."""
        found: datetime = retried(lambda: self._fs.modified(self._path(name)), short_name(name))
        return found.timestamp()

    def _try_read(self, name: str) -> bytes | None:
        try:
            content: bytes = self._fs.cat_file(self._path(name))
        except FileNotFoundError:
            return None
        if not is_as_stored(self._fs, self._path(name), content):
            raise DamagedError("what arrived is not what the store holds")
        return content

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"
