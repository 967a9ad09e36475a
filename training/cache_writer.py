"""Writing the cache: one scan at a time, each whole or not at all, by one writer, to where there is room for it."""

import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.adapters.atomic import replacing, write_bytes
from fmcib_module.adapters.volume_reader import read_volume
from fmcib_module.core.conventions import AIR_HU, HU_RANGE, PATCH_SIZE, Irregular, Mode
from fmcib_module.core.domain import Series
from fmcib_module.core.errors import InputError, OutputError
from fmcib_module.core.patch import grid_index, resample_slab
from fmcib_module.core.patch_grid import patch_grid
from fmcib_module.core.volume import Grid, Volume
from training.cache import FORMAT, INDEX, Index3, cut_box, file_sha256
from training.lesion_table import LesionRow
from training.proposals import propose_seeds
from training.published_index import published_index
from training.tissue_points import draw_tissue_points

SLAB: Final = 32
"""Slices that are resampled at a time, which bounds the memory."""

ROOM: Final = 1.02
"""Free bytes asked for, relative to what the arrays take: records and the file system's own need some."""


@dataclass(frozen=True, slots=True)
class ScanJob:
    """A scan to be cached.

    Attributes:
        name: Of its files.
        image: Where it comes from, for the record.
        source: What is read: a series, an image file or a DICOM folder.
        lesions: Its lesions, with splits, and where each comes from (table or roi).
        patient: Whose scan it is, for proposals.
        split: Likewise.
    """

    name: str
    image: str
    source: Series | Path
    lesions: tuple[tuple[LesionRow, str], ...]
    patient: str
    split: str


@dataclass(frozen=True, slots=True)
class CacheForm:
    """How scans are cached; another form is another cache.

    Attributes:
        mode: How scans are resampled and seeds become voxels.
        crop_edge: Edge of the lesion crops, voxels.
        proposals: Pseudo-lesions that are sought in each scan.
        tissue_points: Points that are drawn in the tissue of each scan.
        published_seed_index: Take the seed's index before the scan is reoriented, as the published loader does.
        irregular: What to do with slices that are not one uniform grid.
        max_spacing_mm: Scans with a larger spacing on any axis are left out; 0 takes all.
        seed: Of proposals and tissue points.
    """

    mode: Mode
    crop_edge: int
    proposals: int
    tissue_points: int
    published_seed_index: bool
    irregular: Irregular
    max_spacing_mm: float
    seed: int


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold the cache for writing; the lock ends with the process, however that ends.

    Raises:
        OutputError: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".writer.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(
                "another process is writing this cache", folder.name, "wait for it, or stop it"
            ) from error
        for partial in folder.glob("*/.*.partial"):  # of a writer that was killed: nobody else is writing now
            partial.unlink()
        yield


def check_room(folder: Path, jobs: Sequence[tuple[ScanJob, Grid]], form: CacheForm) -> int:
    """Bytes that the arrays of `jobs` will take.

    Raises:
        OutputError: The disk has less; nothing has been written.
    """
    needed = sum(job_bytes(job, grid, form) for job, grid in jobs)
    free = shutil.disk_usage(folder).free
    if free < needed * ROOM:
        raise OutputError(
            f"the cache needs {needed * ROOM / 1e9:.2f} GB more and the disk has {free / 1e9:.2f} GB",
            folder.name,
            "free disk space, or write the cache elsewhere",
        )
    return needed


def job_bytes(job: ScanJob, grid: Grid, form: CacheForm) -> int:
    """Bytes of a scan's arrays, from its header alone (what is sought and not found takes none)."""
    n_lesions = len(job.lesions) + form.proposals + form.tissue_points
    return 2 * (int(np.prod(patch_grid(grid, form.mode).size)) + n_lesions * form.crop_edge**3)


def read_done(folder: Path, name: str) -> dict[str, Any] | None:
    """The record of a scan that is cached and undamaged (its arrays are read and compared), or None."""
    try:
        record: dict[str, Any] = json.loads((folder / "records" / f"{name}.json").read_text(encoding="utf-8"))
        for kind in ("scan", "crops"):
            path = folder / ("scans" if kind == "scan" else "crops") / f"{name}.npy"
            if file_sha256(path) != record[f"{kind}_sha256"]:
                return None
    except (OSError, ValueError, KeyError, InputError):
        return None
    return record


