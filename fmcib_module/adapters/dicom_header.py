"""One DICOM file -> what the importer needs to know of it, from its header alone (pydicom)."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pydicom
from pydicom.tag import Tag

from fmcib_module.adapters.derived import is_own_output
from fmcib_module.adapters.functional_groups import not_hounsfield, read_frames
from fmcib_module.adapters.header_block import BLOCK_BYTES, read_block
from fmcib_module.adapters.read_errors import READ_ERRORS
from fmcib_module.core.acquisitions import LabelledSlice
from fmcib_module.core.conventions import FARTHEST_MM
from fmcib_module.core.domain import Instance
from fmcib_module.core.errors import InputError

CT_CLASSES: Final = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT Image Storage",
}
"""Objects whose pixels are CT; everything else of modality CT (screen captures, dose reports) is not."""

_SINGLE_FRAME_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_DICOMDIR_CLASS: Final = "1.2.840.10008.1.3.10"

_LOSSY_SYNTAXES: Final = frozenset(
    f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 52, 53, 54, 55, 56, 59, 61, 63, 81, 91, 93, 203)
)
"""JPEG, JPEG-LS, JPEG 2000 and HTJ2K syntaxes that may lose information; JPEG 2000 (.91) also allows lossless."""
_MAYBE_LOSSLESS: Final = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (91, 93, 203))

_KEYWORDS: Final = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "Rows", "Columns"),
    *("ImageType", "SamplesPerPixel", "NumberOfFrames", "LossyImageCompression", "InstanceNumber"),
    *("AcquisitionNumber", "AcquisitionTime", "TemporalPositionIdentifier", "NominalPercentageOfCardiacPhase"),
    *("TriggerTime", "ConvolutionKernel", "KVP", "Manufacturer", "ManufacturerModelName"),
)
_PLACING_UIDS: Final = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
_MAX_UID_LENGTH: Final = 64
_META_KEYWORDS: Final = ("TransferSyntaxUID", "MediaStorageSOPClassUID")
_TAGS: Final = {keyword: int(Tag(keyword)) for keyword in (*_KEYWORDS, *_META_KEYWORDS)}
_WANTED: Final = frozenset(_TAGS.values())
_UNSIGNED_SHORTS: Final = frozenset(_TAGS[keyword] for keyword in ("Rows", "Columns", "SamplesPerPixel"))

_ByteOrder = Literal["little", "big"]

_LABELS: Final = (
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "NominalPercentageOfCardiacPhase",
    "TriggerTime",
    "ImageType",
    "ConvolutionKernel",
    "KVP",
    "AcquisitionTime",
)
"""What may tell acquisitions in one series apart, the surest first."""

_DICOM_SUFFIXES: Final = frozenset({".dcm", ".dicom", ".ima"})


@dataclass(frozen=True, slots=True)
class Header:
    """What one DICOM file is.

    Attributes:
        path: The file.
        sop_class_uid: SOPClassUID.
        sop_instance_uid: SOPInstanceUID.
        study_uid: StudyInstanceUID, "" where absent.
        series_uid: SeriesInstanceUID.
        modality: Modality, "" where absent.
        frame_of_reference_uid: "" where absent.
        lossy: Pixels went through a lossy compression.
        slices: CT slices with their geometry; several for a multi-frame object.
        problem: Why no features are computed from them, or why there are none; empty for a CT volume's slices.
        own: It is an SR or SEG that this software wrote.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    modality: str
    frame_of_reference_uid: str
    lossy: bool
    slices: tuple[LabelledSlice, ...]
    problem: str
    own: bool


def read_header(path: Path) -> Header | None:
    """Read a file's header, up to its pixels.

    Returns:
        None where the file is not DICOM, or a DICOMDIR.

    Raises:
        InputError: The file looks like DICOM but cannot be read, or lacks the UIDs that place it in a series.
    """
    try:
        values = _read_values(path)
    except READ_ERRORS as error:
        raise _damaged(path, type(error).__name__) from error
    if values is None:
        if path.suffix.lower() in _DICOM_SUFFIXES and not path.name.startswith("._"):  # ._x: macOS companion file
            raise _damaged(path, "it has no DICOM header")
        return None
    if _DICOMDIR_CLASS in (values["MediaStorageSOPClassUID"], values["SOPClassUID"]):
        return None
    if not values["SeriesInstanceUID"] or not values["SOPInstanceUID"]:
        raise _without_uids(values)
    for keyword in _PLACING_UIDS:
        if not _could_be_uid(values[keyword]):
            fix = "export it again from its source"
            raise InputError(f"{keyword} is not a UID (PS3.5 section 9.1)", path.name, fix)
    own = is_own_output(values["Manufacturer"], values["ManufacturerModelName"])
    slices, problem = ((), "a result of this software, not a source of lesions") if own else _slices(path, values)
    return Header(
        path=path,
        sop_class_uid=values["SOPClassUID"],
        sop_instance_uid=values["SOPInstanceUID"],
        study_uid=values["StudyInstanceUID"],
        series_uid=values["SeriesInstanceUID"],
        modality=values["Modality"],
        frame_of_reference_uid=values["FrameOfReferenceUID"],
        lossy=_is_lossy(values["LossyImageCompression"], values["TransferSyntaxUID"]),
        slices=slices,
        problem=problem,
        own=own,
    )


def read_up_to(path: Path, tags: list[Any]) -> pydicom.Dataset:
    """Read some elements with pydicom, and nothing after the last of them: contours and frames are long to parse."""
    last = max(tags)
    with path.open("rb") as file:
        return pydicom.filereader.read_partial(
            file, stop_when=lambda tag, _vr, _length: tag > last, specific_tags=tags, force=True
        )


