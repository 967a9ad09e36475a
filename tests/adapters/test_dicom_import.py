"""What a folder is found to hold: real edge cases with their stated outcome, and broken phantoms."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
import pytest

from fmcib_module.adapters.dicom_import import read_studies, scan_folder
from fmcib_module.adapters.volume_reader import grid_of, read_volume
from fmcib_module.core.conventions import Flag
from fmcib_module.core.errors import NotOneVolumeError
from tests import damage
from tests.enhanced_ct import to_enhanced
from tests.phantoms import write_study
from tests.shared import DATA, needs_shared

EDGE = DATA / "edge-cases"


def a_ct(folder: Path, **options):
    return write_study(folder, shape_kji=(5, 8, 6), lesions=(), rtstruct=False, seg=False, **options)


def all_series(folder: Path):
    return [series for study in read_studies(folder) for series in study.series]


def the_series(folder: Path):
    (series,) = all_series(folder)
    return series


def reasons(folder: Path) -> dict[str, str]:
    return {series.modality: series.skip_reason for series in all_series(folder)}


@needs_shared
def test_the_4d_lung_series_and_its_rtstruct_are_found():
    scan = scan_folder(DATA / "ct-rtstruct-4dlung-113")
    ((series,),) = [study.series for study in scan.studies]
    assert (len(series.instances), len(series.roi_sources), scan.problems) == (99, 1, ())
    grid, flags = grid_of(series)
    assert grid.shape == (99, 512, 512)
    assert grid.spacing_mm == pytest.approx((0.9766, 0.9766, 3.0), abs=1e-9)
    assert flags == ()


@needs_shared
def test_five_sarcoma_studies_are_found_each_with_its_rtstruct_and_mask():
    scan = scan_folder(DATA / "ct-rtstruct-sts")
    assert len(scan.studies) == 5
    assert scan.problems == ()
    for study in scan.studies:
        (series,) = study.series
        assert 47 <= len(series.instances) <= 55
        assert grid_of(series)[0].spacing_mm == pytest.approx((0.9766, 0.9766, 3.27), abs=1e-4)
        assert {source.kind.value for source in series.roi_sources} == {"RTSTRUCT", "MASK"}
        folders = {path.parts[-3] for path in (i.path for i in series.instances)}
        assert folders == {s.path.parts[-3] for s in series.roi_sources if s.kind.value == "RTSTRUCT"}
        assert folders == {s.path.parts[-2] for s in series.roi_sources if s.kind.value == "MASK"}


@needs_shared
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gantry-tilt", "14.0 degrees (gantry tilt)"),
        ("missing-slice", "gap expected 5.000 mm, found 10.000 mm"),
        ("tilt-and-missing-slice", "15.5 degrees (gantry tilt)"),
        ("not-a-volume", "all 4 slices lie at one position"),
    ],
)
def test_each_broken_geometry_is_listed_and_refused_with_its_reason(name, words):
    series = the_series(EDGE / "geometry" / name)
    assert (len(series.instances), series.skip_reason) == (4, "")
    with pytest.raises(NotOneVolumeError) as caught:
        grid_of(series)
    assert words in caught.value.what
    assert any(i.sop_instance_uid in caught.value.where for i in series.instances)


@needs_shared
@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("CT1_J2KI", "CT volume, lossy"),
        ("D_CLUNIE_CT1_RLE_FRAGS.dcm", "CT volume"),
        ("GH177_D_CLUNIE_CT1_IVRLE_BigEndian_undefined_length.dcm", "a damaged or unreadable DICOM file: OSError"),
        ("GH340.dcm", "a DICOM file of modality MR without SeriesInstanceUID and SOPInstanceUID"),
        ("Issue1097_FailToOpenDeflatedFileWithSQ.dcm", "SOP Class 2.25.152752519834663263826301420581341174218 is not"),
        ("no-meta-length-test.dcm", "Modality US is not CT"),
        ("no-pixel-data.dcm", "Modality SR is not CT"),
        ("no-pixel-spacing.dcm", "Modality US is not CT"),
    ],
)
def test_each_malformed_file_has_its_stated_outcome(name, outcome):
    scan = scan_folder(EDGE / "malformed" / name)
    if outcome.startswith("CT volume"):
        ((series,),) = [study.series for study in scan.studies]
        assert series.flags == ((Flag.LOSSY_COMPRESSION,) if "lossy" in outcome else ())
        assert read_volume(series).voxels_hu.shape == (1, 512, 512)
    elif scan.problems:
        assert scan.problems[0].path == name
        assert outcome in scan.problems[0].error.what
    else:
        assert outcome in scan.studies[0].series[0].skip_reason


@needs_shared
def test_a_perfusion_map_is_skipped_but_can_be_read_by_name():
    series = the_series(EDGE / "multiframe" / "eCT_Supplemental.dcm")
    assert series.skip_reason == "a map of RCBF, not Hounsfield units"
    assert grid_of(series)[0].spacing_mm == pytest.approx((0.388672, 0.388672, 10.0))


@needs_shared
def test_every_transfer_syntax_is_imported_and_lossy_ones_are_flagged():
    for path in sorted((EDGE / "transfer-syntax").iterdir()):
        series = the_series(path)
        uid = pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
        lossy = uid.rsplit(".", 1)[-1] in {"50", "51", "53", "55", "81", "91"}
        assert (Flag.LOSSY_COMPRESSION in series.flags) == (lossy and not series.skip_reason), path.name
        assert len(series.instances) == (2 if "CT0012" in path.name else 1)


def test_a_tree_of_patients_without_extensions_and_with_other_files_is_sorted_out(tmp_path):
    studies = [a_ct(tmp_path / f"patient {n}" / "a" / "b", seed=n) for n in range(3)]
    for n, path in enumerate(path for study in studies for path in study.ct_paths):
        path.rename(path.with_name(f"IM{n}"))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "patient 0" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 100)
    (tmp_path / "patient 0" / "._IM1.dcm").write_bytes(b"\0\5\26\7" * 40)
    scan = scan_folder(tmp_path)
    assert [study.uid for study in scan.studies] == sorted(study.study_uid for study in studies)
    assert {s.uid for study in scan.studies for s in study.series} == {study.series_uid for study in studies}
    assert all(len(s.instances) == 5 for study in scan.studies for s in study.series)
    assert (scan.problems, scan.ignored_files) == ((), 3)


def test_names_and_order_of_files_do_not_change_the_result(tmp_path):
    plain, shuffled = a_ct(tmp_path / "plain"), a_ct(tmp_path / "shuffled")
    damage.shuffle_slices(shuffled)
    positions = [[i.position_mm for i in the_series(s.folder).instances] for s in (plain, shuffled)]
    assert positions[0] == positions[1]
    assert grid_of(the_series(plain.folder)) == grid_of(the_series(shuffled.folder))


def test_what_is_not_ct_is_listed_with_its_reason(tmp_path):
    classes = {"MR": "4", "PT": "128", "SR": "88.33", "PR": "11.1"}
    for seed, (modality, number) in enumerate(classes.items()):
        study = a_ct(tmp_path / modality, seed=seed)
        for k in range(5):
            damage.edit_slice(study, k, Modality=modality, SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{number}")
    assert reasons(tmp_path) == {modality: f"Modality {modality} is not CT" for modality in classes}


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer, not a CT volume"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "Secondary Capture Image Storage is not a CT image"),
        ({"PixelSpacing": None}, "CT without PixelSpacing"),
        ({"ImagePositionPatient": None}, "CT without ImagePositionPatient"),
        ({"ImageOrientationPatient": ""}, "CT without ImageOrientationPatient"),
        ({"SamplesPerPixel": 3}, "colour pixels are not CT values"),
    ],
)
def test_ct_that_is_no_volume_is_listed_with_its_reason(tmp_path, attributes, reason):
    study = a_ct(tmp_path)
    for k in range(5):
        damage.edit_slice(study, k, **attributes)
    assert reasons(tmp_path) == {"CT": reason}


def test_a_localizer_in_a_series_does_not_spoil_its_volume(tmp_path):
    study = a_ct(tmp_path)
    damage.duplicate_slice(study, 0)
    ds = pydicom.dcmread(study.ct_paths[0].with_name("duplicate-0.dcm"))
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    ds.save_as(study.ct_paths[0].with_name("duplicate-0.dcm"))
    volume, scout = all_series(tmp_path)
    assert (volume.output_name, volume.skip_reason, len(volume.instances)) == (study.series_uid, "", 5)
    assert (scout.output_name, scout.skip_reason) == (f"{study.series_uid}.acq2", "a localizer, not a CT volume")


def test_a_slice_without_a_position_is_reported_when_others_have_one(tmp_path):
    study = a_ct(tmp_path)
    uid = damage.edit_slice(study, 4, ImagePositionPatient=None)
    scan = scan_folder(tmp_path)
    assert [(p.path, p.uid) for p in scan.problems] == [("ct/0005.dcm", uid)]
    assert len(scan.studies[0].series[0].instances) == 4


def test_a_file_copied_twice_is_taken_once_and_flagged(tmp_path):
    study = a_ct(tmp_path)
    damage.duplicate_slice(study, 2, new_uid=False)
    series = the_series(tmp_path)
    assert (len(series.instances), series.flags) == (5, (Flag.DUPLICATE_SLICES,))
    assert grid_of(series)[0].shape == (5, 8, 6)


def test_two_different_instances_at_one_position_are_refused(tmp_path):
    study = a_ct(tmp_path)
    uid = damage.duplicate_slice(study, 2)
    with pytest.raises(NotOneVolumeError, match="two slices lie at one position") as caught:
        grid_of(the_series(tmp_path))
    assert uid in str(caught.value)


def test_two_acquisitions_in_one_series_become_two_that_share_its_uid(tmp_path):
    study = a_ct(tmp_path)
    for k in range(5):
        damage.duplicate_slice(study, k)
        path = study.ct_paths[k].with_name(f"duplicate-{k}.dcm")
        ds = pydicom.dcmread(path)
        ds.AcquisitionNumber = 2
        ds.save_as(path)
    first, second = all_series(tmp_path)
    assert [s.uid for s in (first, second)] == [study.series_uid] * 2
    assert [s.output_name for s in (first, second)] == [study.series_uid, f"{study.series_uid}.acq2"]
    assert [{i.acquisition_number for i in s.instances} for s in (first, second)] == [{1}, {2}]
    assert all(s.flags == (Flag.ACQUISITION_SPLIT,) and grid_of(s)[0].shape == (5, 8, 6) for s in (first, second))


def test_an_enhanced_object_gives_a_slice_per_frame_sorted_by_position(tmp_path):
    study = a_ct(tmp_path)
    single = grid_of(the_series(tmp_path))[0]
    to_enhanced(study)
    series = the_series(tmp_path)
    assert sorted(i.frame for i in series.instances) == [0, 1, 2, 3, 4]
    assert [i.position_mm[2] for i in series.instances] == sorted(i.position_mm[2] for i in series.instances)
    assert grid_of(series)[0] == single


def test_a_series_uid_that_is_no_path_becomes_a_safe_folder_name(tmp_path):
    study = a_ct(tmp_path)
    with pytest.warns(UserWarning, match="Invalid value for VR UI"):
        damage.edit_slice(study, 0, SeriesInstanceUID="../../outside")
    name = the_series(study.ct_paths[0]).output_name
    assert name.startswith("sha256-")
    assert "/" not in name


def test_two_phases_in_one_enhanced_object_become_two_series(tmp_path):
    study = a_ct(tmp_path)
    enhanced = to_enhanced(study, shuffled=False)
    frames = list(enhanced.PerFrameFunctionalGroupsSequence)
    both = []
    for phase in (1, 2):
        for frame in deepcopy(frames):
            frame.FrameContentSequence[0].TemporalPositionIndex = phase
            both.append(frame)
    enhanced.PerFrameFunctionalGroupsSequence = both
    enhanced.NumberOfFrames = 10
    enhanced.PixelData = enhanced.PixelData + bytes(len(enhanced.PixelData))
    enhanced.save_as(tmp_path / "ct" / "enhanced.dcm")
    first, second = all_series(tmp_path)
    assert [[i.frame for i in s.instances] for s in (first, second)] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert first.flags == second.flags == (Flag.ACQUISITION_SPLIT,)
    np.testing.assert_array_equal(read_volume(first).voxels_hu, study.voxels_hu)
    assert np.all(read_volume(second).voxels_hu == -1024)


def test_a_truncated_rtstruct_goes_to_its_series_by_what_is_left_of_it(tmp_path):
    study = write_study(tmp_path, shape_kji=(4, 8, 6), seg=False)
    assert study.rtstruct_path is not None
    whole = study.rtstruct_path.read_bytes()
    cut = whole.index(b"\x06\x30\x10\x00") + 40  # inside ReferencedFrameOfReferenceSequence
    study.rtstruct_path.write_bytes(whole[:cut])
    scan = scan_folder(tmp_path)
    sources = [source for found in scan.studies for series in found.series for source in series.roi_sources]
    assert ([source.path for source in sources], scan.problems) == ([study.rtstruct_path], ())
