"""Every ROI source of a series -> seeds, and a reason for each ROI that gives none."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fmcib_module.adapters.derived import tolerant_of_source
from fmcib_module.adapters.mask_files import label_mask, list_labels
from fmcib_module.adapters.report_marks import list_marked
from fmcib_module.adapters.roi_candidates import RoiCandidate, choose
from fmcib_module.adapters.rtstruct import POINT_RADIUS_MM, list_rtstruct_rois, rtstruct_mask
from fmcib_module.adapters.seed_files import list_points
from fmcib_module.adapters.seg import list_segments, segment_mask
from fmcib_module.adapters.unforeseen import unforeseen
from fmcib_module.core.centroid import sphere_on_grid
from fmcib_module.core.conventions import POINT_KINDS, SeedKind
from fmcib_module.core.domain import RoiFailure, RoiSource, Seed, Series
from fmcib_module.core.errors import FmcibError, InputError, SeedNotFoundError
from fmcib_module.core.volume import Grid

_LISTERS: dict[SeedKind, Callable[[RoiSource, Series], list[RoiCandidate]]] = {
    SeedKind.RTSTRUCT: list_rtstruct_rois,
    SeedKind.SEG: list_segments,
    SeedKind.POINT: list_points,
    SeedKind.MASK: list_labels,
    SeedKind.SR: list_marked,
    SeedKind.GSPS: list_marked,
}


def find_seeds(
    series: Series, *, rois: tuple[str, ...] = (), kinds: tuple[SeedKind, ...] = tuple(SeedKind)
) -> tuple[Seed, ...]:
    """The lesions' centres in a series; `find_rois` also tells which ROIs give none, and why.

    Raises:
        SeedNotFoundError: There is not a single one; the message gives the first reason.
    """
    seeds, failures = find_rois(series, rois=rois, kinds=kinds)
    if seeds:
        return seeds
    where = f"SeriesInstanceUID {series.uid}"
    if failures:
        first = failures[0].error
        count = f"none of {len(failures)} ROI(s) gives a seed; " if len(failures) > 1 else ""
        raise SeedNotFoundError(f"{count}{failures[0].label!r}: {first.what}", where, first.fix) from first
    names = ", ".join(kind.value for kind in kinds)
    raise SeedNotFoundError(
        f"the series has no seeds ({names})", where, "add an RTSTRUCT, SEG, seed table, mask or report with coordinates"
    )


def find_rois(
    series: Series, *, rois: tuple[str, ...] = (), kinds: tuple[SeedKind, ...] = tuple(SeedKind)
) -> tuple[tuple[Seed, ...], tuple[RoiFailure, ...]]:
    """Every ROI, segment, label and point that was asked for, as a seed or as a failure.

    One damaged source or ROI never stops the others. Duplicated labels are kept.

    Args:
        series: With the ROI sources that the importer found for it.
        rois: Names (exact, or else in any case), numbers, or `re:...` (searched anywhere, in any case); empty takes
            all. Points without a name are always taken.
        kinds: Kinds of sources that are used.

    Returns:
        Seeds by source uid, then by ROI number (points in file order), and the failures: an unreadable source, an
        ROI without a centre, an item of `rois` that matches nothing in the series.
    """
    with tolerant_of_source():
        return _find_rois(series, rois, kinds)


def roi_mask(series: Series, seed: Seed, grid: Grid) -> tuple[int, NDArray[np.bool_]]:
    """The mask of a seed's ROI on a grid, for the derived SEG and for pictures.

    Args:
        series: Where the seed was found.
        seed: One of its seeds.
        grid: The CT's.

    Returns:
        The first slice, and (n_slices, J, I) bool, cut to the slices between the ROI's ends: filled contours of an
        RTSTRUCT, voxels of a SEG or mask (nearest voxel), a sphere of 2 mm radius for points and reports.

    Raises:
        SeedNotFoundError: No voxel of the grid is inside.
        InputError: The source cannot be read.
    """
    source = next((source for source in series.roi_sources if source.uid == seed.source_uid), None)
    if source is None or source.kind in POINT_KINDS:
        found = sphere_on_grid(seed.lps_mm, POINT_RADIUS_MM, grid)
    elif source.kind is SeedKind.RTSTRUCT:
        with tolerant_of_source():
            found = rtstruct_mask(source, series, seed, grid)
    elif source.kind is SeedKind.SEG:
        with tolerant_of_source():
            found = segment_mask(source, seed, grid)
    else:
        found = label_mask(source, seed, grid)
    if found is None:
        raise SeedNotFoundError(
            what=f"no voxel of the scan is inside ROI {seed.label!r}",
            where=f"SeriesInstanceUID {series.uid}, source {seed.source_uid}",
            fix="check that the ROI was drawn on this series",
        )
    return found


def _find_rois(
    series: Series, rois: tuple[str, ...], kinds: tuple[SeedKind, ...]
) -> tuple[tuple[Seed, ...], tuple[RoiFailure, ...]]:
    candidates: list[RoiCandidate] = []
    failures: list[RoiFailure] = []
    for source in sorted(series.roi_sources, key=lambda source: source.uid):
        if source.kind in kinds:
            try:
                with unforeseen(f"source {source.uid}"):
                    candidates += _LISTERS[source.kind](source, series)
            except InputError as error:
                failures.append(RoiFailure(source.uid, None, source.uid, source.kind, error))
    chosen, unmatched = choose(candidates, rois)
    seeds: list[Seed] = []
    for candidate in chosen:
        try:
            with unforeseen(f"source {candidate.source.uid}, ROI {candidate.label!r}"):
                seeds += candidate.make_seeds()
        except InputError as error:
            source = candidate.source
            failures.append(RoiFailure(candidate.label, candidate.roi_number, source.uid, source.kind, error))
    failures += [_no_such_roi(series, item, candidates, kinds) for item in unmatched]
    return tuple(seeds), tuple(failures)


def _no_such_roi(series: Series, item: str, candidates: list[RoiCandidate], kinds: tuple[SeedKind, ...]) -> RoiFailure:
    """What to say about an item of `rois` that matches nothing."""
    present = sorted({f"{c.label!r}" + ("" if c.roi_number is None else f" ({c.roi_number})") for c in candidates})
    error: FmcibError = SeedNotFoundError(
        what=f"no ROI matches {item!r}",
        where=f"SeriesInstanceUID {series.uid}",
        fix=f"choose among: {', '.join(present)}" if present else "the series has no ROI at all",
    )
    kind = next((source.kind for source in series.roi_sources if source.kind in kinds), SeedKind.RTSTRUCT)
    return RoiFailure(item, None, "", kind, error)
