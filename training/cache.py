"""The cache of scans and lesion crops that training reads: what lies where, and reading it.

CACHE/index.json            what was made from what; written last, so a cache with an index is whole
CACHE/scans/NAME.npy        (Z, Y, X) int16 HU, 1 mm, axes towards superior, posterior, left
CACHE/crops/NAME.npy        (n, E, E, E) int16 HU: the scan's lesions, each seed at voxel E // 2 on every axis
CACHE/records/NAME.json     one scan's lesions and checksums; written after its arrays

Arrays are plain .npy and read as memory maps: a patch costs the pages it lies on, not its scan.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.conventions import AIR_HU
from fmcib_module.core.domain import Point
from fmcib_module.core.errors import InputError
from training.lesion_table import SPLITS

FORMAT: Final = 1
INDEX: Final = "index.json"

MAPS: Final = 256
"""Arrays that are kept mapped: each holds a file open, and a process may hold about 1,000."""

Index3 = tuple[int, int, int]
"""(z, y, x), voxels."""


@dataclass(frozen=True, slots=True)
class CachedScan:
    """A scan of the cache.

    Attributes:
        name: Of its files.
        image: Where it came from: a table's image, or folder and series.
        shape: (Z, Y, X).
        scan_sha256: Of scans/NAME.npy.
        crops_sha256: Of crops/NAME.npy.
    """

    name: str
    image: str
    shape: Index3
    scan_sha256: str
    crops_sha256: str


@dataclass(frozen=True, slots=True)
class CachedLesion:
    """A lesion of the cache.

    Attributes:
        scan: Number of its scan.
        crop: Its row in the scan's crops.
        centre_zyx: Voxel of the scan that holds its seed.
        lps_mm: The seed.
        label: As in the table, or the ROI's name; "" where unknown.
        split: train, val or test.
        patient: Whose it is.
        diameter_mm: 0 where unknown.
        source: table, roi, proposal or tissue.
        lesion: Its name in the table.
        time: Years to the event or to the last time seen; None where unknown.
        event: Whether it is the event; None where unknown.
    """

    scan: int
    crop: int
    centre_zyx: Index3
    lps_mm: Point
    label: str
    split: str
    patient: str
    diameter_mm: float
    source: str
    lesion: str = ""
    time: float | None = None
    event: bool | None = None


class LesionCache:
    """An opened cache; threads may share it.

    Attributes:
        folder: Where it lies.
        mode: How the scans were resampled.
        crop_edge: E, voxels.
        licence: Of the data.
        table_sha256: Of the lesions it was made from.
        scans: Every scan, in the order of their names.
        lesions: Every lesion, scan by scan.
        failures: (what, reason) of every scan and lesion that is not in the cache.
    """

    def __init__(self, folder: Path) -> None:
        """Open a finished cache; sizes are checked, contents by `verify`.

        Raises:
            InputError: It is absent, unfinished or damaged; the message names the file.
        """
        self.folder = folder
        self._open = lru_cache(maxsize=MAPS)(lambda path: np.load(path, mmap_mode="r"))
        index = _read_json(folder / INDEX, "run `python -m training prepare` to its end")
        if index.get("format") != FORMAT:
            raise damaged(INDEX, f"format {index.get('format')!r}, expected {FORMAT}")
        self.mode: str = index["mode"]
        self.crop_edge: int = index["crop_edge"]
        self.licence: str = index["licence"]
        self.table_sha256: str = index["table_sha256"]
        self.failures: list[tuple[str, str]] = [(what, reason) for what, reason in index["failures"]]
        self.scans = tuple(_scan(name, record) for name, record in index["scans"].items())
        self.lesions = tuple(
            lesion for n, record in enumerate(index["scans"].values()) for lesion in record_lesions(record, n)
        )
        for relative, count, _ in self._files():
            expected = count * 2 + npy_header_bytes(folder / relative)
            if (folder / relative).stat().st_size != expected:
                raise damaged(relative, f"{(folder / relative).stat().st_size} bytes, expected {expected}")

    def verify(self) -> None:
        """Read every file and compare its checksum.

        Raises:
            InputError: A file is damaged; the message names it.
        """
        for relative, _, checksum in self._files():
            if file_sha256(self.folder / relative) != checksum:
                raise damaged(relative, "its SHA-256 is not the recorded one")

    def rows(self, split: str) -> NDArray[np.int64]:
        """Numbers of the lesions of a split; "" takes all.

        Raises:
            InputError: There is none.
        """
        if split and split not in SPLITS:
            raise InputError(f"there is no split {split!r}", self.folder.name, f"use one of {', '.join(SPLITS)}")
        rows = [n for n, lesion in enumerate(self.lesions) if not split or lesion.split == split]
        if not rows:
            raise InputError(f"the cache has no lesion in split {split!r}", self.folder.name, "prepare it with some")
        return np.array(rows, dtype=np.int64)

    def read_crop(self, row: int, edge: int) -> NDArray[np.int16]:
        """A lesion's surroundings, (edge, edge, edge) int16 HU; its seed is at edge // 2."""
        if edge > self.crop_edge:
            msg = f"crops have an edge of {self.crop_edge}, asked for {edge}"
            raise ValueError(msg)
        lesion = self.lesions[row]
        at = self.crop_edge // 2 - edge // 2
        inner = slice(at, at + edge)
        return np.asarray(self._map("crops", lesion.scan)[lesion.crop, inner, inner, inner])

    def read_box(self, scan: int, centre_zyx: Index3, edge: int) -> NDArray[np.int16]:
        """Any cube of a scan, (edge, edge, edge) int16 HU, air outside; `centre_zyx` is at edge // 2."""
        return cut_box(self._map("scans", scan), centre_zyx, edge)

    def read_scan(self, scan: int) -> NDArray[np.int16]:
        """A whole scan, (Z, Y, X) int16 HU, mapped."""
        return self._map("scans", scan)

    def _map(self, kind: str, scan: int) -> NDArray[np.int16]:
        voxels: NDArray[np.int16] = self._open(self.folder / kind / f"{self.scans[scan].name}.npy")
        return voxels

    def _files(self) -> Iterator[tuple[str, int, str]]:
        """(relative path, voxels, SHA-256) of every array."""
        counts = np.bincount([lesion.scan for lesion in self.lesions], minlength=len(self.scans))
        for scan, n_lesions in zip(self.scans, counts, strict=True):
            z, y, x = scan.shape
            yield f"scans/{scan.name}.npy", z * y * x, scan.scan_sha256
            yield f"crops/{scan.name}.npy", int(n_lesions) * self.crop_edge**3, scan.crops_sha256