def _read_values(path: Path) -> dict[str, str] | None:
    """Keyword -> value as it is written, "" where absent; None where the file is not DICOM."""
    with path.open("rb") as file:
        block = file.read(BLOCK_BYTES)
    if not _looks_like_dicom(block):
        return None
    raw = read_block(block, _WANTED)
    if raw is not None:
        return {keyword: _text(tag, raw.get(tag), "little") for keyword, tag in _TAGS.items()}
    dataset = read_up_to(path, list(_TAGS.values()))
    byte_order: _ByteOrder = "big" if dataset.original_encoding[1] is False else "little"
    values = {keyword: _text(tag, _value(dataset, tag), byte_order) for keyword, tag in _TAGS.items()}
    return values | {keyword: str(dataset.file_meta.get(keyword, "")) for keyword in _META_KEYWORDS}


def _looks_like_dicom(block: bytes) -> bool:
    """The preamble's magic word, or a first element of group 0002 or 0008 where there is no preamble."""
    if block[128:132] == b"DICM":
        return True
    if len(block) < 132:
        return False
    little, big = struct.unpack_from("<HH", block), struct.unpack_from(">HH", block)
    return any(group in (2, 8) and element <= 0x0060 for group, element in (little, big))


def _value(dataset: pydicom.Dataset, tag: Any) -> Any:
    element = dataset.get_item(tag)
    return None if element is None else element.value


def _text(tag: int, value: Any, byte_order: _ByteOrder) -> str:
    if value is None:
        return ""
    if not isinstance(value, bytes):
        return "\\".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    if tag in _UNSIGNED_SHORTS:
        return str(int.from_bytes(value[:2], byte_order)) if value else ""
    return value.decode("latin-1").strip(" \0")


def _slices(path: Path, values: dict[str, str]) -> tuple[tuple[LabelledSlice, ...], str]:
    modality, sop_class = values["Modality"], values["SOPClassUID"]
    if modality not in ("CT", "") or (not modality and sop_class not in CT_CLASSES):
        return (), f"Modality {modality} is not CT" if modality else f"SOP Class {_class_name(sop_class)} is not CT"
    if sop_class not in CT_CLASSES:
        return (), f"{_class_name(sop_class)} is not a CT image"
    if values["SamplesPerPixel"] not in ("1", ""):
        return (), "colour pixels are not CT values"
    try:
        if sop_class != _SINGLE_FRAME_CT:
            slices = read_frames(path)
            return slices, not_hounsfield(slices)
        return _single_slice(path, values)
    except READ_ERRORS as error:
        return (), f"CT without a geometry that can be read ({type(error).__name__})"


def _single_slice(path: Path, values: dict[str, str]) -> tuple[tuple[LabelledSlice, ...], str]:
    image_type = values["ImageType"].upper().split("\\")
    if "LOCALIZER" in (word.strip() for word in image_type):
        return (), "a localizer, not a CT volume"
    if values["NumberOfFrames"] not in ("", "0", "1"):
        return (), "a multi-frame image without functional groups has no slice positions"
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"):
        if not values[keyword]:
            return (), f"CT without {keyword}"
    position, orientation = _numbers(values["ImagePositionPatient"], 3), _numbers(values["ImageOrientationPatient"], 6)
    spacing = _numbers(values["PixelSpacing"], 2)
    instance = Instance(
        path=path,
        sop_instance_uid=values["SOPInstanceUID"],
        sop_class_uid=values["SOPClassUID"],
        frame=None,
        position_mm=(position[0], position[1], position[2]),
        orientation=(*orientation[:3], *orientation[3:]),  # type: ignore[arg-type]  # six numbers, checked above
        spacing_mm=(spacing[0], spacing[1]),
        shape=(int(values["Rows"]), int(values["Columns"])),
        instance_number=_integer(values["InstanceNumber"]) or 0,
        acquisition_number=_integer(values["AcquisitionNumber"]),
        slice_thickness_mm=float(values["SliceThickness"]) if values["SliceThickness"] else None,
    )
    return (LabelledSlice(instance, tuple((label, values[label]) for label in _LABELS)),), ""


def _numbers(text: str, count: int) -> tuple[float, ...]:
    numbers = tuple(float(part) for part in text.split("\\"))
    if len(numbers) != count or not all(abs(n) < FARTHEST_MM for n in numbers):  # also false for NaN
        msg = f"expected {count} numbers in millimetres"
        raise ValueError(msg)
    return numbers


def _integer(text: str) -> int | None:
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return None  # an optional attribute that only orders slices


def _is_lossy(stated: str, syntax: str) -> bool:
    if stated == "00" and syntax in _MAYBE_LOSSLESS:
        return False
    return stated == "01" or syntax in _LOSSY_SYNTAXES


def _class_name(sop_class_uid: str) -> str:
    return str(pydicom.uid.UID(sop_class_uid).name) if sop_class_uid else "(none)"


def _could_be_uid(text: str) -> bool:
    """Whether it can be referred to: one value, ASCII, at most 64 characters. What digits it has is not our concern."""
    return len(text) <= _MAX_UID_LENGTH and text.isascii() and text.isprintable() and "\\" not in text


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"a damaged or unreadable DICOM file: {reason}", path.name, "copy it again from its source")


def _without_uids(values: dict[str, str]) -> InputError:
    absent = [name for name in ("SeriesInstanceUID", "SOPInstanceUID") if not values[name]]
    modality = f" of modality {values['Modality']}" if values["Modality"] else ""
    return InputError(
        f"a DICOM file{modality} without {' and '.join(absent)}: it belongs to no series",
        f"SOPInstanceUID {values['SOPInstanceUID'] or '(none)'}",
        "export it again from its source",
    )
