from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.uid import Comprehensive3DSRStorage

from fmcib_module.adapters.seg_writer import write_seed_seg
from fmcib_module.adapters.sr_writer import write_sr
from fmcib_module.core.conventions import SeedKind
from fmcib_module.core.domain import Lesion, Seed
from fmcib_module.core.errors import OutputError, PixelDataError
from fmcib_module.core.volume import Grid
from tests.adapters.report_builders import (
    NOTE,
    PRIVATE_CODE_WARNING,
    PROVENANCE,
    dciodvfy_complaints,
    dsrdump,
    groups_of,
    meaning,
    measurement_report,
    named,
    phantom_lesions,
    phantom_series,
    random_features,
    report_of,
    rtstruct_report,
    series_of,
    write_both,
)
from tests.phantoms import PhantomStudy, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return write_study(tmp_path_factory.mktemp("phantom"))


def test_the_document_is_a_tid_1500_report_that_names_weights_and_mode(study: PhantomStudy, tmp_path: Path) -> None:
    document = write_both(rtstruct_report(study), study, tmp_path)
    assert document.SOPClassUID == Comprehensive3DSRStorage
    assert document.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert document.SeriesDescription == "FMCIB features (mini, published)"
    assert [item.CodingSchemeDesignator for item in document.CodingSchemeIdentificationSequence] == ["99FMCIB"]
    (note,) = [item for item in document.ContentSequence if meaning(item) == "Note on the weights"]
    assert note.TextValue == NOTE
    for group in groups_of(document):
        assert group.ContentTemplateSequence[0].TemplateIdentifier == "1411"
        texts = [item.TextValue for item in group.ContentSequence if meaning(item) == "Algorithm Parameters"]
        assert texts == [
            "weights: mini",
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


def test_another_slice_makes_another_object_of_the_same_lesion(study: PhantomStudy, tmp_path: Path) -> None:
    report = rtstruct_report(study)
    fewer = replace(report, series=replace(report.series, instances=report.series.instances[:-1]))
    whole, part = (write_both(one, study, tmp_path / name) for one, name in ((report, "a"), (fewer, "b")))
    assert whole.SOPInstanceUID != part.SOPInstanceUID
    segs = [pydicom.dcmread(tmp_path / name / "seeds.seg.dcm").SOPInstanceUID for name in "ab"]
    assert segs[0] != segs[1]
    trackings = [[named(g, "Tracking Unique Identifier").UID for g in groups_of(ds)] for ds in (whole, part)]
    assert trackings[0] == trackings[1]


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
        ct.PatientID = "kept, though it is much longer than the sixty-four characters that DICOM allows"
        ct.save_as(tmp_path / "ct.dcm")
        series = series_of([tmp_path / "ct.dcm"])
    report = report_of(series, [Lesion(Seed((1, 2, 3), "L", ""), random_features(3))])
    mask = (0, np.ones((1, 32, 32), dtype=np.bool_))
    seg = write_seed_seg(report, [mask], Grid.from_matrix((1, 32, 32), study.affine), tmp_path / "seeds.seg.dcm")
    (path,) = write_sr(report, tmp_path, segmentation=seg)  # warnings are errors here
    with pydicom.config.disable_value_validation():
        document = pydicom.dcmread(path)
        assert (document.PatientBirthDate, document.StudyTime) == ("", "")
        assert (document.StudyID, document.get("PatientAge") or "") == ("", "")
        assert document.PatientID == "kept, though it is much longer than the sixty-four characters that DICOM allows"


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
