"""What our DICOM objects take over from their source: patient, study, de-identification and references."""

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import DA, TM, VR, validate_value

from fmcib_module.adapters.encoded_items import encode_references, replace_item
from fmcib_module.adapters.read_errors import READ_ERRORS
from fmcib_module.core.conventions import SeedKind
from fmcib_module.core.domain import Provenance, RoiSource, Series
from fmcib_module.core.errors import PixelDataError
from fmcib_module.core.report import Concept, deterministic_uid

PRODUCT: Final = "fmcib-module"
MANUFACTURER: Final = "The fmcib-module authors"
UTF8: Final = "ISO_IR 192"
"""Character set of what we write: it holds every character of every source, and of the ROI's names."""

_REFERENCE_TAGS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_TYPE_2_TAGS = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
"""Patient and General Study attributes that must be present, empty where unknown (PS3.3 C.7.1.1, C.7.2.1)."""

_DATES_AND_TIMES = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}

_TEXT_TYPE_2_TAGS = ("StudyID", "AccessionNumber")

_NAME_TAGS = ("PatientName", "ReferringPhysicianName")

_OPTIONAL_TAGS = (
    *("IssuerOfPatientID", "OtherPatientIDs", "PatientAge", "PatientSize", "PatientWeight", "StudyDescription"),
    *("PatientSpeciesDescription", "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName"),
    *("ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID"),
    *("ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription"),
)
DEIDENTIFICATION_TAGS: Final = (
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    "LongitudinalTemporalInformationModified",
)
"""What a source says about its de-identification also holds for what is derived from it (PS3.15 annex E)."""

