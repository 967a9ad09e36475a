"""The quick walk over a header against pydicom's full parse, on real files, phantoms and damaged bytes."""

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from fmcib_module.adapters.header_block import BLOCK_BYTES, read_block, read_transfer_syntax
from tests.phantoms import write_study
from tests.shared import DATA, needs_shared

WANTED = {
    pydicom.tag.Tag(keyword)
    for keyword in (
        *("SOPInstanceUID", "SeriesInstanceUID", "ImagePositionPatient", "Modality", "Rows", "TransferSyntaxUID"),
        *("PixelSpacing", "LossyImageCompression", "ImageType", "AcquisitionTime", "FrameOfReferenceUID"),
    )
}


def as_pydicom_sees_it(path):
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    raw = {tag: ds.get_item(tag) for tag in WANTED if tag in ds}
    values = {int(tag): element.value or b"" for tag, element in raw.items()}
    return values | {0x00020010: ds.file_meta.TransferSyntaxUID.encode()}


def block_of(path) -> bytes:
    with path.open("rb") as file:
        return file.read(BLOCK_BYTES)


def assert_same(path) -> None:
    found = read_block(block_of(path), WANTED)
    assert found is not None, path.name
    found[0x00020010] = found[0x00020010].rstrip(b"\0")
    assert found == as_pydicom_sees_it(path), path.name


@needs_shared
@pytest.mark.parametrize(
    "pattern",
    [
        "ct-rtstruct-4dlung-113/ct/1-1*.dcm",
        "ct-rtstruct-sts/STS_0*/ct/00000*.dcm",
        "ct-seg-sr-dcmqi/ct-3slice/*",
        "edge-cases/geometry/*/*",
        "edge-cases/transfer-syntax/*1.2.4*",
        "edge-cases/multiframe/*",
    ],
)
def test_real_headers_are_read_as_pydicom_reads_them(pattern):
    paths = sorted(DATA.glob(pattern))
    assert paths
    for path in paths:
        assert_same(path)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian], ids=lambda uid: uid.name)
@pytest.mark.parametrize("undefined", [False, True], ids=["defined", "undefined"])
def test_sequences_of_either_length_are_passed_over(tmp_path, syntax, undefined):
    path = write_study(tmp_path, shape_kji=(1, 4, 4), lesions=(), rtstruct=False, seg=False).ct_paths[0]
    ds = pydicom.dcmread(path)
    inner = pydicom.Dataset()
    inner.SeriesInstanceUID, inner.Modality = "1.2.3", "MR"  # must not be taken for the file's own
    outer = pydicom.Dataset()
    outer.ReferencedSeriesSequence = [inner, pydicom.Dataset()]
    ds.SourceImageSequence = [outer, outer]
    for sequence in (ds["SourceImageSequence"], outer["ReferencedSeriesSequence"]):
        sequence.is_undefined_length = undefined
        for item in sequence.value:
            item.is_undefined_length_sequence_item = undefined
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path, implicit_vr=syntax.is_implicit_VR, little_endian=True)
    assert_same(path)


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian], ids=lambda uid: uid.name)
def test_other_encodings_are_left_to_pydicom(tmp_path, syntax):
    study = write_study(tmp_path, shape_kji=(1, 4, 4), lesions=(), rtstruct=False, seg=False, transfer_syntax=syntax)
    block = block_of(study.ct_paths[0])
    assert read_block(block, WANTED) is None
    assert read_transfer_syntax(block) == syntax


@pytest.fixture(scope="module")
def a_block(tmp_path_factory):
    folder = tmp_path_factory.mktemp("block")
    return block_of(write_study(folder, shape_kji=(1, 4, 4), lesions=(), rtstruct=False, seg=False).ct_paths[0])


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_bytes_never_raise(a_block, data):
    damaged = bytearray(a_block[: data.draw(st.integers(0, len(a_block)))])
    for _ in range(data.draw(st.integers(0, 8)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    found = read_block(bytes(damaged), WANTED)
    assert found is None or set(found) <= WANTED
    assert isinstance(read_transfer_syntax(bytes(damaged)), str)


def test_nesting_without_end_is_left_to_pydicom(a_block):
    nested = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 800
    meta_end = (
        a_block.index(b"\x08\x00\x05\x00") if b"\x08\x00\x05\x00" in a_block else a_block.index(b"\x08\x00\x08\0")
    )
    assert read_block(a_block[:meta_end] + nested, WANTED) is None
