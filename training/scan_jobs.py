"""What `prepare` is asked for -> the scans to be cached, each with its lesions, from headers and tables alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fmcib_module.adapters.dicom_import import scan_folder
from fmcib_module.adapters.image_files import is_image_file
from fmcib_module.adapters.seed_finder import find_rois
from fmcib_module.core.domain import Series
from fmcib_module.core.errors import InputError
from fmcib_module.core.naming import safe_name
from training.cache_writer import ScanJob
from training.lesion_table import LesionRow, LesionTable, patient_splits, read_lesion_table


@dataclass(slots=True)
class _Found:
    """A scan while its lesions are gathered."""

    source: Series | Path
    lesions: list[tuple[LesionRow, str]]


def collect_jobs(
    *,
    tables: Iterable[Path],
    images: Path | None,
    folders: Iterable[Path],
    rois: tuple[str, ...],
    shared_patients: bool = False,
) -> tuple[list[ScanJob], list[tuple[str, str]]]:
    """Find the scans and their lesions; no split is drawn yet.

    Args:
        tables: Lesion tables.
        images: Where the tables' images are; None for each table's own folder.
        folders: Folders of DICOM or image files whose ROIs (RTSTRUCT, SEG, masks, points) are the lesions.
        rois: Which ROIs, as in the settings of a run; empty takes all.
        shared_patients: Take tables whose splits share patients.

    Returns:
        Jobs by name, and (what, reason) of what cannot be used.

    Raises:
        InputError: A table is wrong, or a folder absent.
    """
    scans: dict[str, _Found] = {}
    failures: list[tuple[str, str]] = []
    for table in tables:
        failures += _add_table(scans, read_lesion_table(table, shared_patients=shared_patients), images or table.parent)
    for folder in folders:
        failures += _add_folder(scans, folder, rois)
    jobs = [_job(image, found) for image, found in scans.items()]
    return sorted(jobs, key=lambda job: job.name), failures


def with_splits(jobs: list[ScanJob], *, val: float, test: float, seed: int) -> list[ScanJob]:
    """Give every lesion and scan a split, patient by patient; those of the tables stay."""
    given: dict[str, str] = {}
    for job in jobs:
        for patient, split in [(job.patient, job.split), *((row.patient, row.split) for row, _ in job.lesions)]:
            if not given.get(patient):
                given[patient] = split
    splits = patient_splits(given, val=val, test=test, seed=seed)
    return [
        replace(
            job,
            split=job.split or splits[job.patient],
            lesions=tuple(
                (replace(row, split=row.split or splits[row.patient]), source) for row, source in job.lesions
            ),
        )
        for job in jobs
    ]


def all_lesions(jobs: list[ScanJob]) -> LesionTable:
    """In the order of the jobs."""
    return LesionTable(tuple(row for job in jobs for row, _ in job.lesions))


def _add_table(scans: dict[str, _Found], table: LesionTable, images: Path) -> list[tuple[str, str]]:
    by_uid: Mapping[str, Series] | None = None
    failures = []
    for row in table.rows:
        if row.image not in scans:
            source: Series | Path | None = _image_path(images, row.image)
            if source is None:
                by_uid = _series_by_uid(images) if by_uid is None else by_uid
                source = by_uid.get(row.image)
            if source is None:
                failures.append((f"{Path(row.image).name} at {row.lps_mm}", "there is no such image or series"))
                continue
            scans[row.image] = _Found(source, [])
        scans[row.image].lesions.append((row, "table"))
    return failures


def _image_path(images: Path, name: str) -> Path | None:
    """The image of a row: the path as it is (absolute or below `images`), else a file of this name in `images`."""
    for path in (images / name, images / Path(name).name):
        if (path.is_file() and is_image_file(path)) or path.is_dir():
            return path
    return None


def _series_by_uid(folder: Path) -> dict[str, Series]:
    return {series.uid: series for study in scan_folder(folder).studies for series in study.series}


def _add_folder(scans: dict[str, _Found], folder: Path, rois: tuple[str, ...]) -> list[tuple[str, str]]:
    failures = []
    for study in scan_folder(folder).studies:
        for series in study.series:
            if series.skip_reason:
                continue
            image = f"{folder.name}/{series.uid}"
            if image in scans:
                raise InputError("two scans have the same name", image, "give the folders different names")
            seeds, problems = find_rois(series, rois=rois)
            failures += [(f"{image}: {problem.label}", problem.error.what) for problem in problems]
            patient = study.uid or image
            rows = [
                LesionRow(image, seed.lps_mm, seed.label, "", patient, max(seed.extent_mm or (0.0,))) for seed in seeds
            ]
            scans[image] = _Found(series, [(row, "roi") for row in rows])
    return failures


def _job(image: str, found: _Found) -> ScanJob:
    first = found.lesions[0][0] if found.lesions else LesionRow(image, (0.0, 0.0, 0.0), patient=image)
    name = safe_name(image.replace("/", "_"))
    return ScanJob(name, image, found.source, tuple(found.lesions), first.patient, first.split)
