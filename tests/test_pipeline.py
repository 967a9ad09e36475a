"""The chain from a folder to its outputs: what is written and what the ledger says."""

import json

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest

from fmcib_module import run
from fmcib_module.adapters import runner, volume_reader
from fmcib_module.core.conventions import Flag, Mode
from fmcib_module.core.domain import Seed
from fmcib_module.core.errors import ConfigError, InputError, OutputError, WeightsError
from fmcib_module.core.ledger import ExitCode, Status
from fmcib_module.core.patch import extract_patch
from fmcib_module.core.volume import Volume
from tests import damage, phantoms
from tests.chain import LESIONS, features_of, noting, reasons, rows_of
from tests.phantoms import Lesion

NAMES = ("GTV-1", "Node")


@pytest.fixture
def study(tmp_path):
    return phantoms.write_study(tmp_path / "in" / "patient", lesions=LESIONS)


def test_features_are_the_networks_output_for_the_patch_at_the_known_centroid(study, tmp_path):
    ledger = run(tmp_path / "in", tmp_path / "out")
    assert ledger.exit_code is ExitCode.OK
    volume = Volume.from_array(study.voxels_hu, study.affine, study.series_uid)
    encoder = runner.load_encoder("mini")
    rows = {row["Mhub ROI"]: row for row in rows_of(tmp_path / "out" / study.series_uid / "features.csv")}
    assert set(rows) == set(NAMES)
    for name, centre in study.centroids.items():
        found = [float(rows[name][f"coord{axis}"]) for axis in "XYZ"]
        np.testing.assert_allclose(found, centre, atol=1e-3)
        patch = extract_patch(volume, Seed(tuple(found), name, ""))
        np.testing.assert_array_equal(features_of(rows[name]), encoder.encode([patch])[0])


def test_csv_parquet_and_sr_hold_the_same_float32_values(study, tmp_path):
    run(tmp_path / "in", tmp_path / "out")
    folder = tmp_path / "out" / study.series_uid
    rows = rows_of(folder / "features.csv")
    assert rows == rows_of(tmp_path / "out" / "features.csv")
    table = pq.read_table(tmp_path / "out" / "features.parquet").to_pydict()
    report = pydicom.dcmread(folder / "features.sr.dcm")
    groups = [item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "126010"]
    for row, cohort, group in zip(rows, table["features"], groups[0].ContentSequence, strict=True):
        np.testing.assert_array_equal(features_of(row), np.array(cohort, dtype=np.float32))
        numbers = [i.MeasuredValueSequence[0].FloatingPointValue for i in group.ContentSequence if i.ValueType == "NUM"]
        np.testing.assert_array_equal(features_of(row), np.array(numbers[-512:], dtype=np.float32))


def test_every_output_names_the_weights_and_says_what_they_are_not(study, tmp_path):
    ledger = run(tmp_path / "in", tmp_path / "out")
    folder = tmp_path / "out" / study.series_uid
    sha256 = ledger.run["weights_sha256"]
    for row in rows_of(folder / "features.csv"):
        metadata = json.loads(row["MHub Metadata"])
        assert row["weights_sha256"] == metadata["sha256"] == sha256
        assert "not the published model" in json.dumps(metadata)
    assert "not the published model" in (tmp_path / "out" / "run_status.json").read_text()
    report = (folder / "features.sr.dcm").read_bytes()
    assert sha256.encode() in report
    assert b"not the published model" in report


def test_a_derived_seg_is_written_for_contours_and_the_original_is_referenced_for_segments(study, tmp_path):
    run(tmp_path / "in", tmp_path / "out")
    folder = tmp_path / "out" / study.series_uid
    derived = pydicom.dcmread(folder / "seeds.seg.dcm")
    assert [segment.SegmentLabel for segment in derived.SegmentSequence] == ["GTV-1"]
    report = str(pydicom.dcmread(folder / "features.sr.dcm"))
    assert derived.SOPInstanceUID in report
    assert pydicom.dcmread(study.seg_path, stop_before_pixels=True).SOPInstanceUID in report


def test_a_failing_roi_does_not_stop_the_others(study, tmp_path):
    rtstruct = pydicom.dcmread(study.rtstruct_path)
    empty = pydicom.Dataset()
    empty.ROINumber, empty.ROIName, empty.ROIGenerationAlgorithm = 77, "Empty", "MANUAL"
    empty.ReferencedFrameOfReferenceUID = study.frame_of_reference_uid
    rtstruct.StructureSetROISequence.append(empty)
    rtstruct.save_as(study.rtstruct_path)
    ledger = run(tmp_path / "in", tmp_path / "out")
    assert ledger.exit_code is ExitCode.PARTIAL
    assert ledger.counts()["failed"] == 1
    assert "no contours" in reasons(ledger)
    assert len(rows_of(tmp_path / "out" / "features.csv")) == 2


