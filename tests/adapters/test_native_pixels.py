"""The short way to uncompressed pixels gives what pydicom gives, and leaves everything else to it."""

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from fmcib_module.adapters import pixels
from fmcib_module.adapters.dicom_import import read_studies
from fmcib_module.adapters.native_pixels import read_native
from tests import phantoms
from tests.adapters.slices import decode_slice
from tests.shared import DATA, needs_shared

FOLDERS = ["ct-rtstruct-4dlung-113", "ct-rtstruct-sts", "ct-seg-sr-dcmqi", "edge-cases", "ct-rtstruct-sts/STS_002"]


def decoded(instance, monkeypatch=None):
    if monkeypatch is not None:
        monkeypatch.setattr(pixels, "read_native", lambda _: None)
    return decode_slice(instance)


@needs_shared
@pytest.mark.parametrize("folder", FOLDERS)
def test_real_slices_are_the_same_both_ways(folder, monkeypatch):
    series = [s for study in read_studies(DATA / folder) for s in study.series if s.modality == "CT" and s.instances]
    instances = [s.instances[len(s.instances) // 2] for s in series]
    instances = [instance for instance in instances if read_native(instance.path) is not None]
    assert instances
    for instance in instances:
        short = decoded(instance)
        with monkeypatch.context() as patch:
            np.testing.assert_array_equal(short, decoded(instance, patch))


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", ImplicitVRLittleEndian])
def test_plain_files_take_the_short_way(tmp_path, syntax):
    study = phantoms.write_study(tmp_path, transfer_syntax=syntax, rtstruct=False, seg=False, rescale=(2.0, -1000.0))
    for path, expected in zip(study.ct_paths[:3], study.voxels_hu[:3], strict=True):
        assert read_native(path) is not None
        instance = next(i for i in read_studies(tmp_path)[0].series[0].instances if i.path == path)
        np.testing.assert_array_equal(decoded(instance), expected)


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, RLELossless])
def test_other_syntaxes_are_left_to_pydicom(tmp_path, syntax):
    study = phantoms.write_study(tmp_path, transfer_syntax=syntax, rtstruct=False, seg=False)
    assert read_native(study.ct_paths[0]) is None


def test_whatever_is_not_plain_is_left_to_pydicom(tmp_path):
    study = phantoms.write_study(tmp_path, rtstruct=False, seg=False)
    path = study.ct_paths[0]
    whole = path.read_bytes()
    for content in (whole[:-10], whole[:1000], b"", whole[132:]):
        path.write_bytes(content)
        assert read_native(path) is None
    assert read_native(tmp_path / "absent") is None
    dataset = pydicom.dcmread(study.ct_paths[1])
    dataset.NumberOfFrames = "2"
    dataset.save_as(path)
    assert read_native(path) is None
