"""An item of the manifest -> one folder that the importer can read, on a disk that never fills up."""

import csv
import fcntl
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fmcib_module.adapters.atomic import translated_errors
from fmcib_module.batch.items import Item, SeedRow
from fmcib_module.batch.retry import StoreError
from fmcib_module.batch.storage import (
    RemoteObject,
    difference,
    endpoint_url,
    fetch_object,
    list_objects,
    local_path,
    scheme_of,
    short_name,
)

SEEDS_NAME: Final = "manifest_seeds.csv"
"""The seed table that is written of a manifest's own points."""

CONNECTIONS: Final = 16
"""Objects that are downloaded at once."""

FETCH_LIMIT_S: Final = 3600
"""A download by s5cmd that takes longer is stopped; what is missing is fetched one by one."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An item on this machine's disk.

    Attributes:
        folder: What the importer reads.
        n_bytes: Downloaded; 0 where it was here already.
    """

    folder: Path
    n_bytes: int


class Scratch:
    """Disk for downloads, at most so many bytes at once; an item larger than all of it is taken alone.

    Attributes:
        folder: A worker's own; what dead workers left beside it is deleted.
    """

    def __init__(self, parent: Path, limit_bytes: int) -> None:
        """Make a folder of its own.

        Raises:
            OutputError: The disk is full or read-only.
        """
        with translated_errors(parent):
            parent.mkdir(parents=True, exist_ok=True)
            with (parent / "lock").open("w") as lock:  # nobody deletes what is not locked yet
                fcntl.flock(lock, fcntl.LOCK_EX)
                _delete_of_dead(parent)
                self.folder = Path(tempfile.mkdtemp(prefix="worker-", dir=parent))
                self._lock = _lock_of(self.folder).open("w")
                fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.peak_bytes = 0
        self._limit = limit_bytes
        self._used = 0
        self._freed = threading.Condition()

    def close(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        _lock_of(self.folder).unlink(missing_ok=True)
        self._lock.close()

    def take(self, n_bytes: int) -> None:
        """Wait until there is room, and take it."""
        with self._freed:
            self._freed.wait_for(lambda: self._used == 0 or self._used + n_bytes <= self._limit)
            self._used += n_bytes
            self.peak_bytes = max(self.peak_bytes, self._used)

    def give_back(self, n_bytes: int) -> None:
        """Let the next one in."""
        with self._freed:
            self._used -= n_bytes
            self._freed.notify_all()


class Fetcher:
    """Brings items here and takes them away again."""

    def __init__(self, scratch: Scratch, *, root: Path, anonymous: bool) -> None:
        """Remember where to.

        Args:
            scratch: Where downloads go.
            root: What relative paths of the manifest are relative to.
            anonymous: Send no credentials to object stores.
        """
        self._scratch = scratch
        self._root = root
        self._anonymous = anonymous
        self._s5cmd = shutil.which("s5cmd")

    def fetch(self, item: Item) -> Fetched:
        """Bring an item here: downloads are verified by size and checksum, local folders are used where they lie.

        Raises:
            StoreError: A source is absent, forbidden, or keeps failing; nothing of the item is left on the disk.
            OutputError: The scratch folder cannot be written.
        """
        if len(item.sources) == 1 and not item.seeds and not scheme_of(item.sources[0]):
            return Fetched(self._local(item.sources[0]), 0)
        remote = {url: list_objects(url, anonymous=self._anonymous) for url in item.sources if scheme_of(url)}
        n_bytes = sum(found.size for objects in remote.values() for found in objects)
        self._scratch.take(n_bytes)
        fetched = Fetched(self._scratch.folder / item.key, n_bytes)
        try:
            with translated_errors(fetched.folder):
                shutil.rmtree(fetched.folder, ignore_errors=True)
                fetched.folder.mkdir()
                for number, source in enumerate(item.sources):
                    part = fetched.folder if len(item.sources) == 1 else fetched.folder / f"{number}"
                    if source in remote:
                        self._download(source, remote[source], part)
                    else:
                        _link(self._local(source), part)
                if item.seeds:
                    _write_seeds(fetched.folder / SEEDS_NAME, item.seeds, item.series_uid)
        except BaseException:
            self.drop(fetched)
            raise
        return fetched

    def drop(self, fetched: Fetched) -> None:
        """Delete what was downloaded, and nothing else."""
        if fetched.folder.parent == self._scratch.folder:
            shutil.rmtree(fetched.folder, ignore_errors=True)
            self._scratch.give_back(fetched.n_bytes)

    def _local(self, source: str) -> Path:
        path = self._root / local_path(source)
        if not path.exists():
            raise StoreError("there is no such file or folder", short_name(source), "check the manifest's path")
        return path

    def _download(self, url: str, objects: Sequence[RemoteObject], folder: Path) -> None:
        """By s5cmd where it is there; then one by one what has not arrived whole."""
        scheme = scheme_of(url)
        folder.mkdir(parents=True, exist_ok=True)
        if self._s5cmd is not None and scheme == "s3" and not set(url) & set("*?["):
            self._download_by_s5cmd(url, folder, is_prefix=objects[0].path != _key(url))
        missing = [found for found in objects if difference(folder / found.name, found)]
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="fetch") as threads:
            for _ in threads.map(lambda found: self._fetch_one(found, folder, scheme), missing):
                pass

    def _fetch_one(self, found: RemoteObject, folder: Path, scheme: str) -> None:
        fetch_object(found, folder / found.name, scheme=scheme, anonymous=self._anonymous)

    def _download_by_s5cmd(self, url: str, folder: Path, *, is_prefix: bool) -> None:
        """Its own retries are few: whatever goes wrong here is fetched again, and says then what it is."""
        options = ["--numworkers", str(CONNECTIONS), "--retry-count", "3"]
        options += ["--no-sign-request"] if self._anonymous else []
        options += ["--endpoint-url", endpoint] if (endpoint := endpoint_url()) else []
        source = f"{url.rstrip('/')}/*" if is_prefix else url
        command = [str(self._s5cmd), *options, "cp", source, f"{folder}{os.sep}"]
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=FETCH_LIMIT_S)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _delete_of_dead(parent: Path) -> None:
    """Delete folders of workers that hold their locks no longer."""
    for path in parent.glob("worker-*.lock"):
        with suppress(OSError), path.open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            path.unlink(missing_ok=True)


def _key(url: str) -> str:
    """Bucket and key of an object's URL."""
    return url.partition("://")[2]


def _link(source: Path, target: Path) -> None:
    """Put a local source into the item's folder without a copy of it."""
    if source.is_file():
        target.mkdir(exist_ok=True)
        (target / source.name).symlink_to(source.absolute())
    elif target.is_dir():  # the item's only source, beside its seed points
        (target / "source").symlink_to(source.absolute())
    else:
        target.symlink_to(source.absolute())


def _write_seeds(path: Path, seeds: Sequence[SeedRow], series_uid: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["coordX", "coordY", "coordZ", "label", "series_uid"])
        writer.writerows([*map(repr, seed.lps_mm), seed.label, series_uid] for seed in seeds)
