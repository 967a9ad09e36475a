"""A lesion's measurement group, item by item: what TID 1411, TID 1501, TID 300 and TID 4019 ask for."""

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from fmcib_module.adapters.sr_group import LesionSources, measurement_group
from fmcib_module.core.comparison import Stability
from fmcib_module.core.conventions import Flag, Mode, SeedKind
from fmcib_module.core.domain import Lesion, Provenance, RoiSource, Seed, Series, SeriesReport
from fmcib_module.core.heads import HeadFacts, HeadKind, HeadScore
from fmcib_module.core.report import score_concept, tracking_uid
from tests.adapters.report_builders import meaning, named

SERIES = Series("9.9", "8.8", "CT", frame_of_reference_uid="7.7")
PROVENANCE = Provenance("mini", "ab" * 32, "", Mode.CENTRED, "1.2.3")
VALUES = np.zeros(2, dtype=np.float32)


def seed(kind=SeedKind.POINT, *, label="GTV-1", source_uid="", number=None, flags=()) -> Seed:
    return Seed((1.5, -2.25, 3.0), label, source_uid, kind, number, flags=flags)


def group_of(lesion: Lesion, sources: LesionSources | None = None, series=SERIES, provenance=PROVENANCE) -> Dataset:
    report = SeriesReport(series, (lesion,), provenance)
    group: Any = measurement_group(report, lesion, sources or LesionSources({}, None))
    found: Dataset = group[0]
    return found


def code(item: Dataset) -> tuple[str, str, str]:
    return item.get("CodeValue") or item.LongCodeValue, item.CodingSchemeDesignator, item.CodeMeaning


def all_named(group: Dataset, name: str) -> list[Dataset]:
    return [item for item in group.ContentSequence if meaning(item) == name]


def an_object(class_uid: str, uid: str) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = class_uid, uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "8.8", f"{uid}.1"
    return ds


def segment(number: int, **attributes) -> Dataset:
    ds = Dataset()
    ds.SegmentNumber = number
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def a_seg(uid: str, *segments: Dataset) -> Dataset:
    ds = an_object(SegmentationStorage, uid)
    ds.SegmentSequence = list(segments)
    return ds


def test_a_group_names_the_lesion_its_software_and_where_it_is() -> None:
    group = group_of(Lesion(seed(), VALUES))
    assert named(group, "Tracking Identifier").TextValue == "GTV-1"
    assert tracking_uid("9.9", seed()) == named(group, "Tracking Unique Identifier").UID
    assert named(group, "Algorithm Name").TextValue == "fmcib-module"
    assert named(group, "Algorithm Version").TextValue == "1.2.3"
    parameters = [item.TextValue for item in all_named(group, "Algorithm Parameters")]
    assert parameters == ["weights: mini", f"weights SHA-256: {'ab' * 32}", "preprocessing mode: centred"]
    assert code(named(group, "Finding").ConceptCodeSequence[0]) == ("52988006", "SCT", "Lesion")
    category = named(group, "Finding category").ConceptCodeSequence[0]
    assert code(category) == ("49755003", "SCT", "Morphologically Abnormal Structure")
    center = named(group, "Center")
    assert code(center.ConceptNameCodeSequence[0]) == ("111010", "DCM", "Center")
    assert (center.ValueType, center.GraphicType, center.RelationshipType) == ("SCOORD3D", "POINT", "CONTAINS")
    assert list(center.GraphicData) == [1.5, -2.25, 3.0]
    assert center.ReferencedFrameOfReferenceUID == "7.7"


def test_no_centre_is_given_where_the_frame_of_reference_is_unknown() -> None:
    assert all_named(group_of(Lesion(seed(), VALUES), series=Series("9.9", "8.8", "CT")), "Center") == []


