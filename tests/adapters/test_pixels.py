"""Hounsfield units against SimpleITK's GDCM reader, and against stored values and rescale written by hand."""

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from fmcib_module.adapters.dicom_header import read_header
from fmcib_module.core.conventions import AIR_HU
from fmcib_module.core.errors import PixelDataError
from tests import damage
from tests.adapters.slices import decode_slice
from tests.enhanced_ct import to_enhanced
from tests.phantoms import write_study
from tests.shared import DATA, needs_shared

SYNTAXES = DATA / "edge-cases" / "transfer-syntax"
LOSSLESS = ("1.2.1", "1.2.2", "1.2.1.99", "1.2.4.57", "1.2.4.70", "1.2.4.80", "1.2.4.90", "1.2.5")


def the_slice(path, frame=0):
    header = read_header(path)
    assert header is not None
    return header.slices[frame].instance


def a_phantom(folder, **options):
    return write_study(folder, shape_kji=(3, 8, 6), lesions=(), rtstruct=False, seg=False, **options)


def syntax_file(number):
    return next(SYNTAXES.glob(f"*_1.2.840.10008.{number}.dcm"))


def gdcm_hu(path) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path), imageIO="GDCMImageIO"))[0]


@needs_shared
@pytest.mark.parametrize("number", LOSSLESS)
def test_every_lossless_transfer_syntax_gives_the_uncompressed_values(number):
    hu = decode_slice(the_slice(syntax_file(number)))
    np.testing.assert_array_equal(hu, decode_slice(the_slice(syntax_file("1.2"))))
    assert (hu.min(), hu.max()) == (-2000 - 1024, 2402 - 1024)  # stored range as its publisher states it


@needs_shared
@pytest.mark.parametrize(
    ("number", "largest_hu"), [("1.2.4.81", 2), ("1.2.4.91", 25), ("1.2.4.51", 40), ("1.2.4.50", 130)]
)
def test_lossy_transfer_syntaxes_stay_near_the_uncompressed_values(number, largest_hu):
    hu = decode_slice(the_slice(syntax_file(number)))
    error = np.abs(hu - decode_slice(the_slice(syntax_file("1.2"))))
    assert 0 < error.max() <= largest_hu


@needs_shared
@pytest.mark.parametrize(("number", "process"), [("1.2.4.53", "Process 6 and 8"), ("1.2.4.55", "Process 10 and 12")])
def test_a_syntax_without_a_decoder_is_named_with_the_instance(number, process):
    path = syntax_file(number)
    with pytest.raises(PixelDataError) as caught:
        decode_slice(the_slice(path))
    assert str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) in caught.value.where
    assert process in caught.value.where
    assert f"1.2.840.10008.{number}" in caught.value.where


@needs_shared
@pytest.mark.parametrize(
    "name",
    [
        "ct-rtstruct-4dlung-113/ct/1-50.dcm",
        "ct-rtstruct-sts/STS_002/ct/000020.dcm",
        "edge-cases/geometry/gantry-tilt/IM-0001-0001.dcm",
        "edge-cases/rtstruct-missing-slices/ct.0.dcm",
        "edge-cases/transfer-syntax/CTImage.dcm_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm",
    ],
)
def test_hounsfield_units_are_those_of_gdcm(name):
    np.testing.assert_array_equal(decode_slice(the_slice(DATA / name)), gdcm_hu(DATA / name))


@needs_shared
def test_pixel_padding_is_air_where_gdcm_leaves_it():
    path = DATA / "ct-seg-sr-dcmqi" / "ct-3slice" / "01.dcm"
    theirs = gdcm_hu(path)
    padding = theirs == -2000 - 1024
    assert padding.mean() > 0.1  # the corners outside the scanner's circle
    expected = np.where(padding, AIR_HU, theirs)
    np.testing.assert_array_equal(decode_slice(the_slice(path)), expected)


@needs_shared
def test_rle_with_odd_fragments_decodes_as_gdcm_does():
    path = DATA / "edge-cases" / "malformed" / "D_CLUNIE_CT1_RLE_FRAGS.dcm"
    theirs = gdcm_hu(path)
    np.testing.assert_array_equal(decode_slice(the_slice(path)), np.where(theirs == -3024, AIR_HU, theirs))


@needs_shared
def test_frames_of_a_fragmented_object_without_offset_table_are_told_apart():
    path = SYNTAXES / "CT0012.fragmented_no_bot_jpeg_baseline.51.dcm"
    frames = [decode_slice(the_slice(path, n)) for n in range(2)]
    theirs = pydicom.dcmread(path).pixel_array
    for frame, stored in zip(frames, theirs, strict=True):
        np.testing.assert_array_equal(frame, stored.astype(np.float32) - 1024)
    assert np.any(frames[0] != frames[1])


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
    ],
    ids=lambda uid: uid.name,
)
def test_each_slice_has_its_own_rescale(tmp_path, syntax):
    rescale = [(1.0, -1024.0), (0.5, -900.0), (2.0, -1000.5)]
    study = a_phantom(tmp_path, rescale=rescale, transfer_syntax=syntax)
    for path, expected in zip(study.ct_paths, study.voxels_hu, strict=True):
        np.testing.assert_array_equal(decode_slice(the_slice(path)), expected)


