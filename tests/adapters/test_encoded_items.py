"""Encoded items against pydicom: what it writes itself, and what it reads after one item was replaced by many."""

from io import BytesIO

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from fmcib_module.adapters.encoded_items import encode_item, encode_references, replace_item

CLASS = str(CTImageStorage)
UIDS = [(CLASS, f"1.2.840.{'9' * n}") for n in range(1, 40)]  # of odd and of even length


def image_item(class_uid, instance_uid):
    item = Dataset()
    item.ReferencedSOPClassUID = class_uid
    item.ReferencedSOPInstanceUID = instance_uid
    return item


def a_file(items, *, undefined=False):
    """The items three sequences deep, with elements of short, long and no length before and after."""
    series = Dataset()
    series.SeriesInstanceUID = "1.2.3"
    series.ReferencedSOPSequence = items
    study = Dataset()
    study.StudyInstanceUID = "1.2"
    study.ReferencedSeriesSequence = [series]
    before = Dataset()
    before.ReferencedFrameOfReferenceUID = "1.2.4"
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CLASS
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.5"
    ds.PatientName = "PHANTOM^TEST"
    ds.ReferencedFrameOfReferenceSequence = [before]
    ds.CurrentRequestedProcedureEvidenceSequence = [study]
    ds.ContentSequence = []
    ds.PixelData = b"\0" * 70_000
    ds["PixelData"].VR = "OW"
    if undefined:
        ds["ReferencedFrameOfReferenceSequence"].is_undefined_length = True
        ds["CurrentRequestedProcedureEvidenceSequence"].is_undefined_length = True
        before.is_undefined_length_sequence_item = study.is_undefined_length_sequence_item = True
    out = BytesIO()
    pydicom.dcmwrite(out, ds, enforce_file_format=True)
    return out.getvalue()


def test_references_are_encoded_as_pydicom_encodes_them():
    assert encode_references(UIDS) == b"".join(encode_item(image_item(*uids)) for uids in UIDS)


def test_elements_after_the_uids_are_part_of_each_item():
    item = image_item(*UIDS[0])
    plain = len(encode_item(item))
    item.SpatialLocationsPreserved = "YES"
    rest = encode_item(item)[plain:]
    assert encode_references(UIDS[:1], rest=rest) == encode_item(item)


@pytest.mark.parametrize("undefined", [False, True], ids=["defined lengths", "undefined lengths"])
@pytest.mark.parametrize("count", [0, 1, 2, 39])
def test_a_file_with_a_replaced_item_is_the_file_that_pydicom_writes_with_all(count, undefined):
    token = encode_references(UIDS[5:6])
    grown = replace_item(a_file([image_item(*UIDS[5])], undefined=undefined), token, encode_references(UIDS[:count]))
    assert grown == a_file([image_item(*uids) for uids in UIDS[:count]], undefined=undefined)


def test_an_item_that_is_absent_or_there_twice_is_refused():
    token = encode_references(UIDS[:1])
    with pytest.raises(ValueError, match="found it 0 times"):
        replace_item(a_file([image_item(*UIDS[1])]), token, b"")
    with pytest.raises(ValueError, match="found it 2 times"):
        replace_item(a_file([image_item(*UIDS[0])] * 2), token, b"")