def test_a_failing_series_does_not_stop_the_others_and_the_message_names_the_slice(tmp_path):
    good = phantoms.write_study(tmp_path / "in" / "a", seed=1, seg=False, lesions=LESIONS[:1])
    bad = phantoms.write_study(tmp_path / "in" / "b", seed=2, seg=False, lesions=LESIONS[:1])
    damage.drop_slice(bad, 10)
    after_gap = pydicom.dcmread(bad.ct_paths[11], stop_before_pixels=True).SOPInstanceUID
    ledger = run(tmp_path / "in", tmp_path / "out")
    assert ledger.exit_code is ExitCode.PARTIAL
    status = {entry.series_uid: entry.status for entry in ledger.series}
    assert status[bad.series_uid] is Status.FAILED
    assert status[good.series_uid] is not Status.FAILED
    assert after_gap in reasons(ledger)
    assert [row["series_uid"] for row in rows_of(tmp_path / "out" / "features.csv")] == [good.series_uid]


def test_a_gap_is_resampled_and_flagged_when_the_settings_say_so(tmp_path):
    study = phantoms.write_study(tmp_path / "in", seg=False, lesions=LESIONS[:1])
    damage.drop_slice(study, 2)
    ledger = run(tmp_path / "in", tmp_path / "out", irregular="resample")
    assert ledger.exit_code is ExitCode.OK
    [row] = rows_of(tmp_path / "out" / "features.csv")
    assert Flag.SPACING_RESAMPLED in row["flags"].split(";")
    assert Flag.SPACING_RESAMPLED.value in (tmp_path / "out" / "run_status.json").read_text()


def test_a_slice_that_cannot_be_decoded_fails_only_the_lesions_over_it(tmp_path):
    x, y, z = phantoms.CENTRE_LPS
    far = (Lesion("top", centre_lps=(x, y, z + 95)), Lesion("bottom", centre_lps=(x, y, z - 80)))
    study = phantoms.write_study(tmp_path / "in", shape_kji=(90, 32, 32), lesions=far, seg=False)
    highest = max(study.ct_paths, key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])
    top = pydicom.dcmread(highest)
    top.PixelData = top.PixelData[:100]
    top.save_as(highest)
    ledger = run(tmp_path / "in", tmp_path / "out")
    assert ledger.exit_code is ExitCode.PARTIAL
    assert str(top.SOPInstanceUID) in reasons(ledger)
    assert [row["Mhub ROI"] for row in rows_of(tmp_path / "out" / "features.csv")] == ["bottom"]


def test_nothing_that_looks_like_imaging_data_disappears(study, tmp_path):
    (tmp_path / "in" / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\x08\x00\x05\x00CS\xff\x00")
    (tmp_path / "in" / "readme.txt").write_text("hello")
    mr = pydicom.dcmread(study.ct_paths[0])
    mr.Modality, mr.SeriesInstanceUID, mr.SOPInstanceUID = "MR", "1.2.3.4", "1.2.3.4.5"
    mr.save_as(tmp_path / "in" / "mr.dcm")
    ledger = run(tmp_path / "in", tmp_path / "out")
    assert ledger.exit_code is ExitCode.PARTIAL
    assert [problem.path for problem in ledger.problems] == ["broken.dcm"]
    assert ledger.ignored_files == 1
    [skipped] = [entry for entry in ledger.series if entry.status is Status.SKIPPED]
    assert skipped.series_uid == "1.2.3.4"
    assert "MR" in str(skipped.reason)


def test_no_lesion_at_all_is_exit_code_4_and_leaves_a_ledger(tmp_path):
    phantoms.write_study(tmp_path / "in", rtstruct=False, seg=False)
    ledger = run(tmp_path / "in", tmp_path / "out")
    assert ledger.exit_code is ExitCode.NOTHING
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"run_status.json", "report.html"}


def test_roi_choice_and_seed_sources_limit_what_runs(study, tmp_path):
    ledger = run(tmp_path / "in", tmp_path / "a", rois=["re:^gtv"])
    assert [roi.label for entry in ledger.series for roi in entry.rois] == ["GTV-1"]
    ledger = run(tmp_path / "in", tmp_path / "b", seed_sources=["SEG"])
    assert [roi.label for entry in ledger.series for roi in entry.rois] == ["Node"]
    ledger = run(tmp_path / "in", tmp_path / "c", rois=["GTV-1", "liver"])
    assert ledger.exit_code is ExitCode.PARTIAL
    assert "'liver'" in reasons(ledger)


