"""Structured reports -> the lesions that they mark by coordinates (pydicom).

Measurement reports (TID 1500) group what belongs to one lesion in a Measurement Group; in other reports each item under
a container is by itself. References to segments are not followed: the SEG is a source of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from fmcib_module.core.conventions import FARTHEST_MM
from fmcib_module.core.marks import Mark, MarkedLesion, Role, circle_as_ellipse, why_unusable

Code = tuple[str, str]
"""Coding scheme and value."""

_MEASUREMENT_GROUP: Final[Code] = ("DCM", "125007")
_TRACKING_IDENTIFIER: Final[Code] = ("DCM", "112039")
_FINDING: Final[Code] = ("DCM", "121071")
_ROLES: Final[dict[Code, Role]] = {
    ("DCM", "111010"): Role.CENTER,
    ("SCT", "103339001"): Role.LONG_AXIS,
    ("SRT", "G-A185"): Role.LONG_AXIS,  # the same in reports of before 2019
}


@dataclass(slots=True)
class _Lesion:
    """A lesion while its part of the tree is walked."""

    tracking_identifier: str = ""
    finding: str = ""
    marks: list[Mark] = field(default_factory=list)


def read_sr_lesions(report: Dataset) -> tuple[MarkedLesion, ...]:
    """The lesions of a report that have coordinates on an image (SCOORD) or in space (SCOORD3D), in its order.

    Coordinates on an image that the report does not name, and in space without a frame of reference, have no place
    and are left out.
    """
    found: list[_Lesion] = []
    _walk(report, report, None, Role.OTHER, found)
    return tuple(
        MarkedLesion(lesion.tracking_identifier or lesion.finding, tuple(lesion.marks))
        for lesion in found
        if lesion.marks
    )


def make_mark(graphic: str, values: object, dimensions: int, *, role: Role = Role.OTHER, **place: object) -> Mark:
    """A graphic as it is written in DICOM; what is wrong with it goes to its `problem`.

    Args:
        graphic: Graphic Type.
        values: Graphic Data.
        dimensions: 2 for (column, row), 3 for (x, y, z).
        role: What the report says that it is.
        place: The image or the frame of reference, as fields of `Mark`.
    """
    numbers = np.array([] if values is None else values, dtype=np.float64).ravel()
    problem = ""
    if len(numbers) % dimensions or not (np.abs(numbers) < FARTHEST_MM).all():  # also false for NaN
        numbers, problem = numbers[:0], "Graphic Data that are not coordinates"
    points = numbers.reshape(-1, dimensions)
    problem = problem or why_unusable(graphic, points)
    if graphic == "CIRCLE" and not problem:
        graphic, points = "ELLIPSE", circle_as_ellipse(points)
    return Mark(graphic, points, role, problem=problem, **place)  # type: ignore[arg-type]  # the caller's fields


def _walk(report: Dataset, item: Dataset, lesion: _Lesion | None, role: Role, found: list[_Lesion]) -> None:
    """Gather the marks of an item's children in the lesion that they belong to."""
    for child in item.get("ContentSequence") or ():
        kind, concept = child.get("ValueType"), _code(child, "ConceptNameCodeSequence")
        if kind == "CONTAINER":
            inner = _begin(found) if concept == _MEASUREMENT_GROUP else lesion
            _walk(report, child, inner, Role.OTHER, found)
            continue
        target = lesion or _begin(found)
        child_role = _ROLES.get(concept, role)
        if kind in ("SCOORD", "SCOORD3D"):
            target.marks += _marks(report, child, child_role)
        elif concept == _TRACKING_IDENTIFIER:
            target.tracking_identifier = str(child.get("TextValue") or "").strip()
        elif concept == _FINDING:
            target.finding = _meaning(child)
        _walk(report, child, target, child_role, found)


def _begin(found: list[_Lesion]) -> _Lesion:
    found.append(_Lesion())
    return found[-1]


def _marks(report: Dataset, item: Dataset, role: Role) -> Iterator[Mark]:
    graphic, values = str(item.get("GraphicType") or ""), item.get("GraphicData")
    if item.ValueType == "SCOORD3D":
        frame_uid = str(item.get("ReferencedFrameOfReferenceUID") or "")
        if frame_uid:
            yield make_mark(graphic, values, 3, role=role, frame_of_reference_uid=frame_uid)
        return
    for child in item.get("ContentSequence") or ():
        for image in _target(report, child).get("ReferencedSOPSequence") or ():
            uid, frame = str(image.get("ReferencedSOPInstanceUID") or ""), first_frame(image)
            if uid:
                yield make_mark(graphic, values, 2, role=role, image_uid=uid, frame=frame)


def first_frame(image: Dataset) -> int | None:
    """The first frame number, from 1, that a reference to an image names; None where it names none."""
    frames = np.atleast_1d(image.get("ReferencedFrameNumber") or [])
    return int(frames[0]) if len(frames) else None


def _target(report: Dataset, item: Dataset) -> Dataset:
    """The item itself, or the one elsewhere in the tree that it stands for (PS3.3 C.17.3.2.5)."""
    path = np.atleast_1d(item.get("ReferencedContentItemIdentifier") or [])
    if not len(path):
        return item
    target = report
    for number in path[1:]:
        target = target.ContentSequence[int(number) - 1]
    return target


def _code(item: Dataset, keyword: str) -> Code:
    for code in item.get(keyword) or ():
        return str(code.get("CodingSchemeDesignator") or ""), str(code.get("CodeValue") or "")
    return "", ""


def _meaning(item: Dataset) -> str:
    for code in item.get("ConceptCodeSequence") or ():
        return str(code.get("CodeMeaning") or "").strip()
    return ""
