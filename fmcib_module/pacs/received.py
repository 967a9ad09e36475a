"""One object as a peer sent it: which study it belongs to, and what it is to us, from its first elements (pydicom)."""

import hashlib
import threading
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import Final

import pydicom
from pydicom.tag import Tag

from fmcib_module.adapters.derived import is_own_output
from fmcib_module.adapters.dicom_header import CT_CLASSES
from fmcib_module.adapters.header_block import read_block
from fmcib_module.adapters.read_errors import READ_ERRORS
from fmcib_module.adapters.report_marks import marks_a_place
from fmcib_module.adapters.roi_references import GSPS_CLASSES, RTSTRUCT_CLASS, SEG_CLASSES, SR_CLASSES
from fmcib_module.core.conventions import SeedKind
from fmcib_module.core.errors import InputError

ROI_NAMES: Final = "RTSTRUCT, SEG or report with coordinates"
"""What a study needs beside its CT, in words."""

LARGEST_REPORT: Final = 16_000_000
"""Bytes of a report that is looked into on arrival, in the memory of the node: RECIST reports take some thousands."""

_LOOKING: Final = threading.Lock()
"""One report at a time is taken apart: memory stays bounded, and pydicom's switches for it are not for threads."""

_KEYWORDS: Final = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "PatientID", "Manufacturer", "ManufacturerModelName"),
)
_TAGS: Final = {keyword: int(Tag(keyword)) for keyword in _KEYWORDS}
_NAME_LENGTH: Final = 32


class Role(StrEnum):
    """What an object is to the chain."""

    CT = "ct"
    ROI = "roi"  # RTSTRUCT, SEG, and reports and presentation states that mark a place
    OTHER = "other"  # kept beside them, but no study waits for it or is opened again by it


@dataclass(frozen=True, slots=True)
class Received:
    """An object that arrived.

    Attributes:
        study_uid: StudyInstanceUID.
        sop_uid: SOPInstanceUID.
        sop_class_uid: SOPClassUID.
        role: What it is to the chain.
        own: This software wrote it.
        sha256: Of the whole file.
        size: Bytes of the file.
        patient_id: PatientID, for those who ask for identifiers.
    """

    study_uid: str
    sop_uid: str
    sop_class_uid: str
    role: Role
    own: bool
    sha256: str
    size: int
    patient_id: str

    @property
    def study(self) -> str:
        """Hashed name of its study."""
        return hashed_name(self.study_uid)

    @property
    def name(self) -> str:
        """Hashed name of the object."""
        return hashed_name(self.sop_uid)


def hashed_name(uid: str) -> str:
    """A name for files and logs that any text can have and that tells nothing: the start of its SHA-256."""
    return hashlib.sha256(uid.encode("utf-8", "replace")).hexdigest()[:_NAME_LENGTH]


def read_received(content: bytes) -> Received:
    """Read what an object is.

    Args:
        content: A whole DICOM file.

    Raises:
        InputError: It cannot be read, or lacks a UID that places it.
    """
    wanted = frozenset(_TAGS.values())
    values = read_block(content[:16384], wanted)
    if values is None:
        values = _parse(content)
    found = {key: values.get(tag, b"").decode("latin-1").strip(" \0") for key, tag in _TAGS.items()}
    absent = [key for key in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID") if not found[key]]
    if absent:
        raise InputError(f"an object without {' and '.join(absent)}", "C-STORE", "export it again from its source")
    own = is_own_output(found["Manufacturer"], found["ManufacturerModelName"])
    return Received(
        study_uid=found["StudyInstanceUID"],
        sop_uid=found["SOPInstanceUID"],
        sop_class_uid=found["SOPClassUID"],
        role=Role.OTHER if own else _role(found["SOPClassUID"], content),
        own=own,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        patient_id=found["PatientID"],
    )


def marks_lesions(content: bytes) -> bool:
    """Whether an object is something that others drew; one that cannot be read is not."""
    try:
        return read_received(content).role is Role.ROI
    except InputError:
        return False


def read_received_file(path: Path) -> Received:
    """As `read_received`, of a file in the spool."""
    return read_received(path.read_bytes())


def _parse(content: bytes) -> dict[int, bytes]:
    """The unusual: deflated, big endian, private groups of many kilobytes."""
    last = max(_TAGS.values())
    try:
        dataset = pydicom.filereader.read_partial(
            BytesIO(content), stop_when=lambda tag, _vr, _length: tag > last, specific_tags=list(_TAGS.values())
        )
        elements = {tag: dataset.get_item(tag) for tag in _TAGS.values()}
        return {tag: _bytes(element.value) for tag, element in elements.items() if element is not None}
    except READ_ERRORS as error:
        what = f"an object that cannot be read ({type(error).__name__})"
        raise InputError(what, "C-STORE", "export it again from its source") from error


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value or "").encode("latin-1", "replace")


def _role(sop_class_uid: str, content: bytes) -> Role:
    """What an object of others is: of a report or presentation state, its content decides."""
    if sop_class_uid in CT_CLASSES:
        return Role.CT
    if sop_class_uid == RTSTRUCT_CLASS or sop_class_uid in SEG_CLASSES:
        return Role.ROI
    kind = SeedKind.SR if sop_class_uid in SR_CLASSES else SeedKind.GSPS if sop_class_uid in GSPS_CLASSES else None
    if kind is None or len(content) > LARGEST_REPORT:
        return Role.OTHER
    with _LOOKING:
        return Role.ROI if marks_a_place(content, kind) else Role.OTHER