def write_scan(folder: Path, job: ScanJob, form: CacheForm) -> dict[str, Any]:
    """Resample a scan, cut its lesions, write both and their record.

    Returns:
        The record.

    Raises:
        InputError: The scan cannot be read, or is left out; nothing of it is written.
        OutputError: The disk is full or read-only.
    """
    volume = read_volume(job.source, irregular=form.irregular)
    check_spacing(volume.grid, form.max_spacing_mm)
    (folder / "records" / f"{job.name}.json").unlink(missing_ok=True)
    scan_path, crops_path = folder / "scans" / f"{job.name}.npy", folder / "crops" / f"{job.name}.npy"
    with replacing(scan_path) as temporary, temporary.open("wb") as file:
        voxels = resample_scan(volume, form.mode)
        np.save(file, voxels)
    lesions, rejected = _place_lesions(volume, voxels, job, form)
    with replacing(crops_path) as temporary, temporary.open("wb") as file:
        crops = [cut_box(voxels, lesion["centre_zyx"], form.crop_edge) for lesion in lesions]
        np.save(file, np.stack(crops) if crops else np.empty((0, *(form.crop_edge,) * 3), dtype=np.int16))
    record = {
        "image": job.image,
        "shape": list(voxels.shape),
        "scan_sha256": file_sha256(scan_path),
        "crops_sha256": file_sha256(crops_path),
        "lesions": lesions,
        "rejected": rejected,
    }
    write_bytes(folder / "records" / f"{job.name}.json", _json(record))
    return record


def write_index(
    folder: Path, *, form: CacheForm, records: dict[str, Any], failures: list[tuple[str, str]], about: dict[str, str]
) -> None:
    """Declare the cache whole.

    Args:
        folder: Of the cache.
        form: How it was made.
        records: Name -> record of every scan in it.
        failures: (what, reason) of every scan and lesion that is not.
        about: `table_sha256` and `licence`.
    """
    failures = failures + [(what, reason) for record in records.values() for what, reason in record["rejected"]]
    index = {"format": FORMAT, **asdict(form), **about, "failures": failures, "scans": dict(sorted(records.items()))}
    write_bytes(folder / INDEX, _json(index))


def check_spacing(grid: Grid, limit_mm: float) -> None:
    """Refuse a scan that is too coarse.

    Raises:
        InputError: Its spacing on an axis is above the limit.
    """
    if limit_mm and max(grid.spacing_mm) > limit_mm + 1e-6:
        raise InputError(
            f"its spacing is {max(grid.spacing_mm):.2f} mm, above {limit_mm:g} mm", "scan", "raise max_spacing_mm"
        )


def resample_scan(volume: Volume, mode: Mode) -> NDArray[np.int16]:
    """The whole scan on its 1 mm grid, (Z, Y, X) int16 HU, rounded to whole HU."""
    x, y, z = patch_grid(volume.grid, mode).size
    voxels = np.empty((z, y, x), dtype=np.int16)
    for first in range(0, z, SLAB):
        slab = resample_slab(volume, first, min(first + SLAB, z), mode)
        np.clip(np.rint(slab * np.float32(HU_RANGE) + np.float32(AIR_HU)), -32768, 32767, out=slab)
        voxels[first : first + SLAB] = slab
    return voxels


def _place_lesions(
    volume: Volume, voxels: NDArray[np.int16], job: ScanJob, form: CacheForm
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Each lesion with its voxel, and why those that are none are left out."""
    lesions: list[dict[str, Any]] = []
    rejected: list[tuple[str, str]] = []
    for row, source in job.lesions:
        index = published_index if form.published_seed_index else grid_index
        x, y, z = index(volume.grid, row.lps_mm, form.mode)
        if all(-PATCH_SIZE // 2 < c < n + PATCH_SIZE // 2 for c, n in zip((z, y, x), voxels.shape, strict=True)):
            lesions.append(_lesion(row, (z, y, x), source))
        else:
            rejected.append((f"{job.image}: {row.label or 'lesion'} at {row.lps_mm}", "its patch is outside the scan"))
    to_ras_mm = patch_grid(volume.grid, form.mode).to_ras_mm
    for (z, y, x), diameter_mm, source in _sought(voxels, job, form):
        right, anterior, superior, _ = to_ras_mm @ (x, y, z, 1.0)
        lps_mm = (float(-right), float(-anterior), float(superior))
        row = LesionRow(job.image, lps_mm, "", job.split, job.patient, diameter_mm)
        lesions.append(_lesion(row, (z, y, x), source))
    return lesions, rejected


def _sought(voxels: NDArray[np.int16], job: ScanJob, form: CacheForm) -> Iterator[tuple[Index3, float, str]]:
    """(voxel, diameter, source) of what no table names; drawn by scan, whichever others are cached."""
    rng = np.random.default_rng([form.seed, *job.image.encode()])
    if form.proposals:
        for found in propose_seeds(voxels, form.proposals, rng):
            yield found.centre_zyx, 2 * found.radius_mm, "proposal"
    for centre_zyx in draw_tissue_points(voxels, form.tissue_points, rng):
        yield centre_zyx, 0.0, "tissue"


def _lesion(row: LesionRow, centre_zyx: Index3, source: str) -> dict[str, Any]:
    fields = asdict(row)
    del fields["image"], fields["others"]
    return {**fields, "centre_zyx": centre_zyx, "source": source}


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1).encode()
