"""RT Structure Set -> seeds and masks, straight from the contours (pydicom)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from fmcib_module.adapters.read_errors import READ_ERRORS
from fmcib_module.adapters.roi_candidates import (
    RoiCandidate,
    frame_of_reference_flags,
    read_dataset,
    size_flags,
)
from fmcib_module.core.centroid import crop_slices, sphere_on_grid
from fmcib_module.core.contours import ContourStack, compute_centroid, rasterise, stack_contours
from fmcib_module.core.conventions import FARTHEST_MM, Flag, SeedKind
from fmcib_module.core.domain import Point, RoiSource, Seed, Series
from fmcib_module.core.errors import InputError, SeedNotFoundError
from fmcib_module.core.marks import middle_of_line
from fmcib_module.core.volume import Grid

Array = NDArray[np.float64]

POINT_RADIUS_MM = 2.0
"""Radius of the sphere that stands for a point where a mask is needed."""

_CONTOUR_DATA = pydicom.tag.Tag(0x3006, 0x0050)


@dataclass(frozen=True, slots=True, eq=False)
class RoiContours:
    """The contours of one ROI.

    Attributes:
        closed: Contours that enclose an area, (n, 3) each, LPS mm.
        other: POINT and OPEN_ contours, and closed ones of fewer than three points.
        is_xor: Whether they are CLOSEDPLANAR_XOR, where two equal contours cancel out.
        image_uids: For each contour that names images, their SOPInstanceUIDs.
    """

    closed: tuple[Array, ...]
    other: tuple[Array, ...]
    is_xor: bool
    image_uids: tuple[frozenset[str], ...]


def list_rtstruct_rois(source: RoiSource, series: Series) -> list[RoiCandidate]:
    """The ROIs of an RT Structure Set, sorted by ROI number.

    Raises:
        InputError: The file cannot be read.
    """
    dataset = read_dataset(source)
    try:
        listed = [(_number(roi, "ROINumber"), str(roi.get("ROIName", ""))) for roi in dataset.StructureSetROISequence]
        drawn = [_number(item, "ReferencedROINumber") for item in dataset.get("ROIContourSequence") or []]
    except READ_ERRORS as error:
        raise InputError("the list of ROIs cannot be read", f"RTSTRUCT {source.uid}", "export it again") from error
    names = [(number, name) for number, name in listed if number is not None]
    unlisted = set(drawn) - {number for number, _ in names}
    names += [(number, f"ROI {number}") for number in unlisted if number is not None]
    without_number = [name for number, name in listed if number is None]
    without_number += ["contours of an ROI without a number"] if None in drawn else []
    return [
        RoiCandidate(name, number, source, partial(_make_seeds, dataset, source, series, number, name))
        for number, name in sorted(names)
    ] + [RoiCandidate(name, None, source, partial(_refuse, source, name)) for name in without_number]


def rtstruct_mask(source: RoiSource, series: Series, seed: Seed, grid: Grid) -> tuple[int, NDArray[np.bool_]] | None:
    """Mask of a seed's ROI on a grid: filled contours, or a 2 mm sphere where it has no area.

    Returns:
        The first slice, and (n_slices, J, I) bool; None if no voxel is inside.

    Raises:
        InputError: The file or the contours cannot be read.
    """
    contours = _read_contours(
        read_dataset(source), seed.roi_number or 0, f"ROI {seed.label!r} of RTSTRUCT {source.uid}"
    )
    stacks = _stacks(contours, series)
    if not stacks:
        return sphere_on_grid(seed.lps_mm, POINT_RADIUS_MM, grid)
    mask = np.zeros(grid.shape, dtype=bool)
    filled = rasterise(stacks[0], grid)
    if filled is not None:
        mask[filled[0] : filled[0] + len(filled[1])] = filled[1]
    return crop_slices(mask)


def _number(item: Any, keyword: str) -> int | None:
    """An item's ROI number; None where it is absent or not a number."""
    try:
        return int(item.get(keyword))
    except (TypeError, ValueError):
        return None


def _refuse(source: RoiSource, name: str) -> tuple[Seed, ...]:
    where = f"ROI {name!r} of RTSTRUCT {source.uid}"
    raise SeedNotFoundError("it has no ROI number, so contours and names do not meet", where, "export it again")


def _make_seeds(dataset: Any, source: RoiSource, series: Series, number: int, name: str) -> tuple[Seed, ...]:
    where = f"ROI {name!r} (number {number}) of RTSTRUCT {source.uid}"
    contours = _read_contours(dataset, number, where)
    if not contours.closed and not contours.other:
        raise SeedNotFoundError("the ROI has no contours", where, "draw it, or leave it out of the choice of ROIs")
    flags = _reference_flags(dataset, source, series, number, contours, where)
    seed = partial(Seed, label=name, source_uid=source.uid, kind=SeedKind.RTSTRUCT, roi_number=number)
    stacks = _stacks(contours, series)
    if not stacks:
        if any(len(points) > 1 for points in contours.closed + contours.other):
            flags += (Flag.NOT_ALL_CLOSED_PLANAR,)
        return tuple(seed(point, flags=flags) for point in _points(contours))
    return (_seed_of(stacks, contours, flags, seed, where),)


