"""Ways to harm a DICOM file of a study on disk; each takes a generator and the study's folder."""

import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

LENGTHS: Final = (0, 1, 3, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
"""What a length field may claim."""

NUMBERS: Final = (b"nan", b"inf", b"-inf", b"1e999", b"-1e308", b"1e-320", b"--", b"0", b"-1", b"1,5", b"9" * 400, b"")
TEXTS: Final = (b"../../../x", b"/etc/passwd", b"..", b"a\\b\\c", b"\x00\x01", b"\xff\xfe\xfa", b"=1+1", b"x" * 70_000)
CHARACTER_SETS: Final = (b"ISO_IR 999", b"ISO 2022 IR 87\\ISO 2022 IR 149", b"GB18030", b"\\\\", b"UTF-7")
GEOMETRY: Final = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "GantryDetectorTilt",
    "ContourData",
    "PixelPaddingValue",
)
UIDS: Final = (
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "SOPInstanceUID",
    "FrameOfReferenceUID",
    "SOPClassUID",
    "ReferencedSOPInstanceUID",
    "ReferencedFrameOfReferenceUID",
)
COUNTS: Final = ("Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored", "SamplesPerPixel", "HighBit")
DEPTH: Final = 10_000
MB: Final = 1 << 20


def dicom_files(folder: Path) -> list[Path]:
    """All DICOM files; no pipe and no link of an earlier mutation, which would block or lead outside."""
    return [path for path in sorted(folder.rglob("*.dcm")) if path.is_file() and not path.is_symlink()]


def dicom_file(rng: Random, folder: Path) -> Path:
    """Any DICOM file; the one RTSTRUCT and SEG as often as all slices together."""
    files = dicom_files(folder)
    special = [path for path in files if path.stem in {"rtstruct", "seg"}]
    return rng.choice(special if special and rng.random() < 0.6 else files)


def truncate(rng: Random, folder: Path) -> None:
    """Cut a file off at any byte."""
    path = dicom_file(rng, folder)
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content) + 1)])