def test_batches_across_series_give_the_same_bytes_as_one_by_one(tmp_path):
    for n in range(3):
        phantoms.write_study(tmp_path / "in" / str(n), seed=n, seg=False, lesions=LESIONS[:1])
    run(tmp_path / "in", tmp_path / "a", batch_size=1)
    run(tmp_path / "in", tmp_path / "b", batch_size=16)
    assert (tmp_path / "a" / "features.csv").read_bytes() == (tmp_path / "b" / "features.csv").read_bytes()


def test_each_slice_is_decoded_once_however_many_lesions_lie_over_it(tmp_path, monkeypatch):
    phantoms.write_study(tmp_path / "in", lesions=(*phantoms.DEFAULT_LESIONS, Lesion("third")), seg=False)
    decoded = []
    monkeypatch.setattr(volume_reader, "decode_slices", noting(decoded))
    run(tmp_path / "in", tmp_path / "out", sr=False, seg=False)
    uids = [instance.sop_instance_uid for instance in decoded]
    assert uids
    assert len(uids) == len(set(uids))


def test_the_input_is_not_touched(study, tmp_path):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "in").rglob("*.dcm")}
    run(tmp_path / "in", tmp_path / "out")
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "in").rglob("*.*")} == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"weights": "nonsense"}, WeightsError, "nonsense"),
        ({"mode": "sideways"}, ConfigError, "sideways"),
        ({"colour": "red"}, ConfigError, "unknown key"),
        ({"device": "tpu"}, ConfigError, "tpu"),
        ({"engine": "warp"}, ConfigError, "warp"),
        ({"precision": "int4"}, ConfigError, "int4"),
        ({"rois": ["re:("]}, ConfigError, "regular expression"),
    ],
)
def test_wrong_settings_stop_before_anything_is_written(study, tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        run(tmp_path / "in", tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_an_absent_input_is_named(tmp_path):
    with pytest.raises(InputError, match="absent"):
        run(tmp_path / "absent", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_input_and_output_must_differ(study, tmp_path):
    with pytest.raises(ConfigError, match="same folder"):
        run(tmp_path / "in", tmp_path / "in")


@pytest.mark.parametrize("mode", list(Mode))
def test_modes_are_written_into_the_tables(study, tmp_path, mode):
    run(tmp_path / "in", tmp_path / "out", mode=mode, sr=False, seg=False)
    assert {row["mode"] for row in rows_of(tmp_path / "out" / "features.csv")} == {mode.value}


def test_an_roi_between_voxels_is_marked_by_a_point_in_the_seg_and_says_so(tmp_path):
    study = phantoms.write_study(tmp_path / "in", seg=False, lesions=LESIONS[:1])
    rtstruct = pydicom.dcmread(study.rtstruct_path)
    x, y, z = study.centroids["GTV-1"]
    tiny = [x + 0.5, y + 0.5, z, x + 0.9, y + 0.5, z, x + 0.9, y + 0.9, z, x + 0.5, y + 0.9, z]
    [roi] = rtstruct.ROIContourSequence
    roi.ContourSequence = roi.ContourSequence[:1]
    roi.ContourSequence[0].ContourData = tiny
    roi.ContourSequence[0].NumberOfContourPoints = 4
    rtstruct.save_as(study.rtstruct_path)
    run(tmp_path / "in", tmp_path / "out")
    segment = pydicom.dcmread(tmp_path / "out" / study.series_uid / "seeds.seg.dcm").SegmentSequence[0]
    assert "contours" not in segment.SegmentDescription
    assert segment.TrackingUID.encode() in (tmp_path / "out" / study.series_uid / "features.sr.dcm").read_bytes()


def test_bf16_is_on_request_and_its_distance_to_float32_is_on_the_ledger(study, tmp_path):
    ledger = run(tmp_path / "in", tmp_path / "out", precision="bf16", sr=False, seg=False)
    assert ledger.run["encoder"]["precision"] == "bf16"
    assert 0.99 < ledger.run["encoder"]["cosine_to_float32"] < 1  # random weights keep less of bf16 than trained ones
    with pytest.raises(OutputError, match="another configuration"):
        run(tmp_path / "in", tmp_path / "out", sr=False, seg=False)


def test_the_ledger_names_the_engine_and_its_threads(study, tmp_path):
    ledger = run(tmp_path / "in", tmp_path / "out", sr=False, seg=False)
    assert ledger.run["encoder"]["engine"] == "openvino"
    assert ledger.run["encoder"]["threads"] >= 1