@pytest.mark.parametrize("shuffled", [False, True])
def test_each_frame_has_its_own_rescale(tmp_path, shuffled):
    study = a_phantom(tmp_path, rescale=[(1.0, -1024.0), (0.5, -900.0), (2.0, -1000.5)])
    to_enhanced(study, shuffled=shuffled)
    slices = sorted(read_header(tmp_path / "ct" / "enhanced.dcm").slices, key=lambda s: s.instance.position_mm[2])
    for one, expected in zip(slices, study.voxels_hu, strict=True):
        np.testing.assert_array_equal(decode_slice(one.instance), expected)


def test_only_the_frame_asked_for_is_decoded(tmp_path):
    study = a_phantom(tmp_path)
    enhanced = to_enhanced(study, shuffled=False)
    enhanced.compress(RLELossless, generate_instance_uid=False)
    path = tmp_path / "ct" / "enhanced.dcm"
    frames = list(pydicom.encaps.generate_frames(enhanced.PixelData, number_of_frames=3))
    enhanced.PixelData = pydicom.encaps.encapsulate([b"\xff" * 64, frames[1], b"\xff" * 64])
    enhanced.save_as(path, enforce_file_format=True)
    np.testing.assert_array_equal(decode_slice(the_slice(path, 1)), study.voxels_hu[1])
    with pytest.raises(PixelDataError, match="frame 1"):
        decode_slice(the_slice(path, 0))


def stored_slice(folder, stored: np.ndarray, **attributes):
    """A slice with these stored values and attributes, slope 1 and intercept 0."""
    study = a_phantom(folder)
    values = {"RescaleSlope": 1, "RescaleIntercept": 0, "PixelData": stored.tobytes(), **attributes}
    damage.edit_slice(study, 0, **values)
    return the_slice(study.ct_paths[0])


def test_bits_above_bits_stored_are_ignored(tmp_path):
    values = np.arange(48, dtype=np.uint16).reshape(8, 6) * 80
    instance = stored_slice(tmp_path, values | 0xA000, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(decode_slice(instance), values)


def test_signed_values_in_12_bits_keep_their_sign(tmp_path):
    values = np.arange(-1000, 1400, 50, dtype=np.int16).reshape(8, 6)
    stored = (values.astype(np.uint16) & 0x0FFF) | 0x5000
    instance = stored_slice(tmp_path, stored, BitsStored=12, HighBit=11, PixelRepresentation=1)
    np.testing.assert_array_equal(decode_slice(instance), values)


def test_monochrome1_is_a_display_matter_and_not_inverted(tmp_path):
    values = np.arange(48, dtype=np.uint16).reshape(8, 6)
    instance = stored_slice(tmp_path, values, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(decode_slice(instance), values)


@pytest.mark.parametrize("limits", [(5, 2), (2, 5)])
def test_a_range_of_padding_values_is_air(tmp_path, limits):
    values = np.arange(48, dtype=np.uint16).reshape(8, 6)
    instance = stored_slice(tmp_path, values)
    ds = pydicom.dcmread(instance.path)
    ds.add_new("PixelPaddingValue", "US", limits[0])
    ds.add_new("PixelPaddingRangeLimit", "US", limits[1])
    ds.save_as(instance.path)
    np.testing.assert_array_equal(decode_slice(instance), np.where((values >= 2) & (values <= 5), AIR_HU, values))


def test_a_file_without_preamble_and_meta_information_decodes(tmp_path):
    study = a_phantom(tmp_path)
    ds = pydicom.dcmread(study.ct_paths[1])
    del ds.file_meta
    bare = tmp_path / "bare"
    ds.save_as(bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    np.testing.assert_array_equal(decode_slice(the_slice(bare)), study.voxels_hu[1])


@pytest.mark.parametrize("absent", ["PixelData", "RescaleSlope", "RescaleIntercept", "BitsStored"])
def test_a_slice_that_lacks_what_hounsfield_units_need_is_named(tmp_path, absent):
    study = a_phantom(tmp_path)
    uid = damage.edit_slice(study, 0, **{absent: None})
    with pytest.raises(PixelDataError, match=uid):
        decode_slice(the_slice(study.ct_paths[0]))


def test_a_truncated_file_is_named(tmp_path):
    study = a_phantom(tmp_path)
    path = study.ct_paths[2]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(PixelDataError, match=str(the_slice(path).sop_instance_uid)):
        decode_slice(the_slice(path))
