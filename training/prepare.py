"""`python -m training prepare FILE`: lesion tables and folders of scans -> the cache that training reads.

Run again after a kill it goes on where it stopped, checks what is there and repairs what is damaged; the cache comes
out the same, byte for byte.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.adapters.volume_reader import grid_of, read_volume
from fmcib_module.core.conventions import PATCH_SIZE, Irregular, Mode
from fmcib_module.core.domain import Series
from fmcib_module.core.errors import ConfigError, InputError, OutputError
from fmcib_module.core.volume import Grid
from fmcib_module.settings import from_plain, read_yaml, to_plain
from training.bars import Bar
from training.cache import INDEX, LesionCache
from training.cache_writer import (
    CacheForm,
    ScanJob,
    check_room,
    check_spacing,
    one_writer,
    read_done,
    write_index,
    write_scan,
)
from training.scan_jobs import all_lesions, collect_jobs, with_splits

log = logging.getLogger(__name__)

Told = Callable[[int, int], None]
"""Called with (scans done, scans in all)."""


@dataclass(frozen=True, slots=True)
class PrepareSettings:
    """What is cached, and how; the keys of the YAML file are exactly these fields, paths relative to the file.

    Attributes:
        cache: Folder of the cache.
        licence: Of the data; goes into exported weights.
        tables: Lesion tables (CSV or Parquet; see lesion_table.py).
        images: Folder that the tables' image paths are relative to, or that holds their DICOM series; "" for each
            table's own folder.
        folders: Folders of DICOM or image files whose ROIs, masks and points are lesions.
        rois: Which ROIs of `folders`, as in the settings of a run; empty takes all.
        proposals: Pseudo-lesions that are sought in each scan, annotated or not.
        tissue_points: Points that are drawn anywhere in the tissue of each scan, and are learned from like lesions.
        mode: How scans are resampled; the chain's default is published.
        crop_edge: Edge of the lesion crops, voxels: the patch of 50 and a margin on each side.
        shared_patients: Take tables in which a patient is in two splits, as in published ones; the log says how many.
        published_seed_index: Take a seed's index before the scan is reoriented, as the published loader does (see
            published_index.py).
        irregular: refuse, or resample, slices that are not one uniform grid.
        max_spacing_mm: Leave out scans with a larger spacing on any axis (the paper: 3); 0 takes all.
        val: Share of the patients without a split that become val.
        test: Likewise test.
        seed: Of splits, proposals and tissue points.
        workers: Processes.
    """

    cache: str
    licence: str
    tables: tuple[str, ...] = ()
    images: str = ""
    folders: tuple[str, ...] = ()
    rois: tuple[str, ...] = ()
    proposals: int = 0
    tissue_points: int = 0
    mode: Mode = Mode.PUBLISHED
    crop_edge: int = 64
    shared_patients: bool = False
    published_seed_index: bool = False
    irregular: Irregular = Irregular.REFUSE
    max_spacing_mm: float = 0.0
    val: float = 0.0
    test: float = 0.0
    seed: int = 1
    workers: int = 1

    def __post_init__(self) -> None:
        if not self.tables and not self.folders:
            raise ConfigError("there is nothing to cache", "tables, folders", "name a lesion table or a folder")
        if self.crop_edge < PATCH_SIZE or self.crop_edge % 2:
            raise ConfigError(
                f"crop_edge is {self.crop_edge}", "crop_edge", f"use an even number, {PATCH_SIZE} or more"
            )
        if self.val < 0 or self.test < 0 or self.val + self.test > 1:
            raise ConfigError(f"val is {self.val}, test is {self.test}", "val, test", "use shares of 0 to 1")
        for name, least in (("workers", 1), ("proposals", 0), ("tissue_points", 0), ("max_spacing_mm", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}", name, f"use {least} or more")


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """What came of it.

    Attributes:
        cache: The folder.
        n_scans: In the cache.
        n_lesions: In the cache.
        n_kept: Scans that were already there, whole.
        failures: (what, reason) of every scan and lesion that is not in the cache.
    """

    cache: Path
    n_scans: int
    n_lesions: int
    n_kept: int
    failures: tuple[tuple[str, str], ...]


def prepare(settings_path: Path) -> None:
    """The verb.

    Raises:
        ConfigError: The settings are wrong.
        InputError: A table is wrong, a folder absent, or some scans or lesions could not be cached (the others are).
        OutputError: See `build_cache`.
    """
    settings = from_plain(PrepareSettings, read_yaml(settings_path), where=settings_path.name)
    with Bar("scans") as bar:
        report = build_cache(settings, settings_path.parent, told=bar.told)
    log.info("%d lesions in %d scans (%d kept)", report.n_lesions, report.n_scans, report.n_kept)
    for what, reason in report.failures:
        log.warning("%s: %s", what, reason)
    if report.failures:
        raise InputError(
            f"{len(report.failures)} scan(s) or lesion(s) are not in the cache",
            report.cache.name,
            "see the lines above",
        )


def build_cache(settings: PrepareSettings, base: Path, *, told: Told = lambda done, total: None) -> PrepareReport:
    """Write the cache, or what is missing of it.

    Args:
        settings: What and how.
        base: Folder that the paths in the settings are relative to.
        told: Told after every scan.

    Raises:
        InputError: A table is wrong or a folder absent, a patient is in two splits, or not one scan could be cached.
        OutputError: There is not enough room, another process writes this cache, or it was made from something else.
    """
    folder = base / settings.cache
    jobs, failures = collect_jobs(
        tables=[base / table for table in settings.tables],
        images=base / settings.images if settings.images else None,
        folders=[base / name for name in settings.folders],
        rois=settings.rois,
        shared_patients=settings.shared_patients,
    )
    jobs = with_splits(jobs, val=settings.val, test=settings.test, seed=settings.seed)
    _check_patients(jobs, allowed=settings.shared_patients)
    form = _form(settings)
    about = {"table_sha256": _table_sha256(jobs, form), "licence": settings.licence}
    with one_writer(folder):
        _claim(folder, form, about)
        sized, unusable = _sized(jobs, form)
        records = {job.name: record for job, _ in sized if (record := read_done(folder, job.name)) is not None}
        kept = len(records)
        missing = [(job, grid) for job, grid in sized if job.name not in records]
        check_room(folder, missing, form)
        if missing:
            (folder / INDEX).unlink(missing_ok=True)
        for job, outcome in _write_all(folder, [job for job, _ in missing], form, settings.workers):
            if isinstance(outcome, InputError):
                unusable.append((job.image, outcome.what))
            else:
                records[job.name] = outcome
                told(len(records), len(sized))
        if not records:
            reason = (failures + unusable)[0][1] if failures + unusable else "there is no scan in the folders"
            raise InputError(f"no scan could be cached: {reason}", folder.name, "check the tables and folders")
        write_index(folder, form=form, records=records, failures=sorted(failures + unusable), about=about)
    cache = LesionCache(folder)
    return PrepareReport(folder, len(cache.scans), len(cache.lesions), kept, tuple(cache.failures))


def _check_patients(jobs: list[ScanJob], *, allowed: bool) -> None:
    """Refuse splits that share patients, or say how many they share.

    Raises:
        InputError: A patient has lesions in two splits (of one table or of two), and that was not asked for.
    """
    n_shared = len(all_lesions(jobs).shared_patients)
    if n_shared and not allowed:
        fix = "give all lesions of a patient the same split, or set shared_patients if the tables are meant so"
        raise InputError(f"{n_shared} patient(s) have lesions in more than one split", "tables", fix)
    if n_shared:
        log.warning("%d patients have lesions in more than one split, as shared_patients allows", n_shared)


def _form(settings: PrepareSettings) -> CacheForm:
    return CacheForm(
        mode=settings.mode,
        crop_edge=settings.crop_edge,
        proposals=settings.proposals,
        tissue_points=settings.tissue_points,
        published_seed_index=settings.published_seed_index,
        irregular=settings.irregular,
        max_spacing_mm=settings.max_spacing_mm,
        seed=settings.seed,
    )


def _table_sha256(jobs: list[ScanJob], form: CacheForm) -> str:
    """Of all lesions; what is sought is a function of the scans and the form, so these stand for it."""
    sought = [form.proposals, form.tissue_points, form.seed] if form.proposals or form.tissue_points else []
    drawn = [[job.image, job.split] for job in jobs] + sought if sought else []
    return hashlib.sha256(json.dumps([all_lesions(jobs).sha256, drawn]).encode()).hexdigest()


def _claim(folder: Path, form: CacheForm, about: dict[str, str]) -> None:
    """Write down what the cache is made from, or check that it is the same.

    Raises:
        OutputError: The folder holds another cache.
    """
    path = folder / "made_from.json"
    content = json.dumps({**to_plain(form), **about}, sort_keys=True, indent=1).encode()
    if not path.exists():
        write_bytes(path, content)
    elif path.read_bytes() != content:
        raise OutputError(
            "it holds a cache of other lesions or settings", folder.name, "give another folder, or remove this one"
        )


def _sized(jobs: list[ScanJob], form: CacheForm) -> tuple[list[tuple[ScanJob, Grid]], list[tuple[str, str]]]:
    """Jobs with their grids, from headers, and those that have none."""
    sized, failures = [], []
    for job in jobs:
        try:
            if isinstance(job.source, Series):
                grid, _ = grid_of(job.source, form.irregular)
            else:
                grid = read_volume(job.source, irregular=form.irregular).grid
            check_spacing(grid, form.max_spacing_mm)
        except InputError as error:
            failures.append((job.image, error.what))
        else:
            sized.append((job, grid))
    return sized, failures


def _write_all(
    folder: Path, jobs: list[ScanJob], form: CacheForm, workers: int
) -> Iterator[tuple[ScanJob, dict[str, Any] | InputError]]:
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            yield job, _write_one(folder, job, form)
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        pending = {pool.submit(_write_one, folder, job, form): job for job in jobs}
        for future in as_completed(pending):
            yield pending[future], future.result()


def _write_one(folder: Path, job: ScanJob, form: CacheForm) -> dict[str, Any] | InputError:
    """One scan; what is wrong with it does not stop the others."""
    try:
        return write_scan(folder, job, form)
    except InputError as error:
        return error
