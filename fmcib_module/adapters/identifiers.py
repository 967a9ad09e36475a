"""Who a series is of (pydicom): for those who ask for it, and as a pseudonym for all."""

from collections.abc import Sequence
from typing import Final

import pydicom

from fmcib_module.adapters.read_errors import READ_ERRORS
from fmcib_module.core.domain import Series
from fmcib_module.core.pseudonyms import name_of

KEYWORDS: Final = ("PatientName", "PatientID", "StudyDate", "SeriesDescription")
PATIENT_KEYWORDS: Final = ("PatientID", "IssuerOfPatientID")


def read_identifiers(series: Series) -> dict[str, str]:
    """Keyword -> value of what the first image says; empty for image files, and what is absent is left out."""
    return _read(series, KEYWORDS) or {}


def name_patient(series: Series, salt: str) -> str:
    """The pseudonym of a series' patient; empty for image files and where the header cannot be read any more."""
    found = _read(series, PATIENT_KEYWORDS)
    if found is None:
        return ""
    patient_id, issuer = (found.get(keyword, "") for keyword in PATIENT_KEYWORDS)
    return name_of(salt, patient_id=patient_id, issuer=issuer, study_uid=series.study_uid)


def _read(series: Series, keywords: Sequence[str]) -> dict[str, str] | None:
    """Keyword -> value in the first image, without what is absent; None where there is none that can be read."""
    if not series.instances:
        return None
    try:
        header = pydicom.dcmread(
            series.instances[0].path, specific_tags=list(keywords), force=True, stop_before_pixels=True
        )
        values = {keyword: header[keyword].value for keyword in keywords if keyword in header}
        return {keyword: "" if value is None else str(value) for keyword, value in values.items()}
    except READ_ERRORS:
        return None