@pytest.mark.parametrize("kind", [SeedKind.RTSTRUCT, SeedKind.SR, SeedKind.GSPS])
def test_an_object_that_was_read_is_referred_to_and_one_that_was_not_is_named_by_its_uid(kind: SeedKind) -> None:
    lesion = Lesion(seed(kind, source_uid="1.2.3", number=4), VALUES)
    sources = LesionSources({"1.2.3": an_object(RTStructureSetStorage, "1.2.3")}, None)
    source = named(group_of(lesion, sources), "Object that the seed was made from")
    assert (source.ValueType, source.RelationshipType) == ("COMPOSITE", "CONTAINS")
    assert source.ReferencedSOPSequence[0].ReferencedSOPClassUID == RTStructureSetStorage
    assert source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3"
    unread = group_of(lesion)
    uid = named(unread, "SOP Instance UID of the seed's source")
    assert (uid.UID, uid.ValueType, uid.RelationshipType) == ("1.2.3", "UIDREF", "CONTAINS")
    assert all_named(unread, "Object that the seed was made from") == []
    number = named(unread, "ROI number or segment number in the source")
    assert (number.TextValue, number.RelationshipType) == ("4", "CONTAINS")


def test_a_file_is_named_and_what_is_not_known_is_left_out() -> None:
    group = group_of(Lesion(seed(SeedKind.MASK, source_uid="mask.nii.gz", number=0), VALUES))
    source = named(group, "File that the seed was made from")
    assert (source.TextValue, source.ValueType, source.RelationshipType) == ("mask.nii.gz", "TEXT", "CONTAINS")
    assert named(group, "ROI number or segment number in the source").TextValue == "0"
    name = named(group, "ROI name or segment label in the source")
    assert (name.TextValue, name.RelationshipType) == ("GTV-1", "CONTAINS")
    bare = group_of(Lesion(seed(label=""), VALUES))
    names = {meaning(item) for item in bare.ContentSequence}
    assert not {name for name in names if "source" in name or "seed" in name}


def test_flags_are_evaluations_by_the_word_of_the_ledger() -> None:
    group = group_of(Lesion(seed(flags=(Flag.NEAR_BORDER, Flag.LOW_TISSUE)), VALUES))
    flags = all_named(group, "Flag of the computation")
    assert [code(flag.ConceptCodeSequence[0]) for flag in flags] == [
        ("near_border", "99FMCIB", "Near border"),
        ("low_tissue", "99FMCIB", "Low tissue"),
    ]
    assert {(flag.ValueType, code(flag.ConceptNameCodeSequence[0])[:2]) for flag in flags} == {
        ("CODE", ("FLAG", "99FMCIB"))
    }


def numbers(group: Dataset) -> dict[str, tuple[float, str]]:
    found = {}
    for item in group.ContentSequence:
        if item.ValueType == "NUM":
            measured = item.MeasuredValueSequence[0]
            found[meaning(item)] = (float(measured.NumericValue), measured.MeasurementUnitsCodeSequence[0].CodeValue)
            assert item.RelationshipType == "CONTAINS"
    return found


def test_stability_is_told_by_the_seeds_that_gave_features_and_their_cosines() -> None:
    stability = Stability(n_seeds=20, n_lost=3, cosine_mean=0.98765432, cosine_min=0.91)
    assert numbers(group_of(Lesion(seed(), VALUES, stability=stability))) == {
        "Jittered seeds with features": (17, "1"),
        "Mean cosine to features of jittered seeds": (0.987654, "1"),
        "Lowest cosine to features of jittered seeds": (0.91, "1"),
    }
    lost = group_of(Lesion(seed(), VALUES, stability=Stability(20, 20, None, None)))
    assert numbers(lost) == {"Jittered seeds with features": (0, "1")}
    assert numbers(group_of(Lesion(seed(), VALUES))) == {}


