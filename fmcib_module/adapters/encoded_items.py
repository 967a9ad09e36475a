"""Sequence items as bytes, Explicit VR Little Endian: thousands of like ones in a moment.

pydicom takes a tenth of a millisecond and more for each item. Where an object holds one item per slice or per feature,
it is built with one item that stands for all, and the encoded ones are put in its place.
"""

import struct
from collections.abc import Iterable
from typing import Final

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_sequence_item
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

PREAMBLE_BYTES: Final = 132
"""Before the first element of a file: 128 of anything, then the magic word (PS3.10 7.1)."""

_ITEM: Final = 0xE000FFFE
_DELIMITERS: Final = (0xE00DFFFE, 0xE0DDFFFE)
_UNDEFINED: Final = 0xFFFFFFFF
_LONG_VRS: Final = frozenset(vr.value.encode() for vr in EXPLICIT_VR_LENGTH_32)
"""Value representations whose length takes four bytes after two that are reserved (PS3.5 7.1.2)."""

_REFERENCED_CLASS: Final = (0x0008, 0x1150)
_REFERENCED_INSTANCE: Final = (0x0008, 0x1155)


def encode_item(item: Dataset) -> bytes:
    """Encode one sequence item."""
    buffer = DicomBytesIO()
    buffer.is_little_endian = True
    buffer.is_implicit_VR = False
    write_sequence_item(buffer, item, ["utf-8"])
    return buffer.getvalue()


def encode_references(uids: Iterable[tuple[str, str]], *, rest: bytes = b"") -> bytes:
    """Items that refer to instances (PS3.3 table 10-11), as pydicom encodes them.

    Args:
        uids: SOPClassUID and SOPInstanceUID of each.
        rest: Encoded elements that follow the two UIDs in every item.
    """
    pieces = []
    for class_uid, instance_uid in uids:
        body = _uid_element(*_REFERENCED_CLASS, class_uid) + _uid_element(*_REFERENCED_INSTANCE, instance_uid) + rest
        pieces += [struct.pack("<II", _ITEM, len(body)), body]
    return b"".join(pieces)


def replace_item(file: bytes, token: bytes, items: bytes) -> bytes:
    """Put items in the place of one; the lengths of all that encloses it follow.

    Args:
        file: A DICOM file, Explicit VR Little Endian.
        token: The encoded item, which must be there once.
        items: What takes its place.

    Raises:
        ValueError: The token is not there once.
    """
    if file.count(token) != 1:
        msg = f"expected the item once, found it {file.count(token)} times"
        raise ValueError(msg)
    at = file.index(token)
    grown = bytearray(file)
    for place in _lengths_around(file, at):
        (length,) = struct.unpack_from("<I", file, place)
        struct.pack_into("<I", grown, place, length + len(items) - len(token))
    grown[at : at + len(token)] = items
    return bytes(grown)


def _uid_element(group: int, element: int, uid: str) -> bytes:
    value = uid.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", group, element, b"UI", len(value)) + value


def _lengths_around(file: bytes, at: int) -> list[int]:
    """Where the lengths stand of the sequences and items that hold byte `at`; undefined ones need no change.

    Elements are walked from the start of the file; only what holds the byte, and sequences of undefined length, whose
    end is not known, are entered.
    """
    found = []
    position = PREAMBLE_BYTES
    while position < at:
        (tag,) = struct.unpack_from("<I", file, position)
        if tag == _ITEM or tag in _DELIMITERS:
            place, kind, header = position + 4, "<I", 8
        elif file[position + 4 : position + 6] in _LONG_VRS:
            place, kind, header = position + 8, "<I", 12
        else:
            place, kind, header = position + 6, "<H", 8
        (length,) = struct.unpack_from(kind, file, place)
        position += header
        if length == _UNDEFINED:
            continue
        if at < position + length:
            found.append(place)
        else:
            position += length
    return found