def cut_box(voxels: NDArray[np.int16], centre_zyx: Index3, edge: int) -> NDArray[np.int16]:
    """A cube around a voxel, (edge, edge, edge); the voxel is at edge // 2, air where the scan ends."""
    starts = [c - edge // 2 for c in centre_zyx]
    inside = [slice(max(a, 0), max(min(a + edge, n), 0)) for a, n in zip(starts, voxels.shape, strict=True)]
    box = voxels[tuple(inside)]
    if box.shape == (edge, edge, edge):
        return np.ascontiguousarray(box)
    out = np.full((edge,) * 3, AIR_HU, dtype=np.int16)
    if box.size:
        out[tuple(slice(s.start - a, s.start - a + n) for s, a, n in zip(inside, starts, box.shape, strict=True))] = box
    return out


def record_lesions(record: Mapping[str, Any], scan: int) -> list[CachedLesion]:
    """The lesions of a scan's record."""
    return [CachedLesion(scan=scan, crop=n, **_tuples(fields)) for n, fields in enumerate(record["lesions"])]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise damaged(f"{path.parent.name}/{path.name}", error.strerror or "unreadable") from error


def npy_header_bytes(path: Path) -> int:
    """Bytes before the voxels of a .npy file.

    Raises:
        InputError: It is absent or not a .npy file.
    """
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            return file.tell()
    except (OSError, ValueError) as error:
        raise damaged(f"{path.parent.name}/{path.name}", "absent or not an array") from error


def damaged(where: str, what: str) -> InputError:
    """The error for a file of the cache that is not as it was written."""
    return InputError(f"the cache is damaged: {what}", where, "run `python -m training prepare` again: it repairs")


def _scan(name: str, record: Mapping[str, Any]) -> CachedScan:
    z, y, x = record["shape"]
    return CachedScan(name, record["image"], (z, y, x), record["scan_sha256"], record["crops_sha256"])


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}


def _read_json(path: Path, fix: str) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("there is no finished cache", f"{path.parent.name}/{path.name}", fix) from error
    return loaded
