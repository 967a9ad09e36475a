"""ROI sources -> the series they belong to: by reference, by frame of reference, by study, or by where they lie."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fmcib_module.adapters.image_files import read_image_grid
from fmcib_module.adapters.image_folder import image_of_mask
from fmcib_module.adapters.seed_files import names_series
from fmcib_module.core.conventions import DICOM_KINDS, REPORT_KINDS, SeedKind
from fmcib_module.core.domain import FileProblem, RoiSource, Series
from fmcib_module.core.errors import FmcibError, FrameOfReferenceError, InputError, SeedNotFoundError
from fmcib_module.core.stacking import stack_slices, uniform_grid, why_not_one_volume
from fmcib_module.core.volume import Grid


def link_sources(
    series: Sequence[Series], sources: Sequence[RoiSource], root: Path
) -> tuple[list[Series], list[FileProblem]]:
    """Attach each ROI source to the CT series it was drawn on.

    Args:
        series: All series of the input; only those that are not skipped get sources.
        sources: RTSTRUCT, SEG, seed tables, masks and reports, in the order of their files.
        root: The input folder.

    Returns:
        The series with their sources, in the same order; and a problem for each source that belongs to none.
    """
    attached: list[list[RoiSource]] = [[] for _ in series]
    problems: list[FileProblem] = []
    for source in sources:
        chosen, error = _find(source, series, root)
        for n in chosen:
            attached[n].append(source)
        if error is not None:
            problems.append(FileProblem(source.path.relative_to(root).as_posix(), _sop_uid(source), error))
    linked = [replace(one, roi_sources=tuple(found)) for one, found in zip(series, attached, strict=True)]
    return linked, problems


def _find(source: RoiSource, series: Sequence[Series], root: Path) -> tuple[list[int], FmcibError | None]:
    """Numbers of the series a source belongs to, and what is wrong where it is not with all it names."""
    if source.kind is SeedKind.MASK:
        return _find_for_mask(source, series, root)
    if source.kind is SeedKind.POINT:
        return _find_for_table(source, series, root)
    if source.kind in REPORT_KINDS:
        return _find_for_report(source, series)
    return _find_for_dicom(source, series)


def _find_for_dicom(source: RoiSource, series: Sequence[Series]) -> tuple[list[int], FmcibError | None]:
    """By the series it names, else by the images, else by frame of reference (same study first), else by study.

    Where a series was split into acquisitions, the images it names choose the part; without them every part is meant,
    as every CT in the frame of reference is: positions hold in all of them.
    """
    ct = [n for n, one in enumerate(series) if not one.skip_reason and one.image_path is None]
    named = [n for n in ct if series[n].uid in source.referenced_series_uids]
    shown = [n for n in ct if any(i.sop_instance_uid in source.referenced_sop_uids for i in series[n].instances)]
    frame = source.frame_of_reference_uid
    same_frame = [n for n in ct if frame and series[n].frame_of_reference_uid == frame]
    same_study = [n for n in ct if series[n].study_uid == source.study_uid]
    in_both = [n for n in same_frame if n in same_study]
    only = same_study if len(same_study) == 1 else []
    for found in ([n for n in named if n in shown], named, shown, in_both, same_frame, only):
        if found:
            return found, None
    return [], _no_series(source, series)


def _find_for_report(source: RoiSource, series: Sequence[Series]) -> tuple[list[int], FmcibError | None]:
    """By the images it marks, and by the frame of reference of what it marks in space (as `_find_for_dicom`)."""
    ct = [n for n, one in enumerate(series) if not one.skip_reason and one.image_path is None]
    present = {n: {i.sop_instance_uid for i in series[n].instances} & source.referenced_sop_uids for n in ct}
    shown = [n for n in ct if present[n]]
    frame = source.frame_of_reference_uid
    same_frame = [n for n in ct if frame and series[n].frame_of_reference_uid == frame]
    named = [n for n in same_frame if series[n].uid in source.referenced_series_uids]
    in_both = [n for n in same_frame if series[n].study_uid == source.study_uid]
    in_space = [n for n in same_frame if n in shown] or named or in_both or same_frame
    found = sorted({*shown, *in_space})
    absent = source.referenced_sop_uids.difference(*present.values())
    if found and not absent:
        return found, None
    what = f"{len(absent)} of {len(source.referenced_sop_uids)} images that it marks are not in the input as CT"
    where = f"{source.kind} SOPInstanceUID {source.uid}"
    return found, SeedNotFoundError(what, where, "add the series that they belong to")


def _no_series(source: RoiSource, series: Sequence[Series]) -> FmcibError:
    where = f"{source.kind} SOPInstanceUID {source.uid}"
    skipped = next((one for one in series if one.uid in source.referenced_series_uids), None)
    if skipped is not None:
        what = f"drawn on series {skipped.uid}, which is skipped ({skipped.skip_reason})"
        return SeedNotFoundError(f"{what}, and no CT shares its frame of reference", where, "add the CT it belongs to")
    names = ", ".join(source.referenced_series_uids[:3]) or "none"
    if source.frame_of_reference_uid:
        what = (
            f"no CT series in the input has its FrameOfReferenceUID {source.frame_of_reference_uid} "
            f"or is the series it names ({names})"
        )
        return FrameOfReferenceError(what, where, "add the CT series it was drawn on")
    what = f"it belongs to no CT series of the input (series it names: {names})"
    return SeedNotFoundError(what, where, "add the CT series it was drawn on")


def _find_for_table(source: RoiSource, series: Sequence[Series], root: Path) -> tuple[list[int], FmcibError | None]:
    """By the series named inside, else by its file's or folder's name, else by where it lies, else the only one."""
    usable = [n for n, one in enumerate(series) if not one.skip_reason]
    if source.referenced_series_uids:
        found = [n for n in usable if any(names_series(name, series[n]) for name in source.referenced_series_uids)]
        absent = [
            name for name in source.referenced_series_uids if not any(names_series(name, series[n]) for n in usable)
        ]
        return found, _absent_series(source, absent)
    names = {_stem(source.path), source.path.parent.name if source.path.parent != root else ""}
    by_name = [n for n in usable if names & {series[n].uid, series[n].output_name}]
    found = by_name or _near(source.path, series, usable, root) or (usable if len(usable) == 1 else [])
    if found:
        return found, None
    what = f"a seed table that names no series, among {len(usable)} it could belong to"
    fix = "add the SeriesInstanceUID to its rows, or name the file or its folder by it"
    return [], SeedNotFoundError(what, source.uid, fix)


def _absent_series(source: RoiSource, absent: Sequence[str]) -> FmcibError | None:
    if not absent:
        return None
    named = len(source.referenced_series_uids)
    what = f"{len(absent)} of {named} series that this seed table names are not in the input as CT: {absent[0]}"
    more = ", ..." if len(absent) > 1 else ""
    return SeedNotFoundError(what + more, source.uid, "add these series, or remove their rows")


def _find_for_mask(source: RoiSource, series: Sequence[Series], root: Path) -> tuple[list[int], FmcibError | None]:
    """By the names of image files beside or above it, else the only DICOM CT under its folder that it overlaps."""
    numbers = {one.image_path: n for n, one in enumerate(series) if one.image_path is not None}
    image = image_of_mask(source.path, [path for path in numbers if path is not None], root)
    if image is not None:
        return [numbers[image]], None
    dicom = [n for n, one in enumerate(series) if not one.skip_reason and one.image_path is None]
    near = _near(source.path, series, dicom, root)
    try:
        mask_grid = read_image_grid(source.path)
    except InputError as error:
        return [], error
    if near and _overlaps(series[near[0]], mask_grid):
        return near, None
    what = f"a mask beside which there is {'a CT that it does not overlap' if near else 'not exactly one CT'}"
    return [], SeedNotFoundError(what, source.uid, "put it beside its image, with a name that begins like the image's")


def _near(path: Path, series: Sequence[Series], numbers: Sequence[int], root: Path) -> list[int]:
    """The only series with files in a file's folder or below; if there is none, in the folder above it."""
    folders = [path.parent] if path.parent == root else [path.parent, path.parent.parent]
    for folder in folders:
        found = [n for n in numbers if any(file.is_relative_to(folder) for file in _files(series[n]))]
        if found:
            return found if len(found) == 1 else []
    return []


