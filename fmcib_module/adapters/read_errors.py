"""What pydicom and struct raise on damaged files: one list for all that read them."""

import struct
from typing import Final

from pydicom.errors import BytesLengthException, InvalidDicomError

READ_ERRORS: Final = (
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom and its decoders raise on damaged files; they have no narrower common base."""
