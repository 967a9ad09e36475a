"""Structured reports and presentation states -> sources of seeds, and seeds (pydicom)."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from io import BytesIO
from typing import Final

import pydicom
from pydicom.dataset import Dataset

from fmcib_module.adapters.derived import tolerant_of_source
from fmcib_module.adapters.dicom_header import Header
from fmcib_module.adapters.gsps import read_gsps_lesions
from fmcib_module.adapters.read_errors import READ_ERRORS
from fmcib_module.adapters.roi_candidates import RoiCandidate, read_dataset, size_flags
from fmcib_module.adapters.rtstruct import slice_spacing_mm
from fmcib_module.adapters.sr_seeds import read_sr_lesions
from fmcib_module.adapters.unforeseen import unforeseen
from fmcib_module.core.conventions import Flag, SeedKind
from fmcib_module.core.domain import Instance, RoiSource, Seed, Series
from fmcib_module.core.errors import InputError, SeedNotFoundError
from fmcib_module.core.marks import Mark, MarkedLesion, Place, find_places, is_within, pixels_to_lps

_READERS: Final[dict[SeedKind, Callable[[Dataset], tuple[MarkedLesion, ...]]]] = {
    SeedKind.SR: read_sr_lesions,
    SeedKind.GSPS: read_gsps_lesions,
}
_ELSEWHERE: Final = "what it marks lies on no CT of the input"


def sort_report(header: Header, kind: SeedKind, images: Iterable[Header]) -> RoiSource | Header:
    """Decide whether a report or presentation state is a source of seeds.

    Args:
        header: Its header.
        kind: SR or GSPS.
        images: Headers of the input's CT.

    Returns:
        A source if it marks a place on a CT of the input or in the frame of reference of one. Else its header, as
        for any other object that is no CT: a report without coordinates is nothing that went wrong.
    """
    source = RoiSource(header.path, kind, header.sop_instance_uid)
    try:
        with unforeseen(f"{kind} {source.uid}"):
            report = read_dataset(source)
            marks = [mark for lesion in _READERS[kind](report) for mark in lesion.marks]
            series_uids = _evidence_series(report)
    except InputError:
        return replace(header, problem=f"a report ({kind}) whose content cannot be read, not a source of lesions")
    if not marks:
        return header
    image_uids = frozenset(mark.image_uid for mark in marks if mark.image_uid)
    frame_uid = next((mark.frame_of_reference_uid for mark in marks if not mark.image_uid), "")
    if not any(
        one.sop_instance_uid in image_uids or (frame_uid and one.frame_of_reference_uid == frame_uid) for one in images
    ):
        return replace(header, problem=f"Modality {header.modality} is not CT, and {_ELSEWHERE}")
    return replace(
        source,
        referenced_series_uids=series_uids,
        referenced_sop_uids=image_uids,
        frame_of_reference_uid=frame_uid,
        study_uid=header.study_uid,
        sop_class_uid=header.sop_class_uid,
    )


def marks_a_place(content: bytes, kind: SeedKind) -> bool:
    """Whether a report or presentation state marks any place at all, on whichever image.

    Args:
        content: The whole file.
        kind: SR or GSPS.

    Returns:
        False also for one that is damaged: it is a source of nothing.
    """
    try:
        with unforeseen(kind), tolerant_of_source(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's remarks quote values, which may name the patient
            return any(lesion.marks for lesion in _READERS[kind](pydicom.dcmread(BytesIO(content), force=True)))
    except (InputError, OSError):
        return False


def list_marked(source: RoiSource, series: Series) -> list[RoiCandidate]:
    """The lesions that a report marks in a series, in its order; `measurement N` where it gives no name.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        lesions = _READERS[source.kind](read_dataset(source))
    except READ_ERRORS as error:
        raise InputError("its content cannot be read", f"{source.kind} {source.uid}", "export it again") from error
    candidates = []
    for number, lesion in enumerate(lesions, start=1):
        marks = [mark for mark in lesion.marks if _is_in(mark, series)]
        if marks:
            label = lesion.label or f"measurement {number}"
            make_seeds = partial(_make_seeds, marks, source, series, number, label)
            candidates.append(RoiCandidate(label, number, source, make_seeds))
    return candidates


def _is_in(mark: Mark, series: Series) -> bool:
    if mark.image_uid:
        return any(instance.sop_instance_uid == mark.image_uid for instance in series.instances)
    return mark.frame_of_reference_uid == series.frame_of_reference_uid


def _make_seeds(marks: list[Mark], source: RoiSource, series: Series, number: int, label: str) -> tuple[Seed, ...]:
    where = f"{label!r} (measurement {number}) of {source.kind} {source.uid}"
    placed = [_in_space(mark, series, where) for mark in marks]
    return tuple(
        Seed(
            place.lps_mm,
            label=label,
            source_uid=source.uid,
            kind=source.kind,
            roi_number=number,
            extent_mm=place.extent_mm,
            volume_mm3=place.volume_mm3,
            flags=_flags(place),
        )
        for place in find_places(placed, slice_spacing_mm(series))
    )


def _flags(place: Place) -> tuple[Flag, ...]:
    if place.extent_mm is None:
        return ()
    directions = (Flag.SEVERAL_CONTOUR_DIRECTIONS,) if place.directions > 1 else ()
    return (*directions, *size_flags(place.extent_mm, is_inside=place.is_inside))


def _in_space(mark: Mark, series: Series, where: str) -> Mark:
    """The mark with its points in LPS mm.

    Raises:
        SeedNotFoundError: It is damaged, lies outside its image, or names an image that is not one slice.
    """
    if mark.problem:
        raise SeedNotFoundError(mark.problem, where, "export the report again from its source")
    if not mark.image_uid:
        return mark
    instance = _image_of(mark, series, where)
    if not is_within(mark.points, instance.shape):
        rows, columns = instance.shape
        what = f"a graphic of type {mark.graphic} outside its image of {rows} rows and {columns} columns"
        raise SeedNotFoundError(what, f"{where}, on image {mark.image_uid}", "mark the lesion on the image itself")
    return replace(mark, points=pixels_to_lps(mark.points, instance))


def _image_of(mark: Mark, series: Series, where: str) -> Instance:
    found = [
        instance
        for instance in series.instances
        if instance.sop_instance_uid == mark.image_uid
        and (instance.frame is None or mark.frame is None or instance.frame == mark.frame - 1)
    ]
    if len(found) != 1:
        what = f"{len(found)} slices of the series are the image and frame that it is drawn on"
        raise SeedNotFoundError(what, f"{where}, on image {mark.image_uid}", "name one frame of one image")
    return found[0]


def _evidence_series(report: Dataset) -> tuple[str, ...]:
    """Series that a report was made from (PS3.3 C.17.2): they choose among CT that share a frame of reference."""
    return tuple(
        str(series.get("SeriesInstanceUID") or "")
        for study in report.get("CurrentRequestedProcedureEvidenceSequence") or ()
        for series in study.get("ReferencedSeriesSequence") or ()
    )
