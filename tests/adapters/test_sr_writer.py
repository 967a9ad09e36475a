import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import Comprehensive3DSRStorage

from fmcib_module.adapters.seg_writer import write_seed_seg
from fmcib_module.adapters.sr_writer import write_sr
from fmcib_module.adapters.tables import read_series_csv, write_series_csv
from fmcib_module.core.conventions import Flag, SeedKind
from fmcib_module.core.domain import Lesion, Seed, SeriesReport
from fmcib_module.core.errors import OutputError, PixelDataError
from fmcib_module.core.report import tracking_uid
from fmcib_module.core.volume import Grid
from tests.adapters.report_builders import (
    EXTREMES,
    NOTE,
    PRIVATE_CODE_WARNING,
    PROVENANCE,
    dciodvfy_complaints,
    dsrdump,
    phantom_lesions,
    phantom_masks,
    phantom_series,
    random_features,
    report_of,
    series_of,
    tool,
)
from tests.phantoms import PhantomStudy, write_study
from tests.shared import DATA, needs_shared


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return write_study(tmp_path_factory.mktemp("phantom"))


def grid_of(study: PhantomStudy) -> Grid:
    k, j, i = study.voxels_hu.shape
    return Grid.from_matrix((k, j, i), study.affine)


def rtstruct_report(study: PhantomStudy, n_features: int = 16) -> SeriesReport:
    return report_of(phantom_series(study), phantom_lesions(study, SeedKind.RTSTRUCT, n_features))


def write_both(report: SeriesReport, study: PhantomStudy, folder: Path) -> Dataset:
    """Write SEG and SR; give the SR back."""
    segmentation = write_seed_seg(report, phantom_masks(study), grid_of(study), folder / "seeds.seg.dcm")
    (path,) = write_sr(report, folder, segmentation=segmentation)
    return pydicom.dcmread(path)


def groups_of(document: Dataset) -> list[Dataset]:
    """The measurement groups, read with pydicom alone."""
    measurements = next(item for item in document.ContentSequence if meaning(item) == "Imaging Measurements")
    return list(measurements.ContentSequence)


def measurement_report(path: Path) -> Any:
    """The content as highdicom's reader gives it."""
    return hd.sr.srread(path).content


