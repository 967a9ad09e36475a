"""Plant words in every text element of a study, to see where they come out again."""

from pathlib import Path
from typing import Final

import pydicom
from pydicom.dataset import Dataset

WORD: Final = "CANARY"
DATE: Final = "19330107"
TIME: Final = "074231"
AGE: Final = "091Y"

TEXT_VRS: Final = frozenset({"LO", "SH", "ST", "LT", "UT", "PN", "UC"})

NAMES_OF_LESIONS: Final = frozenset({"ROIName", "SegmentLabel"})
"""These come out on purpose."""

CODES: Final = frozenset({"CodeValue", "CodeMeaning", "CodingSchemeDesignator", "CodingSchemeVersion", "LongCodeValue"})
"""Words of a dictionary."""

ADDED: Final = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "PatientMotherBirthName",
    "MedicalRecordLocator",
    "PatientComments",
    "AdditionalPatientHistory",
    "Occupation",
    "AccessionNumber",
    "StudyID",
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "ImageComments",
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionalDepartmentName",
    "StationName",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
    "RequestingPhysician",
    "RequestedProcedureDescription",
    "PerformedProcedureStepDescription",
    "DeviceSerialNumber",
    "ManufacturerModelName",
    "StructureSetLabel",
    "StructureSetName",
    "StructureSetDescription",
    "ContentCreatorName",
)
ADDED_DATES: Final = ("PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
ADDED_TIMES: Final = ("PatientBirthTime", "StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime")


def plant(folder: Path) -> int:
    """Fill every DICOM file under a folder; returns how many words were planted."""
    planted = 0
    for path in sorted(folder.rglob("*.dcm")):
        ds = pydicom.dcmread(path)
        for keyword in ADDED:
            setattr(ds, keyword, "x")
        for keyword in ADDED_DATES:
            setattr(ds, keyword, DATE)
        for keyword in ADDED_TIMES:
            setattr(ds, keyword, TIME)
        ds.PatientAge = AGE
        private = ds.private_block(0x0099, "FMCIB TEST", create=True)
        private.add_new(0x01, "LO", "x")
        planted += _fill(ds, planted)
        ds.save_as(path)
    return planted


def _fill(ds: Dataset, number: int) -> int:
    """Walk sequences; one word per element, all different."""
    count = 0
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                count += _fill(item, number + count)
        elif element.VR in TEXT_VRS and element.keyword not in NAMES_OF_LESIONS | CODES:
            if element.tag.is_private_creator:
                continue
            element.value = f"{WORD}{number + count:05d}"
            count += 1
        elif element.VR in {"DA", "DT"}:
            element.value = DATE
        elif element.VR == "TM":
            element.value = TIME
    return count