def test_each_number_of_a_head_carries_the_heads_own_identification() -> None:
    malignancy = HeadFacts("malignancy", "cd" * 32, HeadKind.LOGISTIC, ("benign", "malignant"), "2.0", "ef" * 32)
    survival = HeadFacts("survival", "12" * 32, HeadKind.COX, ("risk",), "3.0", "34" * 32)
    scores = (HeadScore(malignancy, (0.25, 0.75)), HeadScore(survival, (-1.5,)))
    group = group_of(Lesion(seed(), VALUES, scores=scores))
    assert numbers(group) == {
        "malignancy: probability of benign": (0.25, "1"),
        "malignancy: probability of malignant": (0.75, "1"),
        "survival: log hazard ratio": (-1.5, "1"),
    }
    items = [item for item in group.ContentSequence if item.ValueType == "NUM"]
    heads = [(malignancy, "benign"), (malignancy, "malignant"), (survival, "risk")]
    for item, (head, outcome) in zip(items, heads, strict=True):
        assert code(item.ConceptNameCodeSequence[0]) == tuple(score_concept(head, outcome))
        assert named(item, "Algorithm Name").TextValue == f"{head.name} ({head.kind.value})"
        assert named(item, "Algorithm Version").TextValue == head.version
        assert [parameter.TextValue for parameter in all_named(item, "Algorithm Parameters")] == [
            f"head SHA-256: {head.sha256}",
            f"training lesions SHA-256: {head.training_sha256}",
        ]


def referenced(group: Dataset) -> tuple[str, str, int, str]:
    item = named(group, "Referenced Segment").ReferencedSOPSequence[0]
    number = int(item.ReferencedSegmentNumber)
    series = named(group, "Source Series for Segmentation").UID
    return item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID, number, series


def test_a_lesion_refers_to_its_own_segment_of_its_seg() -> None:
    one, other = a_seg("1.2.1", segment(1), segment(2)), a_seg("1.2.2", segment(2), segment(7))
    sources = LesionSources({"1.2.1": one, "1.2.2": other}, None)
    lesion = Lesion(seed(SeedKind.SEG, source_uid="1.2.2", number=7), VALUES)
    group = group_of(lesion, sources)
    assert referenced(group) == (SegmentationStorage, "1.2.2", 7, "9.9")
    assert group.ContentTemplateSequence[0].TemplateIdentifier == "1411"
    assert all_named(group, "Object that the seed was made from") == []  # the segment says it
    assert sources.original(seed(SeedKind.SEG, source_uid="1.2.2", number=1)) is None
    assert sources.original(seed(SeedKind.SEG, source_uid="1.2.9", number=1)) is None
    assert sources.original(seed(SeedKind.RTSTRUCT, source_uid="1.2.1", number=1)) is None
    absent = group_of(Lesion(seed(SeedKind.SEG, source_uid="1.2.2", number=3), VALUES), sources)
    assert absent.ContentTemplateSequence[0].TemplateIdentifier == "1501"


def test_our_own_segment_comes_before_that_of_the_source_and_is_known_by_its_tracking_uid() -> None:
    mine = seed(SeedKind.SEG, source_uid="1.2.1", number=2)
    derived = a_seg("5.5", segment(1, TrackingUID="3.3"), segment(2), segment(3, TrackingUID=tracking_uid("9.9", mine)))
    sources = LesionSources({"1.2.1": a_seg("1.2.1", segment(1), segment(2))}, derived)
    assert referenced(group_of(Lesion(mine, VALUES), sources))[1:3] == ("5.5", 3)
    another = seed(SeedKind.SEG, source_uid="1.2.1", number=1)
    assert referenced(group_of(Lesion(another, VALUES), sources))[1:3] == ("1.2.1", 1)
    assert [ds.SOPInstanceUID for ds in sources.references()] == ["1.2.1", "5.5"]
    assert [ds.SOPInstanceUID for ds in LesionSources(sources.by_uid, None).references()] == ["1.2.1"]


def concept(value: str, name: str, scheme: str = "SCT") -> Dataset:
    return hd.sr.CodedConcept(value, scheme, name)


def finding_of(**attributes) -> dict[str, list[tuple[str, str, str]]]:
    """Finding, category and sites that a lesion takes from its segment."""
    sources = LesionSources({"1.2.1": a_seg("1.2.1", segment(1, **attributes))}, None)
    group = group_of(Lesion(seed(SeedKind.SEG, source_uid="1.2.1", number=1), VALUES), sources)
    names = ("Finding", "Finding category", "Finding Site")
    return {name: [code(item.ConceptCodeSequence[0]) for item in all_named(group, name)] for name in names}