def _files(series: Series) -> list[Path]:
    image = [] if series.image_path is None else [series.image_path]
    return image + [instance.path for instance in series.instances]


def _overlaps(series: Series, mask_grid: Grid) -> bool:
    """Whether the boxes of a series and a mask meet; a series that is no volume is not told apart from it here."""
    if why_not_one_volume(series.instances, series.uid) is not None:
        return True
    low_a, high_a = _box(uniform_grid(stack_slices(series.instances, series.uid)))
    low_b, high_b = _box(mask_grid)
    return bool(np.all(low_a <= high_b) and np.all(low_b <= high_a))


def _box(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest (x, y, z) of the corner voxels' centres, LPS mm."""
    k, j, i = grid.shape
    corners = np.array([(a, b, c, 1) for a in (0, i - 1) for b in (0, j - 1) for c in (0, k - 1)], dtype=np.float64)
    points = (corners @ grid.matrix.T)[:, :3]
    return points.min(axis=0), points.max(axis=0)


def _stem(path: Path) -> str:
    """A table's name without its suffixes; UIDs hold dots, so only known suffixes are cut."""
    name = path.name
    for suffix in (".mrk.json", ".json", ".csv", ".fcsv"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _sop_uid(source: RoiSource) -> str:
    return source.uid if source.kind in DICOM_KINDS else ""
