"""Whether a series says that contrast was given (pydicom)."""

from typing import Final

import pydicom

from fmcib_module.adapters.read_errors import READ_ERRORS
from fmcib_module.core.domain import Series

UNKNOWN: Final = "contrast unknown: the header names no agent"
"""A note on the series and no flag on its lesions: many scanners leave the attribute empty whether or not contrast was
given, so a flag would mark most lesions and say nothing of any."""


def contrast_note(series: Series) -> str:
    """`UNKNOWN` where the first image names no contrast agent (PS3.3 C.7.6.4), else "".

    What it names is not repeated: the attribute is free text. The phase has no attribute of its own in CT.
    """
    if not series.instances:
        return ""
    tags = ["ContrastBolusAgent", "ContrastBolusAgentSequence"]
    try:
        header = pydicom.dcmread(series.instances[0].path, specific_tags=tags, force=True, stop_before_pixels=True)
        named = str(header.get("ContrastBolusAgent") or "").strip() or header.get("ContrastBolusAgentSequence")
    except READ_ERRORS:
        named = None
    return "" if named else UNKNOWN