_IMAGE_TAGS = (
    *("Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "Modality", "NumberOfFrames"),
)


tolerant_of_source = pydicom.config.disable_value_validation
"""Context in which a source's own faults (a PatientID that is too long, an issuer with a line break) neither stop the
writing of its results nor are quoted in warnings, which would put identifiers into logs."""


def read_header(series: Series) -> Dataset:
    """Read what a derived object takes over from the first instance of a series; text comes out as UTF-8.

    Use inside `tolerant_of_source`. Values that DICOM does not allow (a StudyID of 17 characters, an age like "1Y")
    come out empty or not at all, so that what we write is valid; names and the PatientID are kept whatever they are.

    Raises:
        PixelDataError: The file cannot be read any more, or nothing says which study it is of.
    """
    first = series.instances[0]
    tags = (*_REFERENCE_TAGS, *_TYPE_2_TAGS, *_OPTIONAL_TAGS, *DEIDENTIFICATION_TAGS, *_IMAGE_TAGS)
    header = _read_tags(first.path, tags, where=f"SOPInstanceUID {first.sop_instance_uid}")
    header.decode()
    for element in header:
        if element.VR == VR.PN and element.value:
            element.value = str(element.value)  # forgets the source's encoding, so that it is written as UTF-8
    header.SpecificCharacterSet = UTF8
    for keyword in _TYPE_2_TAGS:
        if keyword not in header:
            setattr(header, keyword, None)
    _drop_faults(header)
    if not header.get("StudyInstanceUID"):
        if not series.study_uid:
            where = f"SOPInstanceUID {first.sop_instance_uid}"
            raise PixelDataError("it has no StudyInstanceUID", where, "copy the object again from its source")
        header.StudyInstanceUID = series.study_uid
    if "FrameOfReferenceUID" not in header and series.frame_of_reference_uid:
        header.FrameOfReferenceUID = series.frame_of_reference_uid
    return header


def _drop_faults(header: Dataset) -> None:
    """Empty what must be present, and leave out what need not be, where the value is not one that DICOM allows."""
    if header.PatientSex not in ("M", "F", "O"):
        header.PatientSex = None
    for keyword, convert in _DATES_AND_TIMES.items():
        if not _is_valid(header[keyword].value, convert):
            setattr(header, keyword, None)
    for keyword in _TEXT_TYPE_2_TAGS:
        if not _is_valid_text(header[keyword]):
            setattr(header, keyword, None)
    for keyword in _OPTIONAL_TAGS:
        if keyword in header and not _is_valid_text(header[keyword]):
            del header[keyword]


def _is_valid(value: Any, convert: Callable[[Any], object]) -> bool:
    try:
        convert(value)
    except ValueError:
        return False
    return True


def _is_valid_text(element: DataElement) -> bool:
    """Whether each value is one that the element's VR allows, such as 16 characters at most for SH."""
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    try:
        for value in values:
            validate_value(element.VR, str(value or ""), pydicom.config.RAISE)
    except ValueError:
        return False
    return True


def read_roi_source(source: RoiSource) -> Dataset:
    """Read the UIDs of an RTSTRUCT or SEG, and a SEG's segments.

    Raises:
        PixelDataError: The file cannot be read any more.
    """
    tags = (*_REFERENCE_TAGS, "SegmentSequence") if source.kind is SeedKind.SEG else _REFERENCE_TAGS
    return _read_tags(source.path, tags, where=f"SOPInstanceUID {source.uid}")


def without_names(header: Dataset) -> Dataset:
    """The header as highdicom gets it: it repeats names that it finds unusual in a warning.

    `copy_identity` adds them afterwards.
    """
    nameless = copy.deepcopy(header)  # a shallow copy shares its elements
    for keyword in _NAME_TAGS:
        setattr(nameless, keyword, None)
    return nameless


def refer_to_all(file: bytes, series: Series, *, rest: bytes = b"") -> bytes:
    """Put a reference to each instance of a series in the place of one to its first.

    Args:
        file: An object of ours, encoded, in which one item refers to the first instance.
        series: Whose instances; each object is named once, also where it holds several frames.
        rest: Encoded elements that follow the two UIDs in the item, and in each of the others.
    """
    uids = list(dict.fromkeys((one.sop_class_uid, one.sop_instance_uid) for one in series.instances))
    return replace_item(file, encode_references(uids[:1], rest=rest), encode_references(uids, rest=rest))


def code_item(concept: Concept) -> Dataset:
    """A coded concept as an item of a code sequence."""
    item = Dataset()
    item.CodeValue = concept.value
    item.CodingSchemeDesignator = concept.scheme
    item.CodeMeaning = concept.meaning
    return item


def copy_identity(header: Dataset, derived: Dataset) -> None:
    """Carry over names and the source's statement about its de-identification."""
    for keyword in (*_NAME_TAGS, *DEIDENTIFICATION_TAGS):
        if keyword in header:
            derived[keyword] = header[keyword]


def is_own_output(manufacturer: str, model_name: str) -> bool:
    """Whether the equipment that made an object (PS3.3 C.7.5.2) is this software.

    SR and SEG must name it (type 1), archives keep it and de-identification does too. Who edits our SEG with another
    program makes another object, with that program's name.
    """
    return manufacturer.strip() == MANUFACTURER and model_name.strip() == PRODUCT


def common_arguments(provenance: Provenance, kind: str, series: Series, content: Iterable[str]) -> dict[str, Any]:
    """Arguments that highdicom's SR and SEG constructors share.

    Args:
        provenance: What made the features.
        kind: Which of our outputs this is; its own series.
        series: Source series; its images are part of what the instance is made from.
        content: What the instance holds; the same content gets the same SOPInstanceUID in every rerun.
    """
    images = [f"{one.sop_instance_uid}#{one.frame}" for one in series.instances]
    return {
        "series_instance_uid": deterministic_uid("series", kind, series.uid),
        "sop_instance_uid": deterministic_uid("instance", kind, series.uid, provenance.version, *images, *content),
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": PRODUCT,
        "software_versions": provenance.version,
        "device_serial_number": provenance.version,
    }


def _read_tags(path: Path, tags: Iterable[str], *, where: str) -> Dataset:
    try:
        ds = pydicom.dcmread(path, specific_tags=list(tags), force=True, stop_before_pixels=True)
        list(ds)  # values are converted when they are first asked for: damage shows here, not in what uses them
        return ds
    except (OSError, pydicom.errors.InvalidDicomError) as error:
        raise PixelDataError("the file cannot be read any more", where, "keep INPUT in place during a run") from error
    except READ_ERRORS as error:
        what, fix = f"the header is damaged: {type(error).__name__}", "copy the object again from its source"
        raise PixelDataError(what, where, fix) from error
