"""Who a series is of, for those who ask for it (pydicom)."""

from typing import Final

import pydicom

from fmcib_module.adapters.read_errors import READ_ERRORS
from fmcib_module.core.domain import Series

KEYWORDS: Final = ("PatientName", "PatientID", "StudyDate", "SeriesDescription")


def read_identifiers(series: Series) -> dict[str, str]:
    """Keyword -> value of what the first image says; empty for image files, and what is absent is left out."""
    if not series.instances:
        return {}
    path = series.instances[0].path
    try:
        header = pydicom.dcmread(path, specific_tags=list(KEYWORDS), force=True, stop_before_pixels=True)
        return {keyword: str(header[keyword].value) for keyword in KEYWORDS if keyword in header}
    except READ_ERRORS:
        return {}
