"""Presentation states -> the lesions that lines and other graphics mark on their images (pydicom)."""

from pydicom.dataset import Dataset

from fmcib_module.adapters.sr_seeds import first_frame, make_mark
from fmcib_module.core.marks import Mark, MarkedLesion


def read_gsps_lesions(state: Dataset) -> tuple[MarkedLesion, ...]:
    """The graphics of a presentation state, in its order; those of one Graphic Group are one lesion.

    Only graphics in PIXEL units mark a place; in DISPLAY units they belong to the screen. A graphic that is shown on
    several images is a note on all of them and marks none.
    """
    names = {group.get("GraphicGroupID"): _text(group, "GraphicGroupLabel") for group in _items(state, "GraphicGroup")}
    lesions: list[tuple[str, list[Mark]]] = []
    groups: dict[object, list[Mark]] = {}
    for annotation in _items(state, "GraphicAnnotation"):
        images = _images(state, annotation)
        if len(images) != 1:
            continue
        uid, frame = _text(images[0], "ReferencedSOPInstanceUID"), first_frame(images[0])
        for item in _items(annotation, "GraphicObject"):
            if item.get("GraphicAnnotationUnits") != "PIXEL" or not uid:
                continue
            mark = make_mark(_text(item, "GraphicType"), item.get("GraphicData"), 2, image_uid=uid, frame=frame)
            group = item.get("GraphicGroupID")
            if group is not None and group in groups:
                groups[group].append(mark)
                continue
            marks = [mark]
            lesions.append((_text(item, "TrackingID") or names.get(group, ""), marks))
            if group is not None:
                groups[group] = marks
    return tuple(MarkedLesion(label, tuple(marks)) for label, marks in lesions)


def _images(state: Dataset, annotation: Dataset) -> list[Dataset]:
    """The images an annotation is for; all of the presentation state where it names none (PS3.3 C.10.5)."""
    named = _items(annotation, "ReferencedImage")
    return named or [
        image for series in _items(state, "ReferencedSeries") for image in _items(series, "ReferencedImage")
    ]


def _items(dataset: Dataset, name: str) -> list[Dataset]:
    return list(dataset.get(f"{name}Sequence") or ())


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip()
