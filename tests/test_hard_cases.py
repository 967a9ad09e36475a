"""Inputs that are wrong in ways that a hospital's archive really holds: each is named, and costs nothing else."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

import fmcib_module as fm
from fmcib_module.adapters.dicom_import import scan_folder
from fmcib_module.adapters.seed_finder import find_rois
from fmcib_module.core.domain import RoiFailure, Scan, Seed, Series
from tests import damage
from tests.phantoms import Lesion, PhantomStudy, write_study
from tests.shared import DATA, needs_shared
from tests.tools import needs_dciodvfy

ONE = (Lesion(),)
TWO = (Lesion(), Lesion("Node", (1.0, 3.0, 38.0), box_mm=(6, 6, 6)))


def small_study(folder: Path, **options: Any) -> PhantomStudy:
    return write_study(folder, **{"shape_kji": (12, 25, 23), "lesions": TWO, **options})


def edit(path: Path | None, change: Callable[[pydicom.Dataset], None]) -> None:
    assert path is not None
    with pydicom.config.disable_value_validation():
        ds = pydicom.dcmread(path)
        change(ds)
        ds.save_as(path)


def only_ct(scan: Scan) -> Series:
    (series,) = (one for study in scan.studies for one in study.series if not one.skip_reason)
    return series


def rois_of(folder: Path) -> tuple[tuple[Seed, ...], tuple[RoiFailure, ...]]:
    return find_rois(only_ct(scan_folder(folder)))


@pytest.mark.parametrize("name", ["rtstruct.dcm", "seg.dcm"])
def test_an_object_copied_into_two_files_counts_once(tmp_path: Path, name: str) -> None:
    small_study(tmp_path, lesions=ONE, rtstruct=name == "rtstruct.dcm", seg=name == "seg.dcm")
    shutil.copy(tmp_path / name, tmp_path / "another name")
    assert len(rois_of(tmp_path)[0]) == 1
    assert scan_folder(tmp_path).problems == ()


@pytest.mark.parametrize("name", ["rtstruct.dcm", "seg.dcm"])
def test_of_two_contents_under_one_uid_the_first_is_used_and_the_other_is_a_problem(tmp_path: Path, name: str) -> None:
    small_study(tmp_path, lesions=ONE, rtstruct=name == "rtstruct.dcm", seg=name == "seg.dcm")
    shutil.copy(tmp_path / name, tmp_path / "z.dcm")
    edit(tmp_path / "z.dcm", lambda ds: setattr(ds, "SeriesDescription", "edited"))
    scan = scan_folder(tmp_path)
    assert [source.path.name for source in only_ct(scan).roi_sources] == [name]
    (problem,) = scan.problems
    assert problem.path == "z.dcm"
    assert problem.uid == pydicom.dcmread(tmp_path / name).SOPInstanceUID
    assert problem.uid in str(problem.error)
    assert name in str(problem.error)


def test_contours_without_an_roi_number_cost_only_themselves(tmp_path: Path) -> None:
    study = small_study(tmp_path, seg=False)

    def change(ds: pydicom.Dataset) -> None:
        del ds.ROIContourSequence[0].ReferencedROINumber

    edit(study.rtstruct_path, change)
    seeds, failures = rois_of(tmp_path)
    assert [seed.label for seed in seeds] == ["Node"]
    assert {failure.label for failure in failures} == {"GTV-1", "contours of an ROI without a number"}


def test_a_name_without_an_roi_number_costs_only_itself(tmp_path: Path) -> None:
    study = small_study(tmp_path, seg=False)

    def change(ds: pydicom.Dataset) -> None:
        del ds.StructureSetROISequence[1].ROINumber

    edit(study.rtstruct_path, change)
    seeds, failures = rois_of(tmp_path)
    assert [seed.label for seed in seeds] == ["GTV-1", "ROI 2"]
    assert [failure.label for failure in failures] == ["Node"]


@pytest.mark.parametrize("maximum", [None, 0])
def test_a_fractional_seg_without_a_maximum_is_read_as_of_8_bits(tmp_path: Path, maximum: int | None) -> None:
    study = small_study(tmp_path, rtstruct=False, seg="FRACTIONAL")
    expected, _ = rois_of(tmp_path)
    edit(study.seg_path, lambda ds: setattr(ds, "MaximumFractionalValue", maximum))
    seeds, failures = rois_of(tmp_path)
    assert failures == ()
    for seed, before in zip(seeds, expected, strict=True):
        assert seed.lps_mm == pytest.approx(before.lps_mm)
        assert seed.volume_mm3 == pytest.approx(before.volume_mm3)


@pytest.mark.parametrize("more", [-5, 3])
def test_a_seg_that_miscounts_its_frames_is_refused(tmp_path: Path, more: int) -> None:
    study = small_study(tmp_path, rtstruct=False)
    frames = pydicom.dcmread(str(study.seg_path)).NumberOfFrames
    edit(study.seg_path, lambda ds: setattr(ds, "NumberOfFrames", frames + more))
    seeds, (failure,) = rois_of(tmp_path)
    assert seeds == ()
    assert f"NumberOfFrames is {frames + more}, but positions are given for {frames} frames" in str(failure.error)


def test_a_last_slice_whose_position_cannot_be_read_is_a_problem_not_another_series(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    uid = damage.edit_slice(study, 11, ImagePositionPatient=[1, 2])
    scan = scan_folder(tmp_path)
    assert len(only_ct(scan).instances) == 11
    (problem,) = scan.problems
    assert problem.uid == uid
    assert len(scan.studies[0].series) == 1


@needs_shared
def test_rows_of_luna16_are_not_taken_for_a_scan_that_they_do_not_name(tmp_path: Path) -> None:
    small_study(tmp_path, rtstruct=False, seg=False)
    shutil.copy(DATA / "tables/luna16/annotations.csv", tmp_path / "annotations.csv")
    scan = scan_folder(tmp_path)
    assert only_ct(scan).roi_sources == ()
    (problem,) = scan.problems
    assert "series that this seed table names are not in the input" in str(problem.error)


@pytest.mark.parametrize("column", ["seriesuid", "series_instance_uid", "Series_UID"])
def test_rows_go_to_the_series_that_they_name_in_any_of_the_usual_columns(tmp_path: Path, column: str) -> None:
    study = small_study(tmp_path, rtstruct=False, seg=False)
    rows = [f"{column},coordX,coordY,coordZ", f"{study.series_uid},12,-7,30", "1.2.3,1,1,1"]
    (tmp_path / "seeds.csv").write_text("\n".join(rows))
    assert [seed.lps_mm for seed in rois_of(tmp_path)[0]] == [(12, -7, 30)]


def test_a_decimal_comma_is_read_where_tabs_part_the_columns(tmp_path: Path) -> None:
    small_study(tmp_path, rtstruct=False, seg=False)
    (tmp_path / "seeds.csv").write_text("coordX\tcoordY\tcoordZ\n12,5\t-7,25\t30\n")
    assert [seed.lps_mm for seed in rois_of(tmp_path)[0]] == [(12.5, -7.25, 30)]


def test_a_coordinate_of_400_digits_costs_only_itself(tmp_path: Path) -> None:
    small_study(tmp_path, rtstruct=False, seg=False)
    point = '{"coordX": 12, "coordY": -7, "coordZ": 30}'
    (tmp_path / "seeds.json").write_text(f"[{point}, {point.replace('12', '1' + '0' * 400)}]")
    seeds, (failure,) = rois_of(tmp_path)
    assert len(seeds) == 1
    assert "too large" in str(failure.error)


@pytest.mark.parametrize(("name", "content"), [("s.csv", "coordX,coordY,coordZ\n"), ("s.fcsv", "")])
def test_a_seed_table_without_rows_says_so(tmp_path: Path, name: str, content: str) -> None:
    small_study(tmp_path, rtstruct=False, seg=False)
    (tmp_path / name).write_text(content)
    seeds, (failure,) = rois_of(tmp_path)
    assert seeds == ()
    assert "the seed table holds no point" in str(failure.error)


def test_coordinates_of_a_damaged_file_cost_only_their_roi(tmp_path: Path) -> None:
    study = small_study(tmp_path, seg=False)

    def change(ds: pydicom.Dataset) -> None:
        ds.ROIContourSequence[0].ContourSequence[0].ContourData = ["1e300", "0", "1", "-1e300", "5", "1", "0", "9", "1"]

    edit(study.rtstruct_path, change)
    (tmp_path / "seeds.csv").write_text("coordX,coordY,coordZ\n1e300,0,0\n12,-7,30\n")
    seeds, failures = rois_of(tmp_path)
    assert [seed.label for seed in seeds] == ["Node", "point 2"]
    assert [failure.label for failure in failures] == ["GTV-1", "point 1"]
    assert all("no coordinate in millimetres" in str(failure.error) for failure in failures)


def test_names_and_uids_that_break_their_rules_are_read_without_remarks(tmp_path: Path) -> None:
    """pydicom would warn, and a warning is an error here."""
    study = small_study(tmp_path, seg=True)

    def change(ds: pydicom.Dataset) -> None:
        for series in ds.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence:
            series.ContourImageSequence[0].ReferencedSOPInstanceUID = "not a uid"
        ds.StructureSetROISequence[0].ROIName = "x" * 200

    edit(study.rtstruct_path, change)
    edit(study.seg_path, lambda ds: setattr(ds.SegmentSequence[0], "SegmentLabel", "y" * 200))
    seeds, failures = rois_of(tmp_path)
    assert {seed.label for seed in seeds} == {"x" * 200, "y" * 200, "Node"}
    assert failures == ()


@pytest.mark.parametrize("uid", ["1" * 65, "1.2\\3.4", "1.2.\u00e9"], ids=["long", "two", "accent"])
@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"])
def test_a_file_whose_uid_no_object_could_refer_to_costs_only_itself(tmp_path: Path, keyword: str, uid: str) -> None:
    study = small_study(tmp_path)
    path = study.ct_paths[-1]
    edit(path, lambda ds: ds.__setitem__(keyword, pydicom.DataElement(keyword, "LO", uid)))
    scan = scan_folder(tmp_path)
    assert len(only_ct(scan).instances) == 11
    (problem,) = scan.problems
    assert f"{keyword} is not a UID" in str(problem.error)


def test_results_of_an_earlier_run_inside_the_input_are_no_input(tmp_path: Path) -> None:
    study = small_study(tmp_path, lesions=ONE, seg=False)
    before = len(rois_of(tmp_path)[0])
    results = tmp_path / "results"
    small_study(results / study.series_uid, lesions=ONE, rtstruct=False)  # its SEG stands for a derived one
    (results / "run_status.json").write_text("{}")
    assert len(rois_of(tmp_path)[0]) == before == 1


def test_a_mode_that_does_not_exist_is_our_error() -> None:
    volume = fm.Volume.from_array(np.zeros((3, 3, 3), np.float32), np.eye(4), "1.2.3")
    with pytest.raises(fm.FmcibError, match="published, published-monai16, centred"):
        fm.extract_patch(volume, fm.Seed((0, 0, 0), "", ""), mode="centered")


def test_frames_of_a_segment_that_is_not_described_are_a_lesion_by_its_number(tmp_path: Path) -> None:
    study = small_study(tmp_path, rtstruct=False)
    edit(study.seg_path, lambda ds: ds.SegmentSequence.pop())
    seeds, failures = rois_of(tmp_path)
    assert [(seed.label, seed.roi_number) for seed in seeds] == [("GTV-1", 1), ("segment 2", 2)]
    assert seeds[1].lps_mm == pytest.approx(study.centroids["Node"])
    assert failures == ()


@needs_dciodvfy
def test_a_label_map_is_copied_into_the_derived_seg_that_the_sr_refers_to(tmp_path):
    study = write_study(tmp_path / "in", rtstruct=False, seg="LABELMAP")
    fm.run(tmp_path / "in", tmp_path / "out")
    folder = tmp_path / "out" / study.series_uid
    derived = pydicom.dcmread(folder / "seeds.seg.dcm")
    assert {segment.SegmentLabel for segment in derived.SegmentSequence} == set(study.centroids)
    done = subprocess.run(["dciodvfy", str(folder / "features.sr.dcm")], capture_output=True, text=True, check=False)
    assert "Error" not in done.stdout + done.stderr


def test_a_uid_under_no_known_type_costs_the_report_and_is_named(tmp_path: Path) -> None:
    """One bit: "UI" becomes "Ui". Found by fuzzing."""
    study = small_study(tmp_path / "in", seg=False)
    tag = b"\x20\x00\x0d\x00"
    for path in study.ct_paths:
        path.write_bytes(path.read_bytes().replace(tag + b"UI", tag + b"Ui"))
    ledger = fm.run(tmp_path / "in", tmp_path / "out", pictures=False, report=False)
    assert ledger.n_lesions == 2
    (reason,) = {entry.reason for entry in ledger.series if entry.reason}
    assert reason is not None
    assert (reason.error, reason.what) == ("PixelDataError", "the header is damaged: NotImplementedError")


@pytest.mark.parametrize(("bits", "high"), [(255, 254), (16, 200), (0, -1), (12, 5)])
def test_bits_that_do_not_fit_are_damage_to_the_slice(tmp_path: Path, bits: int, high: int) -> None:
    study = small_study(tmp_path)
    edit(study.ct_paths[6], lambda ds: ds.update({"BitsStored": bits, "HighBit": high % (1 << 16)}))
    with pytest.raises(fm.PixelDataError, match="pixels cannot be decoded"):
        _ = fm.read_volume(only_ct(scan_folder(tmp_path))).voxels_hu


def test_a_study_without_its_uid_keeps_its_features_and_says_why_it_has_no_report(tmp_path: Path) -> None:
    for path in small_study(tmp_path / "in", seg=False).ct_paths:
        edit(path, lambda ds: ds.__delattr__("StudyInstanceUID"))
    (entry,) = fm.run(tmp_path / "in", tmp_path / "out", pictures=False, report=False).series
    assert entry.reason is not None
    assert (entry.reason.error, entry.reason.what) == ("PixelDataError", "it has no StudyInstanceUID")
    assert "features.csv" in entry.files
    assert not [name for name in entry.files if name.endswith(".dcm")]
    assert len((tmp_path / "out" / entry.output / "features.csv").read_text().splitlines()) == 1 + len(TWO)