def test_finding_category_and_sites_are_those_of_the_segment() -> None:
    assert finding_of(
        SegmentedPropertyTypeCodeSequence=[concept("108369006", "Neoplasm")],
        SegmentedPropertyCategoryCodeSequence=[concept("49755003", "Abnormal")],
        AnatomicRegionSequence=[concept("10200004", "Liver"), concept("39607008", "Lung")],
    ) == {
        "Finding": [("108369006", "SCT", "Neoplasm")],
        "Finding category": [("49755003", "SCT", "Abnormal")],
        "Finding Site": [("10200004", "SCT", "Liver"), ("39607008", "SCT", "Lung")],
    }


def test_a_finding_of_unknown_category_has_none_and_an_unknown_finding_is_a_lesion() -> None:
    found = finding_of(SegmentedPropertyTypeCodeSequence=[concept("108369006", "Neoplasm")])
    assert (found["Finding"], found["Finding category"]) == ([("108369006", "SCT", "Neoplasm")], [])
    site = finding_of(AnatomicRegionSequence=[concept("10200004", "Liver")])
    assert [name for (_, _, name) in site["Finding"] + site["Finding Site"]] == ["Lesion", "Liver"]
    assert site["Finding category"][0][0] == "49755003"


@pytest.mark.parametrize("missing", ["CodeValue", "CodingSchemeDesignator", "CodeMeaning"])
def test_a_code_that_lacks_a_part_is_passed_over(missing: str) -> None:
    half = Dataset()
    half.CodeValue, half.CodingSchemeDesignator, half.CodeMeaning = "1", "SCT", "Half"
    delattr(half, missing)
    found = finding_of(
        SegmentedPropertyTypeCodeSequence=[half, concept("108369006", "Neoplasm")],
        SegmentedPropertyCategoryCodeSequence=[half],
        AnatomicRegionSequence=[half],
    )
    assert found == {"Finding": [("108369006", "SCT", "Neoplasm")], "Finding category": [], "Finding Site": []}
    whole = finding_of(SegmentedPropertyTypeCodeSequence=[concept("1" * 20, "Long code")])
    assert whole["Finding"] == [("1" * 20, "SCT", "Long code")]


def test_a_code_whose_bytes_are_damaged_is_passed_over() -> None:
    damaged = concept("108369006", "Neoplasm")
    tag = Tag("CodingSchemeDesignator")
    damaged._dict[tag] = RawDataElement(tag, "Z~", 4, b"SCT ", 0, False, True, True)
    with pytest.raises(NotImplementedError):
        damaged.get("CodingSchemeDesignator")
    found = finding_of(
        SegmentedPropertyTypeCodeSequence=[damaged], AnatomicRegionSequence=[damaged, concept("10200004", "Liver")]
    )
    assert [name for (_, _, name) in found["Finding"] + found["Finding Site"]] == ["Lesion", "Liver"]


def test_sources_that_no_lesion_names_and_files_are_not_read(tmp_path: Path) -> None:
    used, unused = an_object(RTStructureSetStorage, "1.2.1"), an_object(RTStructureSetStorage, "1.2.2")
    used.save_as(tmp_path / "used.dcm", implicit_vr=False, little_endian=True)
    roi_sources = (
        RoiSource(tmp_path / "used.dcm", SeedKind.RTSTRUCT, "1.2.1"),
        RoiSource(tmp_path / "unused.dcm", SeedKind.RTSTRUCT, unused.SOPInstanceUID),
        RoiSource(tmp_path / "seeds.csv", SeedKind.POINT, "seeds.csv"),
    )
    series = Series("9.9", "8.8", "CT", roi_sources=roi_sources)
    lesions = [Lesion(seed(SeedKind.RTSTRUCT, source_uid="1.2.1", number=1), VALUES)]
    lesions.append(Lesion(seed(source_uid="seeds.csv"), VALUES))
    derived = a_seg("5.5")
    sources = LesionSources.read(SeriesReport(series, tuple(lesions), PROVENANCE), derived)
    assert [ds.SOPInstanceUID for ds in sources.references()] == ["1.2.1", "5.5"]
    assert sources.derived is derived