def _seed_of(
    stacks: tuple[ContourStack, ...], contours: RoiContours, flags: tuple[Flag, ...], seed: Any, where: str
) -> Seed:
    found = compute_centroid(stacks[0])
    if found is None:
        raise SeedNotFoundError("the contours cancel out: they enclose nothing", where, "draw the ROI again")
    if contours.other:
        flags += (Flag.NOT_ALL_CLOSED_PLANAR,)
    if len(stacks) > 1:
        flags += (Flag.SEVERAL_CONTOUR_DIRECTIONS,)
    made: Seed = seed(
        found.lps_mm,
        extent_mm=stacks[0].extent_mm,
        volume_mm3=found.volume_mm3 if stacks[0].spacing_mm else None,
        flags=flags + size_flags(stacks[0].extent_mm, is_inside=found.is_inside),
    )
    return made


def _stacks(contours: RoiContours, series: Series) -> tuple[ContourStack, ...]:
    return stack_contours(contours.closed, keep_duplicates=contours.is_xor, slice_spacing_mm=slice_spacing_mm(series))


def _points(contours: RoiContours) -> list[Point]:
    """Positions of an ROI that encloses nothing: each single point, and the middle of each line."""
    middles = [middle_of_line(points) for points in contours.closed + contours.other]
    return [(float(x), float(y), float(z)) for x, y, z in middles]


def slice_spacing_mm(series: Series) -> float:
    """Distance between the first two slices; 0 where there are none."""
    if len(series.instances) < 2:
        return 0.0
    first, second = (np.array(instance.position_mm) for instance in series.instances[:2])
    return float(np.linalg.norm(second - first))


def _reference_flags(
    dataset: Any, source: RoiSource, series: Series, number: int, contours: RoiContours, where: str
) -> tuple[Flag, ...]:
    """Check frame of reference and image references; see `frame_of_reference_flags`."""
    frame_uid = next(
        (
            str(roi.get("ReferencedFrameOfReferenceUID") or "")
            for roi in dataset.StructureSetROISequence
            if _number(roi, "ROINumber") == number
        ),
        "",
    )
    flags = frame_of_reference_flags(
        series,
        frame_of_reference_uid=frame_uid or str(dataset.get("FrameOfReferenceUID") or ""),
        series_uids={
            *source.referenced_series_uids,
            *(str(item.get("SeriesInstanceUID", "")) for item in _referenced_series(dataset)),
        },
        sop_uids=source.referenced_sop_uids.union(*contours.image_uids),
        where=where,
    )
    present = {instance.sop_instance_uid for instance in series.instances}
    if present and any(not named & present for named in contours.image_uids):
        flags += (Flag.UNRESOLVED_REFERENCES,)
    return flags


def _referenced_series(dataset: Any) -> Iterator[Any]:
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            yield from study.get("RTReferencedSeriesSequence") or []


def _read_contours(dataset: Any, number: int, where: str) -> RoiContours:
    """Contours of an ROI, from all its items of the ROI Contour Sequence.

    Raises:
        InputError: A contour is not a list of (x, y, z).
    """
    closed: list[Array] = []
    other: list[Array] = []
    image_uids: list[frozenset[str]] = []
    is_xor = False
    try:
        for item in dataset.get("ROIContourSequence") or []:
            if _number(item, "ReferencedROINumber") != number:
                continue
            for contour in item.get("ContourSequence") or []:
                points = _contour_points(contour)
                if not len(points):
                    continue
                kind = str(contour.get("ContourGeometricType", "CLOSED_PLANAR"))
                is_xor |= kind == "CLOSEDPLANAR_XOR"
                (closed if kind.startswith("CLOSED") and len(points) > 2 else other).append(points)
                images = contour.get("ContourImageSequence") or []
                named = frozenset(str(image.get("ReferencedSOPInstanceUID") or "") for image in images) - {""}
                image_uids += [named] if named else []
    except READ_ERRORS as error:
        raise InputError(f"a contour cannot be read: {error}", where, "export the RTSTRUCT again") from error
    return RoiContours(tuple(closed), tuple(other), is_xor, tuple(image_uids))


def _contour_points(contour: Any) -> Array:
    """ContourData as (n, 3).

    Raises:
        ValueError: It is not a list of (x, y, z).
    """
    if _CONTOUR_DATA not in contour:
        return np.empty((0, 3))
    value = contour.get_item(_CONTOUR_DATA).value  # still text: pydicom would make an object of each number
    numbers = value.split(b"\\") if isinstance(value, bytes) else (value or [])
    values = np.array([float(number) for number in numbers if number not in (b"", b" ")])
    if len(values) % 3:
        msg = f"Contour Data holds {len(values)} numbers, which is not a multiple of 3"
        raise ValueError(msg)
    if not (np.abs(values) < FARTHEST_MM).all():  # also false for NaN
        msg = "Contour Data holds a number that is no coordinate in millimetres"
        raise ValueError(msg)
    return values.reshape(-1, 3)
