"""What an SR says of itself: its series, its device, its codes, and which content gives which UID."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from fmcib_module.adapters.sr_writer import write_sr
from fmcib_module.core.comparison import Stability
from fmcib_module.core.conventions import Mode
from fmcib_module.core.domain import Lesion, Seed, SeriesReport
from fmcib_module.core.errors import OutputError
from fmcib_module.core.heads import HeadFacts, HeadKind
from tests.adapters.report_builders import (
    NOTE,
    PROVENANCE,
    groups_of,
    meaning,
    named,
    phantom_series,
    random_features,
    report_of,
)
from tests.phantoms import PhantomStudy, write_study

HEAD = HeadFacts("malignancy", "cd" * 32, HeadKind.LOGISTIC, ("benign", "malignant"), "2.0", "ef" * 32)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return write_study(tmp_path_factory.mktemp("phantom"))


@pytest.fixture
def report(study: PhantomStudy) -> SeriesReport:
    return report_of(phantom_series(study), [Lesion(Seed((1, 2, 3), "L", ""), random_features(3))])


def written(report: SeriesReport, folder: Path) -> Dataset:
    (path,) = write_sr(report, folder, segmentation=None)
    return pydicom.dcmread(path)


def code(sequence) -> tuple[str, str, str]:
    return sequence[0].CodeValue, sequence[0].CodingSchemeDesignator, sequence[0].CodeMeaning


def test_the_document_is_complete_and_in_a_series_of_its_own(report: SeriesReport, tmp_path: Path) -> None:
    document = written(report, tmp_path)
    assert (document.SeriesNumber, document.InstanceNumber) == (9001, 1)
    assert (document.CompletionFlag, document.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert document.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert document.Manufacturer == "The fmcib-module authors"
    assert document.ManufacturerModelName == "fmcib-module"
    assert document.SoftwareVersions == document.DeviceSerialNumber == "1.2.3"
    assert document.SpecificCharacterSet == "ISO_IR 192"
    assert document.SeriesInstanceUID != report.series.uid
    (scheme,) = document.CodingSchemeIdentificationSequence
    assert (scheme.CodingSchemeDesignator, scheme.CodingSchemeName) == ("99FMCIB", "fmcib-module private codes")


def test_it_says_what_was_reported_and_which_device_observed(report: SeriesReport, tmp_path: Path) -> None:
    document = written(report, tmp_path)
    assert code(document.ConceptNameCodeSequence) == ("126000", "DCM", "Imaging Measurement Report")
    procedure = named(document, "Procedure reported").ConceptCodeSequence
    assert code(procedure) == ("25045-6", "LN", "CT unspecified body region")
    assert code(named(document, "Observer Type").ConceptCodeSequence) == ("121007", "DCM", "Device")
    assert named(document, "Device Observer Name").TextValue == "fmcib-module"
    assert named(document, "Device Observer Manufacturer").TextValue == "The fmcib-module authors"
    assert named(document, "Device Observer Model Name").TextValue == "fmcib-module"
    uid = named(document, "Device Observer UID").UID
    assert uid.startswith("2.25.")
    assert uid == named(written(report, tmp_path), "Device Observer UID").UID
    newer = replace(report, provenance=replace(PROVENANCE, version="1.2.4"))
    assert uid != named(written(newer, tmp_path), "Device Observer UID").UID


def test_a_note_on_the_weights_is_there_if_there_is_one(report: SeriesReport, tmp_path: Path) -> None:
    note = named(written(report, tmp_path), "Note on the weights")
    assert (note.TextValue, note.ValueType, note.RelationshipType) == (NOTE, "TEXT", "CONTAINS")
    assert code(note.ConceptNameCodeSequence)[:2] == ("WEIGHTS_NOTE", "99FMCIB")
    bare = written(replace(report, provenance=replace(PROVENANCE, weights_note="")), tmp_path)
    assert [meaning(item) for item in bare.ContentSequence if item.ValueType == "TEXT"].count(
        "Note on the weights"
    ) == 0


def test_a_long_name_of_weights_is_cut_where_dicom_ends(report: SeriesReport, tmp_path: Path) -> None:
    long = replace(report, provenance=replace(PROVENANCE, weights="w" * 80))
    assert written(long, tmp_path).SeriesDescription == f"FMCIB features ({'w' * 48}"  # LO: 64 characters


def test_each_file_of_a_split_report_has_its_number_and_its_lesions(study: PhantomStudy, tmp_path: Path) -> None:
    lesions = [Lesion(Seed((n, 0, 0), f"L{n}", ""), random_features(4, n)) for n in range(9)]
    paths = write_sr(report_of(phantom_series(study), lesions), tmp_path, segmentation=None)
    documents = [pydicom.dcmread(path) for path in paths]
    assert [document.InstanceNumber for document in documents] == [1, 2]
    names = [[named(group, "Tracking Identifier").TextValue for group in groups_of(ds)] for ds in documents]
    assert names == [[f"L{n}" for n in range(8)], ["L8"]]
    for document, part in zip(documents, (lesions[:8], lesions[8:]), strict=True):
        for group, lesion in zip(groups_of(document), part, strict=True):
            values = [item.MeasuredValueSequence[0].FloatingPointValue for item in numbers(group)]
            assert np.array(values, np.float32).tobytes() == lesion.values.tobytes()


def numbers(group: Dataset) -> list[Dataset]:
    return [item for item in group.ContentSequence if item.ValueType == "NUM"]


def test_eight_lesions_are_one_file_that_replaces_those_of_an_earlier_run(study: PhantomStudy, tmp_path: Path) -> None:
    lesions = [Lesion(Seed((n, 0, 0), f"L{n}", ""), random_features(4, n)) for n in range(9)]
    series = phantom_series(study)
    write_sr(report_of(series, lesions), tmp_path, segmentation=None)
    (tmp_path / "features.csv").write_text("kept")
    (path,) = write_sr(report_of(series, lesions[:8]), tmp_path, segmentation=None)
    assert {found.name for found in tmp_path.iterdir()} == {"features.sr.dcm", "features.csv"}
    assert path == tmp_path / "features.sr.dcm"


def test_what_a_document_holds_decides_its_uid(report: SeriesReport, tmp_path: Path) -> None:
    (lesion,) = report.lesions
    stable = Stability(20, 0, 0.99, 0.98)

    def holding(**changes) -> SeriesReport:
        return replace(report, provenance=replace(PROVENANCE, **changes))

    def of(other: Lesion) -> SeriesReport:
        return replace(report, lesions=(other,))

    others = [
        report,
        holding(mode=Mode.CENTRED),
        holding(weights_sha256="cd" * 32),
        holding(version="1.2.4"),
        holding(heads=(HEAD,)),
        holding(heads=(replace(HEAD, sha256="00" * 32),)),
        of(replace(lesion, seed=replace(lesion.seed, label="M"))),
        of(replace(lesion, stability=stable)),
        of(replace(lesion, stability=replace(stable, n_seeds=10))),
    ]
    uids = [str(written(other, tmp_path).SOPInstanceUID) for other in others]
    assert len(set(uids)) == len(uids)
    assert uids[-1] == str(written(others[-1], tmp_path).SOPInstanceUID)


def test_numbers_that_are_not_finite_are_told_with_what_to_do(report: SeriesReport, tmp_path: Path) -> None:
    bad = replace(report.lesions[0], values=np.array([1, np.inf], dtype=np.float32))
    with pytest.raises(OutputError) as caught:
        write_sr(replace(report, lesions=(bad,)), tmp_path, segmentation=None)
    assert caught.value.what == "features are not finite"
    assert "CT's values" in caught.value.fix


def test_a_report_without_lesions_is_refused(report: SeriesReport, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one lesion"):
        write_sr(replace(report, lesions=()), tmp_path, segmentation=None)
