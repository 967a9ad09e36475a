"""A folder of anything -> every series, ROI source and problem in it, from headers alone."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from fmcib_module.adapters import seed_files
from fmcib_module.adapters.derived import tolerant_of_source
from fmcib_module.adapters.dicom_header import Header, read_header
from fmcib_module.adapters.dicom_series import build_series, with_output_names
from fmcib_module.adapters.folder import list_files
from fmcib_module.adapters.image_files import is_image_file
from fmcib_module.adapters.image_folder import image_series, is_mask
from fmcib_module.adapters.linking import link_sources
from fmcib_module.adapters.report_marks import sort_report
from fmcib_module.adapters.roi_references import kind_of, read_references
from fmcib_module.adapters.unforeseen import unforeseen
from fmcib_module.core.conventions import REPORT_KINDS, SeedKind
from fmcib_module.core.domain import FileProblem, RoiSource, Scan, Series, Study
from fmcib_module.core.errors import InputError

Progress = Callable[[int, int], None]
"""Called with (files read, files in all)."""


@dataclass(slots=True)
class _Findings:
    """What the files turned out to be."""

    headers: list[Header] = field(default_factory=list)
    sources: list[RoiSource] = field(default_factory=list)
    reports: list[tuple[Header, SeedKind]] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    problems: list[FileProblem] = field(default_factory=list)
    ignored: int = 0


def read_studies(folder: str | Path) -> tuple[Study, ...]:
    """Find the studies in a folder; headers only.

    Raises:
        InputError: There is no such folder.
    """
    return scan_folder(Path(folder)).studies


def scan_folder(folder: Path, *, exclude: Path | None = None, progress: Progress | None = None) -> Scan:
    """Find everything in a folder: nested, of many patients, with or without file extensions, other files in between.

    Only headers are read. A DICOMDIR is not followed. What cannot be used is listed with a reason: a damaged file or
    an ROI source without its CT as a problem, a series that is not CT with its `skip_reason`. Whether the slices of a
    series are one volume is not decided here but by `grid_of` and `read_volume`. The result does not depend on the
    order in which the file system lists files.

    Args:
        folder: The input; a single file is taken as a folder of one.
        exclude: A folder in it that is left out, such as the output folder.
        progress: Told how far the reading is.

    Raises:
        InputError: There is no such file or folder.
    """
    listing = list_files(folder, exclude=exclude)
    found = _Findings(ignored=listing.others)
    for path in listing.broken:
        error = InputError("a link to nothing, or a folder that may not be opened", path.name, "correct it")
        found.problems.append(FileProblem(path.relative_to(listing.root).as_posix(), "", error))
    for done, path in enumerate(listing.files, start=1):
        try:
            with unforeseen(path.name):
                _sort_file(path, listing.root, found)
        except InputError as error:
            found.problems.append(FileProblem(path.relative_to(listing.root).as_posix(), "", error))
        if progress is not None:
            progress(done, len(listing.files))
    _sort_reports(found)
    dicom, without_geometry = build_series(found.headers, listing.root)
    series = with_output_names([*dicom, *image_series(found.images, listing.root)])
    sources, contradicted = _without_copies(found.sources, listing.root)
    series, unlinked = link_sources(series, sources, listing.root)
    problems = [*found.problems, *without_geometry, *contradicted, *unlinked]
    return Scan(
        studies=_studies(series),
        problems=tuple(sorted(problems, key=lambda problem: problem.path)),
        ignored_files=found.ignored,
    )


def _sort_file(path: Path, root: Path, found: _Findings) -> None:
    """Decide what a file is and put it with its like.

    Raises:
        InputError: It looks like imaging data but cannot be read.
    """
    if is_image_file(path):
        if is_mask(path, root):
            found.sources.append(RoiSource(path=path, kind=SeedKind.MASK, uid=path.relative_to(root).as_posix()))
        else:
            found.images.append(path)
        return
    if path.name.lower().endswith(seed_files.SUFFIXES):
        names = seed_files.sniff(path)
        if names is None:
            found.ignored += 1
        else:
            uid = path.relative_to(root).as_posix()
            found.sources.append(RoiSource(path=path, kind=SeedKind.POINT, uid=uid, referenced_series_uids=names))
        return
    header = None if path.name.upper() == "DICOMDIR" else read_header(path)
    if header is None:
        found.ignored += 1
    elif (kind := kind_of(header)) in REPORT_KINDS:
        found.reports.append((header, kind))
    elif kind is not None:
        with tolerant_of_source():
            found.sources.append(read_references(header, kind))
    else:
        found.headers.append(header)


def _sort_reports(found: _Findings) -> None:
    """Put reports that mark something on a CT with the sources, the others with what is no CT."""
    images = [header for header in found.headers if header.slices and not header.problem]
    for header, kind in found.reports:
        with tolerant_of_source():
            sorted_report = sort_report(header, kind, images)
        if isinstance(sorted_report, RoiSource):
            found.sources.append(sorted_report)
        else:
            found.headers.append(sorted_report)


def _without_copies(sources: list[RoiSource], root: Path) -> tuple[list[RoiSource], list[FileProblem]]:
    """Take an object that is there twice once.

    Returns:
        The first file of every SOPInstanceUID; and a problem for each further one that does not hold the same bytes,
        because results name their source by its UID alone.
    """
    kept: list[RoiSource] = []
    problems: list[FileProblem] = []
    for _, same_uid in groupby(sorted(sources, key=lambda s: (s.kind, s.uid, s.path)), key=lambda s: (s.kind, s.uid)):
        first, *others = same_uid
        kept.append(first)
        for other in others:
            if _digest(other.path) != _digest(first.path):
                what = f"another {other.kind} with the SOPInstanceUID of {first.path.relative_to(root).as_posix()}"
                error = InputError(
                    what, f"SOPInstanceUID {other.uid}", "keep the one that is meant, or give it a new UID"
                )
                problems.append(FileProblem(other.path.relative_to(root).as_posix(), other.uid, error))
    return kept, problems


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _studies(series: list[Series]) -> tuple[Study, ...]:
    ordered = sorted(series, key=lambda one: (one.study_uid, one.uid, one.output_name))
    return tuple(Study(uid, tuple(group)) for uid, group in groupby(ordered, key=lambda one: one.study_uid))