def truncate_at_element(rng: Random, folder: Path) -> None:
    """Cut a file off where an element begins or its value does."""
    path = dicom_file(rng, folder)
    content = path.read_bytes()
    ds = pydicom.dcmread(path)
    starts = [e.value_tell for e in ds._dict.values() if isinstance(e, RawDataElement)] or [len(content) // 2]
    path.write_bytes(content[: max(0, rng.choice(starts) - rng.choice((0, 4, 8, 12)))])


def flip_bits(rng: Random, folder: Path) -> None:
    """Flip a few bits anywhere, mostly in the first kilobytes."""
    path = dicom_file(rng, folder)
    content = bytearray(path.read_bytes())
    end = len(content) if rng.random() < 0.3 else min(len(content), 6000)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        content[rng.randrange(end)] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def lie_about_a_length(rng: Random, folder: Path) -> None:
    """Overwrite four bytes after a VR, or anywhere, with a length that is not true."""
    path = dicom_file(rng, folder)
    content = bytearray(path.read_bytes())
    vr = rng.choice((b"UI", b"DS", b"SQ", b"OW", b"LO", b"CS", b"IS", b"OB"))
    places = [n for n in range(132, len(content) - 8) if content[n : n + 2] == vr] or [rng.randrange(len(content) - 8)]
    place = rng.choice(places) + (4 if vr in {b"SQ", b"OW", b"OB"} else 2)
    length = struct.pack("<I", rng.choice((*LENGTHS, rng.getrandbits(16))))
    content[place : place + 4] = length if vr in {b"SQ", b"OW", b"OB"} else length[:2] + content[place + 2 : place + 4]
    path.write_bytes(content)


def odd_numbers(rng: Random, folder: Path) -> None:
    """Geometry, contours and rescale that are not numbers, or not of this world."""
    _set_raw(rng, dicom_file(rng, folder), GEOMETRY, lambda value: _with_one(rng, value, rng.choice(NUMBERS)))


def odd_uids(rng: Random, folder: Path) -> None:
    """UIDs that look like paths, are empty, or hold control characters."""
    _set_raw(rng, dicom_file(rng, folder), UIDS, lambda _: rng.choice((*TEXTS, b"", b"1.2.3" * 40)))


def odd_counts(rng: Random, folder: Path) -> None:
    """0 x 0, 65535 x 65535, a million frames, 255 bits."""

    def value(old: bytes) -> bytes:
        return struct.pack("<H", rng.choice((0, 1, 7, 12, 255, 65535))) if len(old) == 2 else rng.choice(NUMBERS)

    _set_raw(rng, dicom_file(rng, folder), COUNTS, value)


def odd_text(rng: Random, folder: Path) -> None:
    """Any text element, and the character set that tells how to read it."""
    path = dicom_file(rng, folder)
    ds = pydicom.dcmread(path)
    keywords = tuple(ds.dir())
    _set_raw(rng, path, keywords, lambda _: rng.choice(TEXTS))
    if rng.random() < 0.5:
        _set_raw(rng, path, ("SpecificCharacterSet",), lambda _: rng.choice(CHARACTER_SETS))


def negative_spacing(rng: Random, folder: Path) -> None:
    """All slices alike: spacing below zero, or axes that are not orthogonal or not unit vectors."""
    spacing = rng.choice((b"-1\\-1", b"0\\0", b"1e-9\\1e9", b"1\\1\\1"))
    orientation = rng.choice((b"1\\0\\0\\1\\0\\0", b"1\\0\\0\\0.5\\1\\0", b"0\\0\\0\\0\\0\\0", b"2\\0\\0\\0\\2\\0"))
    for path in sorted((folder / "ct").glob("*.dcm")):
        if rng.random() < 0.5:
            _set_raw(rng, path, ("PixelSpacing",), lambda _: spacing)
        else:
            _set_raw(rng, path, ("ImageOrientationPatient",), lambda _: orientation)


def nest_deeply(rng: Random, folder: Path) -> None:
    """Sequences within sequences within sequences."""
    path = dicom_file(rng, folder)
    item = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    depth = rng.choice((50, 1000, DEPTH))
    ends = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    content = path.read_bytes()
    nested = item * depth + (ends * depth if rng.random() < 0.7 else b"")
    place = content.find(struct.pack("<HH", 0x0008, 0x0005)) if rng.random() < 0.5 else -1
    path.write_bytes(content[:place] + nested + content[place:] if place > 0 else content + nested)


def long_contour(rng: Random, folder: Path) -> None:
    """One contour of 10 MB."""
    path = folder / "rtstruct.dcm"
    if path.exists():
        points = b"\\".join([rng.choice((b"1.5", b"-2", b"30.25"))] * (2 * MB))
        _set_raw(rng, path, ("ContourData",), lambda _: points[: 10 * MB])


def private_elements(rng: Random, folder: Path) -> None:
    """Private creators of others, with values of any form."""
    path = dicom_file(rng, folder)
    ds = pydicom.dcmread(path)
    group = rng.choice((0x0009, 0x0011, 0x3007))
    for number in range(rng.randrange(1, 20)):
        tag = Tag(group, rng.choice((0x0010, 0x00FF, 0x1000, 0x1001)) + number)
        ds[tag] = RawDataElement(tag, rng.choice(("LO", "UN", "OB", "DS")), 0, rng.randbytes(8), 0, False, True, True)
    _save(ds, path)


def _set_raw(rng: Random, path: Path, keywords: tuple[str, ...], value: Callable[[bytes], bytes]) -> None:
    """Write bytes as an element's value without any check, at one of the places in the file where it stands."""
    try:
        ds = pydicom.dcmread(path)
        places = [(level, Tag(keyword)) for keyword in keywords for level in _levels(ds) if Tag(keyword) in level]
        if not places:
            return
        level, tag = rng.choice(places)
        old = level.get_item(tag)
        content = old.value if isinstance(old, RawDataElement) else str(old.value).encode("latin-1", "replace")
        raw = value(content if isinstance(content, bytes) else b"")
        raw += b" " * (len(raw) % 2)
        vr = str(old.VR or "UN")
        level._dict[tag] = RawDataElement(tag, vr, len(raw), raw, 0, False, True, True)
        _save(ds, path)
    except Exception:  # noqa: BLE001 (what an earlier mutation broke need not be broken again)
        return


def _levels(ds: Dataset) -> list[Dataset]:
    found = [ds]
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                found += _levels(item)
    return found


def _with_one(rng: Random, value: bytes, new: bytes) -> bytes:
    parts = value.split(b"\\")
    parts[rng.randrange(len(parts))] = new
    return b"\\".join(parts)


def _save(ds: Dataset, path: Path) -> None:
    pydicom.dcmwrite(path, ds, enforce_file_format=False)
