"""What every kind of ROI source offers: named candidates, each of which becomes seeds or an error when asked."""

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pydicom

from fmcib_module.adapters.read_errors import READ_ERRORS
from fmcib_module.core.conventions import PATCH_SIZE, PATCH_SPACING_MM, Flag
from fmcib_module.core.domain import Point, RoiSource, Seed, Series
from fmcib_module.core.errors import FrameOfReferenceError, InputError


@dataclass(frozen=True, slots=True)
class RoiCandidate:
    """One ROI, segment, label or point of a source.

    Attributes:
        label: ROI name, exactly as in the source.
        roi_number: ROINumber, SegmentNumber or mask label; None for points.
        source: Where it is.
        make_seeds: Computes its seeds; raises InputError if it gives none.
        is_named: False for a point without a name, which no choice of ROIs leaves out.
    """

    label: str
    roi_number: int | None
    source: RoiSource
    make_seeds: Callable[[], tuple[Seed, ...]]
    is_named: bool = True


def read_dataset(source: RoiSource) -> Any:
    """Read a whole RTSTRUCT or SEG; some exports lack the preamble.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's remarks quote values, which may name the patient
            return pydicom.dcmread(source.path, force=True)
    except READ_ERRORS as error:
        what = f"the file cannot be read ({type(error).__name__})"
        raise InputError(what, f"{source.kind} {source.uid}", "export it again from its source") from error


def choose(candidates: Sequence[RoiCandidate], rois: Sequence[str]) -> tuple[list[RoiCandidate], list[str]]:
    """Keep the candidates that were asked for.

    Args:
        candidates: All of a series.
        rois: Names (exact, or else in any case), numbers, or `re:...` (searched anywhere, in any case);
            empty takes all.

    Returns:
        The chosen, in their order, and the items of `rois` that match none.
    """
    if not rois:
        return list(candidates), []
    chosen = {n for n, candidate in enumerate(candidates) if not candidate.is_named}
    unmatched = []
    for item in rois:
        matches = _matches(candidates, item)
        chosen |= matches
        if not matches:
            unmatched.append(item)
    return [candidates[n] for n in sorted(chosen)], unmatched


def _matches(candidates: Sequence[RoiCandidate], item: str) -> set[int]:
    named = [(n, candidate) for n, candidate in enumerate(candidates) if candidate.is_named]
    if item.startswith("re:"):
        pattern = re.compile(item[3:], re.IGNORECASE)
        return {n for n, candidate in named if pattern.search(candidate.label)}
    wanted = item.strip()
    tests: tuple[Callable[[RoiCandidate], bool], ...] = (
        lambda candidate: candidate.label == item,
        lambda candidate: candidate.label.strip().casefold() == wanted.casefold(),
        lambda candidate: candidate.roi_number is not None and str(candidate.roi_number) == wanted,
    )
    for test in tests:
        found = {n for n, candidate in named if test(candidate)}
        if found:
            return found
    return set()


def frame_of_reference_flags(
    series: Series, *, frame_of_reference_uid: str, series_uids: set[str], sop_uids: frozenset[str], where: str
) -> tuple[Flag, ...]:
    """Check that an ROI lives in the series' frame of reference.

    Args:
        series: Where a seed is wanted.
        frame_of_reference_uid: The ROI's own; empty where unknown.
        series_uids: Series that its object names as drawn on.
        sop_uids: Images that its object names as drawn on.
        where: ROI and source, for the message.

    Returns:
        A flag if the frame differs but the object names this series or one of its images; none if it is the same.

    Raises:
        FrameOfReferenceError: It differs, and the object does not name this series.
    """
    found, expected = frame_of_reference_uid, series.frame_of_reference_uid
    if not found or not expected or found == expected:
        return ()
    if series.uid in series_uids or any(instance.sop_instance_uid in sop_uids for instance in series.instances):
        return (Flag.OTHER_FRAME_OF_REFERENCE,)
    raise FrameOfReferenceError(
        what=f"FrameOfReferenceUID is {found}, the series' is {expected}",
        where=where,
        fix=f"draw the ROI on series {series.uid}, or register it first",
    )


def size_flags(extent_mm: Point, *, is_inside: bool) -> tuple[Flag, ...]:
    """Flags of an ROI by its size, and by whether its centroid lies inside it."""
    flags = []
    if max(extent_mm) > PATCH_SIZE * PATCH_SPACING_MM:
        flags.append(Flag.LARGER_THAN_PATCH)
    if not is_inside:
        flags.append(Flag.OUTSIDE_MASK)
    return tuple(flags)
