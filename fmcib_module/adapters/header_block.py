"""The first kilobytes of an ordinary DICOM file -> raw values of some elements, many times as fast as a full parse.

Finding a cohort's series means reading some attributes of a few hundred thousand headers. This walks over the
elements (PS3.5 7.1) and keeps only those asked for; whatever is unusual is left to pydicom.
"""

import struct
from collections.abc import Collection
from typing import Final

BLOCK_BYTES: Final = 16384
"""Read of each file; CT headers up to group 0028 are 1 to 4 kB, some with private groups 10 kB."""

_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VR: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""VRs with a 32-bit length in explicit VR (PS3.5 7.1.2)."""

_SHORT_VR: Final = frozenset(
    {
        *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT"),
        *(b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
    }
)
"""VRs with a 16-bit length."""

_TRANSFER_SYNTAX: Final = 0x00020010
_IMPLICIT: Final = b"1.2.840.10008.1.2"
_EXPLICIT: Final = (b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.4.", b"1.2.840.10008.1.2.5")
_DEFLATED: Final = (b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.4.95", b"1.2.840.10008.1.2.4.205")

_TAG_AND_LENGTH = struct.Struct("<HHL")
_EXPLICIT_ELEMENT = struct.Struct("<HH2sH")
_LENGTH = struct.Struct("<L")


class _Unusual(Exception):
    """The walk met something that it leaves to pydicom."""


def read_transfer_syntax(block: bytes) -> str:
    """TransferSyntaxUID of a file by its first bytes; "" where it has no file meta information."""
    if block[128:132] != b"DICM":
        return ""
    try:
        meta, _ = _walk(block, 132, {_TRANSFER_SYNTAX}, last=0x0002FFFF, implicit=False)
    except (_Unusual, struct.error):
        return ""
    return meta.get(_TRANSFER_SYNTAX, b"").decode("latin-1").rstrip("\0 ")


def read_block(block: bytes, wanted: Collection[int], *, whole: bool = False) -> dict[int, bytes] | None:
    """Find elements of the file meta information and of the data set's top level.

    Args:
        block: The file's first `BLOCK_BYTES` bytes.
        wanted: Tags, for example 0x00200032.
        whole: The block is the whole file, so its end is the data set's end.

    Returns:
        Tag -> value as it is in the file; absent elements are left out. None where the file is not little endian with
        preamble and meta information, its elements are out of order, or they go on beyond the block.
    """
    if block[128:132] != b"DICM":
        return None
    try:
        meta, start = _walk(block, 132, {*wanted, _TRANSFER_SYNTAX}, last=0x0002FFFF, implicit=False)
        syntax = meta.get(_TRANSFER_SYNTAX, b"").rstrip(b"\0 ")
        if syntax != _IMPLICIT and (not syntax.startswith(_EXPLICIT) or syntax in _DEFLATED):
            return None
        values, _ = _walk(block, start, wanted, last=max(wanted), implicit=syntax == _IMPLICIT, whole=whole)
    except (_Unusual, struct.error, RecursionError):
        return None
    return {**values, **meta}


def _walk(
    block: bytes, position: int, wanted: Collection[int], *, last: int, implicit: bool, whole: bool = False
) -> tuple[dict[int, bytes], int]:
    """Values of the wanted elements, and where the first element after `last` begins."""
    found: dict[int, bytes] = {}
    previous = 0
    while True:
        if whole and position == len(block):
            return found, position
        group, number, vr, length = _EXPLICIT_ELEMENT.unpack_from(block, position)
        tag, value = group << 16 | number, position + 8
        if tag > last:  # before the rest means anything: after the meta group the VRs may be implicit
            return found, position
        if implicit or vr not in _SHORT_VR:  # the others, nearly all, are read right here, which takes half the time
            tag, length, value = _element(block, position, implicit=implicit)
        if tag <= previous:
            raise _Unusual
        previous = tag
        if length == _UNDEFINED:
            position = _after_items(block, value, implicit=implicit)
            continue
        position = value + length
        if position > len(block):
            raise _Unusual
        if tag in wanted:
            found[tag] = block[value:position]


def _element(block: bytes, position: int, *, implicit: bool) -> tuple[int, int, int]:
    """Tag, length, and where the value begins."""
    group, number, length = _TAG_AND_LENGTH.unpack_from(block, position)
    if implicit or group == 0xFFFE:
        return group << 16 | number, length, position + 8
    _, _, vr, short = _EXPLICIT_ELEMENT.unpack_from(block, position)
    if vr in _LONG_VR:
        length = _LENGTH.unpack_from(block, position + 8)[0]
        if vr == b"UN" and length == _UNDEFINED:
            raise _Unusual  # its items are in implicit VR (PS3.5 6.2.2)
        return group << 16 | number, length, position + 12
    if not (vr.isalpha() and vr.isupper()):
        raise _Unusual
    return group << 16 | number, short, position + 8


def _after_items(block: bytes, position: int, *, implicit: bool) -> int:
    """Where a sequence of undefined length ends (PS3.5 7.5)."""
    while True:
        tag, length, value = _element(block, position, implicit=implicit)
        if tag == _SEQUENCE_END:
            return value
        if tag != _ITEM:
            raise _Unusual
        position = value + length if length != _UNDEFINED else _after_elements(block, value, implicit=implicit)


def _after_elements(block: bytes, position: int, *, implicit: bool) -> int:
    """Where an item of undefined length ends."""
    while True:
        tag, length, value = _element(block, position, implicit=implicit)
        if tag == _ITEM_END:
            return value
        position = value + length if length != _UNDEFINED else _after_items(block, value, implicit=implicit)
