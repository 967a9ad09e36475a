"""RTSTRUCT and SEG files -> what they say they were drawn on, without reading contours or pixels (pydicom)."""

from collections.abc import Iterator
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from fmcib_module.adapters.dicom_header import Header, read_up_to
from fmcib_module.adapters.read_errors import READ_ERRORS
from fmcib_module.core.conventions import SeedKind
from fmcib_module.core.domain import RoiSource
from fmcib_module.core.errors import InputError

RTSTRUCT_CLASS: Final = "1.2.840.10008.5.1.4.1.1.481.3"
LABEL_MAP_CLASS: Final = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation Storage, which pydicom 3.0 does not know by name."""

SEG_CLASSES: Final = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", LABEL_MAP_CLASS})
"""Segmentation Storage and Label Map Segmentation Storage."""

SR_CLASSES: Final = frozenset(f"1.2.840.10008.5.1.4.1.1.88.{n}" for n in (11, 22, 33, 34, 35, 50, 65, 69))
"""Reports that may hold coordinates: Basic Text, Enhanced, Comprehensive (3D), Extensible, and CAD of breast, chest and
colon. Dose reports, procedure logs and Key Object Selection hold none."""

GSPS_CLASSES: Final = frozenset(f"1.2.840.10008.5.1.4.1.1.11.{n}" for n in (1, 2, 3))
"""Grayscale, Color and Pseudo-Color Softcopy Presentation State Storage."""


def kind_of(header: Header) -> SeedKind | None:
    """What an object may be a source of; None for anything else: our own SR and SEG repeat what another source says."""
    if header.own:
        return None
    if header.sop_class_uid == RTSTRUCT_CLASS or (not header.sop_class_uid and header.modality == "RTSTRUCT"):
        return SeedKind.RTSTRUCT
    if header.sop_class_uid in SEG_CLASSES or (not header.sop_class_uid and header.modality == "SEG"):
        return SeedKind.SEG
    if header.sop_class_uid in SR_CLASSES:
        return SeedKind.SR
    return SeedKind.GSPS if header.sop_class_uid in GSPS_CLASSES else None


def read_references(header: Header, kind: SeedKind) -> RoiSource:
    """Read which series, images and frame of reference an RTSTRUCT or SEG names.

    Raises:
        InputError: The file cannot be read.
    """
    collect = _rtstruct_references if kind is SeedKind.RTSTRUCT else _seg_references
    try:
        series_uids, sop_uids, frame_uid = collect(header)
    except READ_ERRORS as error:
        raise InputError(
            f"the references of this {kind} cannot be read: {type(error).__name__}",
            f"SOPInstanceUID {header.sop_instance_uid}",
            "export it again from its source",
        ) from error
    return RoiSource(
        path=header.path,
        kind=kind,
        uid=header.sop_instance_uid,
        referenced_series_uids=tuple(dict.fromkeys(series_uids)),
        referenced_sop_uids=frozenset(sop_uids),
        frame_of_reference_uid=frame_uid,
        study_uid=header.study_uid,
        sop_class_uid=header.sop_class_uid,
    )


References = tuple[list[str], list[str], str]
"""Series UIDs, image UIDs, FrameOfReferenceUID."""


def _rtstruct_references(header: Header) -> References:
    """PS3.3 C.8.8.5: Referenced Frame of Reference Sequence; the contours' own images only where it names none."""
    dataset = _read(header, "ReferencedFrameOfReferenceSequence", "FrameOfReferenceUID", "StructureSetROISequence")
    series_uids: list[str] = []
    sop_uids: list[str] = []
    frames = [_uid(roi, "ReferencedFrameOfReferenceUID") for roi in _items(dataset, "StructureSetROISequence")]
    frames.append(header.frame_of_reference_uid)
    for frame in _items(dataset, "ReferencedFrameOfReferenceSequence"):
        frames.append(_uid(frame, "FrameOfReferenceUID"))
        for study in _items(frame, "RTReferencedStudySequence"):
            for series in _items(study, "RTReferencedSeriesSequence"):
                series_uids.append(_uid(series, "SeriesInstanceUID"))
                sop_uids += [
                    _uid(image, "ReferencedSOPInstanceUID") for image in _items(series, "ContourImageSequence")
                ]
    if not any(series_uids):
        for roi in _items(_read(header, "ROIContourSequence"), "ROIContourSequence"):
            for contour in _items(roi, "ContourSequence"):
                sop_uids += [
                    _uid(image, "ReferencedSOPInstanceUID") for image in _items(contour, "ContourImageSequence")
                ]
    return _known(series_uids), _known(sop_uids), next(iter(_known(frames)), "")


def _seg_references(header: Header) -> References:
    """PS3.3 C.12.2: Referenced Series Sequence; the frames' own source images only where it names none."""
    dataset = _read(header, "ReferencedSeriesSequence")
    series_uids: list[str] = []
    sop_uids: list[str] = []
    for series in _items(dataset, "ReferencedSeriesSequence"):
        series_uids.append(_uid(series, "SeriesInstanceUID"))
        sop_uids += [_uid(image, "ReferencedSOPInstanceUID") for image in _items(series, "ReferencedInstanceSequence")]
    if not any(series_uids):
        groups = _read(header, "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
        for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
            for group in _items(groups, keyword):
                for derivation in _items(group, "DerivationImageSequence"):
                    sop_uids += [
                        _uid(image, "ReferencedSOPInstanceUID") for image in _items(derivation, "SourceImageSequence")
                    ]
    return _known(series_uids), _known(sop_uids), header.frame_of_reference_uid


def _read(header: Header, *keywords: str) -> Dataset:
    tags: list[Any] = [Tag(keyword) for keyword in keywords]
    return read_up_to(header.path, tags)


def _items(dataset: Dataset, keyword: str) -> Iterator[Dataset]:
    yield from dataset.get(keyword) or ()


def _uid(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "")


def _known(uids: list[str]) -> list[str]:
    return [uid for uid in uids if uid]