def meaning(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def named(group: Dataset, name: str) -> Dataset:
    found: list[Dataset] = [item for item in group.ContentSequence if meaning(item) == name]
    assert len(found) == 1, [meaning(item) for item in group.ContentSequence if item.ValueType != "NUM"]
    return found[0]


def dcmqi_values(path: Path, folder: Path) -> dict[str, list[np.float32]]:
    """Tracking UID -> values, as dcmqi's tid1500reader gives them."""
    out = folder / "dcmqi.json"
    command = [tool("tid1500reader"), "--inputDICOM", str(path), "--outputMetadata", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    groups = json.loads(out.read_text(encoding="utf-8"))["Measurements"]
    return {
        group["TrackingUniqueIdentifier"]: [np.float32(item["value"]) for item in group["measurementItems"]]
        for group in groups
    }


def test_validators_find_no_error_and_only_private_codes_to_warn_about(study: PhantomStudy, tmp_path: Path) -> None:
    report = rtstruct_report(study)
    flagged = replace(report.lesions[0], seed=replace(report.lesions[0].seed, flags=tuple(Flag)))
    write_both(replace(report, lesions=(flagged, *report.lesions[1:])), study, tmp_path)
    complaints = dciodvfy_complaints(tmp_path / "features.sr.dcm")
    assert complaints == {f"Warning - {PRIVATE_CODE_WARNING}"}
    dump = dsrdump(tmp_path / "features.sr.dcm")
    assert dump.count('CONTAINER:(,,"Measurement Group")') == 2
    assert dump.count('NUM:(,,"Deep feature 0015")') == 2
    assert dump.count('(,,"Flag of the computation")') == len(Flag)


@pytest.mark.parametrize("kind", [SeedKind.RTSTRUCT, SeedKind.SEG])
def test_dcmqi_reads_the_float32_values_of_the_table(study: PhantomStudy, tmp_path: Path, kind: SeedKind) -> None:
    series = phantom_series(study)
    seeds = [lesion.seed for lesion in phantom_lesions(study, kind)]
    values = np.concatenate([EXTREMES, random_features(4096 - len(EXTREMES))])
    report = report_of(series, [Lesion(seeds[0], values), Lesion(seeds[1], values[::-1].copy())])
    write_both(report, study, tmp_path)
    write_series_csv(report, tmp_path / "features.csv")
    found = dcmqi_values(tmp_path / "features.sr.dcm", tmp_path)
    for seed, row in zip(seeds, read_series_csv(tmp_path / "features.csv"), strict=True):
        from_sr = np.array(found[tracking_uid(series.uid, seed)])
        assert from_sr.tobytes() == row.values.tobytes()  # bytes: -0.0 == 0.0


def test_highdicom_finds_groups_by_tracking_uid_with_segment_finding_and_numbers(
    study: PhantomStudy, tmp_path: Path
) -> None:
    report = rtstruct_report(study)
    write_both(report, study, tmp_path)
    seg = hd.seg.segread(tmp_path / "seeds.seg.dcm")
    content = measurement_report(tmp_path / "features.sr.dcm")
    assert len(content.get_volumetric_roi_measurement_groups()) == 2
    for number, lesion in enumerate(report.lesions, start=1):
        uid = tracking_uid(report.series.uid, lesion.seed)
        (group,) = content.get_volumetric_roi_measurement_groups(tracking_uid=uid)
        assert group.tracking_identifier == lesion.seed.label
        assert group.finding_type == codes.SCT.Lesion
        assert group.referenced_segment.referenced_sop_instance_uid == seg.SOPInstanceUID
        assert group.referenced_segment.referenced_segment_numbers == [number]
        assert seg.get_segment_numbers(tracking_uid=uid) == [number]
        values = [measurement.value for measurement in group.get_measurements()]
        assert np.array(values, np.float32).tobytes() == lesion.values.tobytes()


def test_the_document_is_a_tid_1500_report_that_names_weights_and_mode(study: PhantomStudy, tmp_path: Path) -> None:
    document = write_both(rtstruct_report(study), study, tmp_path)
    assert document.SOPClassUID == Comprehensive3DSRStorage
    assert document.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert document.SeriesDescription == "FMCIB features (untrained, published)"
    assert [item.CodingSchemeDesignator for item in document.CodingSchemeIdentificationSequence] == ["99FMCIB"]
    (note,) = [item for item in document.ContentSequence if meaning(item) == "Note on the weights"]
    assert note.TextValue == NOTE
    for group in groups_of(document):
        assert group.ContentTemplateSequence[0].TemplateIdentifier == "1411"
        texts = [item.TextValue for item in group.ContentSequence if meaning(item) == "Algorithm Parameters"]
        assert texts == [
            "weights: untrained",
            f"weights SHA-256: {'ab' * 32}",
            "preprocessing mode: published",
            f"note on the weights: {NOTE}",
        ]
        assert named(group, "Algorithm Name").TextValue == "fmcib-module"
        assert named(group, "Algorithm Version").TextValue == "1.2.3"
        assert study.series_uid == named(group, "Source Series for Segmentation").UID


def test_the_rtstruct_its_roi_and_the_position_are_kept(study: PhantomStudy, tmp_path: Path) -> None:
    document = write_both(rtstruct_report(study), study, tmp_path)
    assert study.rtstruct_path is not None
    rtstruct = pydicom.dcmread(study.rtstruct_path)
    for number, (group, name) in enumerate(zip(groups_of(document), study.centroids, strict=True), start=1):
        source = named(group, "Object that the seed was made from").ReferencedSOPSequence[0]
        assert source.ReferencedSOPInstanceUID == rtstruct.SOPInstanceUID
        assert source.ReferencedSOPClassUID == rtstruct.SOPClassUID
        assert named(group, "ROI name or segment label in the source").TextValue == name
        assert named(group, "ROI number or segment number in the source").TextValue == str(number)
        center = named(group, "Center")
        assert center.GraphicData == pytest.approx(study.centroids[name], abs=1e-4)
        assert center.ReferencedFrameOfReferenceUID == study.frame_of_reference_uid


def test_everything_that_is_referred_to_is_listed_as_evidence(study: PhantomStudy, tmp_path: Path) -> None:
    report = rtstruct_report(study)
    document = write_both(report, study, tmp_path)
    listed = {
        (series.SeriesInstanceUID, instance.ReferencedSOPInstanceUID)
        for evidence in document.CurrentRequestedProcedureEvidenceSequence
        for series in evidence.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert study.rtstruct_path is not None
    others = [pydicom.dcmread(path) for path in (study.rtstruct_path, tmp_path / "seeds.seg.dcm")]
    images = {(study.series_uid, one.sop_instance_uid) for one in report.series.instances}
    assert listed == images | {(ds.SeriesInstanceUID, ds.SOPInstanceUID) for ds in others}


def test_a_lesion_from_a_seg_refers_to_it_and_says_what_it_says(study: PhantomStudy, tmp_path: Path) -> None:
    assert study.seg_path is not None
    original = pydicom.dcmread(study.seg_path)
    liver = hd.sr.CodedConcept("10200004", "SCT", "Liver")
    for segment in original.SegmentSequence:
        segment.SegmentedPropertyTypeCodeSequence = [hd.sr.CodedConcept("108369006", "SCT", "Neoplasm")]
        segment.AnatomicRegionSequence = [liver]
    original.save_as(tmp_path / "liver.dcm")
    series = series_of(study.ct_paths, [(tmp_path / "liver.dcm", SeedKind.SEG)])
    report = report_of(series, phantom_lesions(study, SeedKind.SEG))
    (path,) = write_sr(report, tmp_path, segmentation=None)
    assert dciodvfy_complaints(path) == {f"Warning - {PRIVATE_CODE_WARNING}"}
    for number, group in enumerate(groups_of(pydicom.dcmread(path)), start=1):
        segment = named(group, "Referenced Segment").ReferencedSOPSequence[0]
        assert segment.ReferencedSOPInstanceUID == original.SOPInstanceUID
        assert segment.ReferencedSegmentNumber == number
        assert named(group, "Finding").ConceptCodeSequence[0].CodeMeaning == "Neoplasm"
        assert named(group, "Finding Site").ConceptCodeSequence[0].CodeValue == "10200004"


def test_points_without_a_segmentation_become_groups_without_a_region(study: PhantomStudy, tmp_path: Path) -> None:
    lesions = (*phantom_lesions(study, SeedKind.POINT), Lesion(Seed((0, 0, 0), "", "seeds.csv"), random_features(16)))
    (path,) = write_sr(report_of(phantom_series(study), lesions), tmp_path, segmentation=None)
    assert dciodvfy_complaints(path) == {f"Warning - {PRIVATE_CODE_WARNING}"}
    dsrdump(path)
    groups = groups_of(pydicom.dcmread(path))
    assert [group.ContentTemplateSequence[0].TemplateIdentifier for group in groups] == ["1501"] * 3
    assert named(groups[2], "Tracking Identifier").TextValue == "POINT"
    assert named(groups[2], "File that the seed was made from").TextValue == "seeds.csv"
    assert len(measurement_report(path).get_image_measurement_groups()) == 3


def test_more_than_eight_lesions_are_split_and_older_files_go(study: PhantomStudy, tmp_path: Path) -> None:
    series = phantom_series(study)
    lesions = [Lesion(Seed((n, 0, 0), f"L{n}", ""), random_features(4, n)) for n in range(17)]
    write_sr(report_of(series, lesions[:1]), tmp_path, segmentation=None)
    paths = write_sr(report_of(series, lesions), tmp_path, segmentation=None)
    assert [path.name for path in paths] == [f"features.00{n}.sr.dcm" for n in (1, 2, 3)]
    assert set(tmp_path.iterdir()) == set(paths)
    documents = [pydicom.dcmread(path) for path in paths]
    assert [len(groups_of(document)) for document in documents] == [8, 8, 1]
    assert len({document.SOPInstanceUID for document in documents}) == 3
    assert len({document.SeriesInstanceUID for document in documents}) == 1


def test_a_rerun_repeats_uids_and_other_weights_change_them(study: PhantomStudy, tmp_path: Path) -> None:
    report = rtstruct_report(study)
    first, second = (write_both(report, study, tmp_path / name) for name in "ab")
    other = write_both(replace(report, provenance=replace(PROVENANCE, weights_sha256="cd" * 32)), study, tmp_path / "c")
    assert first.SOPInstanceUID == second.SOPInstanceUID != other.SOPInstanceUID
    trackings = [[named(g, "Tracking Unique Identifier").UID for g in groups_of(ds)] for ds in (first, other)]
    assert trackings[0] == trackings[1]


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 192", "Müller^Jörg=山田^太郎"),
        ("ISO_IR 100", "Müller^Jörg"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ],
    ids=["UTF-8", "Latin-1", "Japanese"],
)
def test_names_survive_every_character_set(
    study: PhantomStudy, tmp_path: Path, character_set: str | list[str], name: str
) -> None:
    ct = pydicom.dcmread(study.ct_paths[0])
    ct.SpecificCharacterSet = character_set
    ct.PatientName = name
    ct.save_as(tmp_path / "ct.dcm")
    series = series_of([tmp_path / "ct.dcm"])
    label = 'Tümor "links" 腫瘍\n2'
    report = report_of(series, [Lesion(Seed((1, 2, 3), label, ""), random_features(3))])
    (path,) = write_sr(report, tmp_path, segmentation=None)
    document = pydicom.dcmread(path)
    assert str(document.PatientName) == name
    assert named(groups_of(document)[0], "ROI name or segment label in the source").TextValue == label
    assert named(groups_of(document)[0], "Tracking Identifier").TextValue == label
    assert not {line for line in dciodvfy_complaints(path) if line.startswith("Error")}
    dsrdump(path)


def test_patient_study_and_deidentification_are_taken_over(study: PhantomStudy, tmp_path: Path) -> None:
    ct = pydicom.dcmread(study.ct_paths[0])
    ct.PatientName = "P113"  # one component: highdicom would repeat it in a warning
    ct.PatientSex = "MALE"  # as some scanners write; not a value that DICOM defines
    ct.PatientIdentityRemoved = "YES"
    ct.DeidentificationMethodCodeSequence = [hd.sr.CodedConcept("113100", "DCM", "Basic Application Confidentiality")]
    ct.LongitudinalTemporalInformationModified = "MODIFIED"
    ct.save_as(tmp_path / "ct.dcm")
    series = series_of([tmp_path / "ct.dcm"])
    report = report_of(series, [Lesion(Seed((1, 2, 3), "L", ""), random_features(3))])
    (path,) = write_sr(report, tmp_path, segmentation=None)
    document = pydicom.dcmread(path)
    for keyword in (
        "PatientName",
        "PatientID",
        "StudyDate",
        "StudyInstanceUID",
        "LongitudinalTemporalInformationModified",
    ):
        assert document[keyword].value == ct[keyword].value
    assert document.PatientSex == ""
    assert document.PatientIdentityRemoved == "YES"
    assert document.DeidentificationMethodCodeSequence[0].CodeValue == "113100"


def test_faults_of_the_source_neither_stop_the_report_nor_reach_a_warning(study: PhantomStudy, tmp_path: Path) -> None:
    with pydicom.config.disable_value_validation():
        ct = pydicom.dcmread(study.ct_paths[0])
        ct.PatientBirthDate = "19500230"
        ct.StudyTime = "noon"
        ct.StudyID = "longer than sixteen characters"
        ct.PatientAge = "61"
        ct.save_as(tmp_path / "ct.dcm")
        series = series_of([tmp_path / "ct.dcm"])
    report = report_of(series, [Lesion(Seed((1, 2, 3), "L", ""), random_features(3))])
    mask = (0, np.ones((1, 32, 32), dtype=np.bool_))
    seg = write_seed_seg(report, [mask], Grid.from_matrix((1, 32, 32), study.affine), tmp_path / "seeds.seg.dcm")
    (path,) = write_sr(report, tmp_path, segmentation=seg)  # warnings are errors here
    with pydicom.config.disable_value_validation():
        document = pydicom.dcmread(path)
        assert (document.PatientBirthDate, document.StudyTime) == ("", "")
        assert (document.StudyID, document.PatientAge) == ("longer than sixteen characters", "61")


def test_a_seg_with_half_empty_codes_gives_a_lesion(study: PhantomStudy, tmp_path: Path) -> None:
    assert study.seg_path is not None
    original = pydicom.dcmread(study.seg_path)
    for segment in original.SegmentSequence:
        del segment.SegmentedPropertyCategoryCodeSequence
        del segment.SegmentedPropertyTypeCodeSequence[0].CodeValue
    original.save_as(tmp_path / "bare.dcm")
    series = series_of(study.ct_paths, [(tmp_path / "bare.dcm", SeedKind.SEG)])
    (path,) = write_sr(report_of(series, phantom_lesions(study, SeedKind.SEG)), tmp_path, segmentation=None)
    group = groups_of(pydicom.dcmread(path))[0]
    assert named(group, "Finding").ConceptCodeSequence[0].CodeMeaning == "Lesion"


def test_features_that_are_not_finite_are_an_error_that_names_the_roi(study: PhantomStudy, tmp_path: Path) -> None:
    report = report_of(phantom_series(study), [Lesion(Seed((1, 2, 3), "GTV", ""), np.full(3, np.nan, np.float32))])
    with pytest.raises(OutputError, match=f"{study.series_uid}, ROI 'GTV'"):
        write_sr(report, tmp_path, segmentation=None)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_gone_is_an_error_that_names_it(study: PhantomStudy, tmp_path: Path) -> None:
    series = phantom_series(study)
    gone = replace(series.instances[0], path=tmp_path / "gone.dcm")
    report = report_of(replace(series, instances=(gone,)), phantom_lesions(study, SeedKind.POINT))
    with pytest.raises(PixelDataError, match=gone.sop_instance_uid):
        write_sr(report, tmp_path, segmentation=None)


def test_an_image_file_gets_no_sr(study: PhantomStudy, tmp_path: Path) -> None:
    series = replace(phantom_series(study), instances=(), image_path=tmp_path / "scan.nii.gz")
    with pytest.raises(ValueError, match="needs a DICOM series"):
        write_sr(report_of(series, phantom_lesions(study, SeedKind.POINT)), tmp_path, segmentation=None)


def test_four_thousand_features_take_less_than_a_third_of_a_second_per_lesion(
    study: PhantomStudy, tmp_path: Path
) -> None:
    lesions = [Lesion(Seed((n, 0, 0), f"L{n}", ""), random_features(4096, n)) for n in range(8)]
    report = report_of(phantom_series(study), lesions)
    start = time.perf_counter()
    write_sr(report, tmp_path, segmentation=None)
    assert (time.perf_counter() - start) / len(lesions) < 0.3  # about 0.04 s on one slow core


@needs_shared
def test_a_real_chest_ct_with_an_rtstruct_passes_validators_and_readers(tmp_path: Path) -> None:
    folder = DATA / "ct-rtstruct-4dlung-113"
    (rtstruct,) = (folder / "rtstruct").iterdir()
    series = series_of(sorted((folder / "ct").iterdir()), [(rtstruct, SeedKind.RTSTRUCT)])
    seed = Seed((58.5, 141.9, -944.2), "Tumor_c40", series.roi_sources[0].uid, SeedKind.RTSTRUCT, 1)
    report = report_of(series, [Lesion(seed, random_features(4096))])
    first = series.instances[0]
    matrix = np.diag([*first.spacing_mm, 3.0, 1.0])
    matrix[:3, 3] = first.position_mm
    mask = np.zeros((2, 512, 512), dtype=np.bool_)
    mask[:, 300:310, 300:320] = True
    segmentation = write_seed_seg(report, [(40, mask)], Grid.from_matrix((99, 512, 512), matrix), tmp_path / "seg.dcm")
    (path,) = write_sr(report, tmp_path, segmentation=segmentation)
    from_source = dciodvfy_complaints(first.path)  # no StudyID, one-component PatientName
    assert dciodvfy_complaints(path) - from_source == {f"Warning - {PRIVATE_CODE_WARNING}"}
    assert not dciodvfy_complaints(tmp_path / "seg.dcm") - from_source
    dsrdump(path)
    (values,) = dcmqi_values(path, tmp_path).values()
    assert np.array(values).tobytes() == report.lesions[0].values.tobytes()


@needs_shared
@pytest.mark.parametrize(("name", "segments"), [("liver.dcm", 1), ("partial_overlaps.dcm", 5)])
def test_lesions_from_real_segs_pass_the_validator_and_dcmqi(tmp_path: Path, name: str, segments: int) -> None:
    folder = DATA / "ct-seg-sr-dcmqi"
    ct_paths = sorted((folder / "ct-3slice").iterdir())
    series = series_of(ct_paths, [(folder / name, SeedKind.SEG)])
    uid = series.roi_sources[0].uid
    numbers = range(1, segments + 1)
    lesions = [Lesion(Seed((0, 0, n), f"S{n}", uid, SeedKind.SEG, n), random_features(32, n)) for n in numbers]
    (path,) = write_sr(report_of(series, lesions), tmp_path, segmentation=None)
    source = dciodvfy_complaints(ct_paths[0]) | dciodvfy_complaints(folder / name)
    assert dciodvfy_complaints(path) - source == {f"Warning - {PRIVATE_CODE_WARNING}"}
    dsrdump(path)
    found = dcmqi_values(path, tmp_path).values()
    for lesion, values in zip(lesions, found, strict=True):
        assert np.array(values).tobytes() == lesion.values.tobytes()


@needs_shared
@pytest.mark.parametrize("name", ["sr-tid1500/ct_liver_seg_volume.dcm", "sr-tid1500/ct_lidc0314_many_measurements.dcm"])
def test_groups_are_laid_out_as_in_published_reports(study: PhantomStudy, tmp_path: Path, name: str) -> None:
    theirs = groups_of(pydicom.dcmread(DATA / name))[0]
    ours = groups_of(write_both(rtstruct_report(study), study, tmp_path))[0]
    kinds = {(meaning(item).lower(), item.ValueType, item.RelationshipType) for item in ours.ContentSequence}
    shared = {"tracking identifier", "tracking unique identifier", "finding", "referenced segment"}
    shared |= {"source series for segmentation", "algorithm name", "algorithm version"}
    expected = {(meaning(item).lower(), item.ValueType, item.RelationshipType) for item in theirs.ContentSequence}
    assert {kind for kind in expected if kind[0] in shared} <= kinds
