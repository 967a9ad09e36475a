"""One lesion as a measurement group of TID 1411 (highdicom)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydicom.dataset import Dataset

from fmcib_module.adapters.derived import PRODUCT, read_roi_source
from fmcib_module.adapters.read_errors import READ_ERRORS
from fmcib_module.core.comparison import Stability
from fmcib_module.core.conventions import DICOM_KINDS, SeedKind
from fmcib_module.core.domain import Lesion, Provenance, Seed, SeriesReport
from fmcib_module.core.report import (
    CENTER,
    FLAG,
    LESION,
    MORPHOLOGIC_ABNORMALITY,
    NO_UNITS,
    ROI_NAME,
    ROI_NUMBER,
    SOURCE_FILE,
    SOURCE_OBJECT,
    SOURCE_UID,
    STABILITY_MEAN,
    STABILITY_MIN,
    STABILITY_SEEDS,
    Concept,
    flag_concept,
    score_concept,
    tracking_identifier,
    tracking_uid,
)

if TYPE_CHECKING:
    import highdicom as hd


_REGION = "AnatomicRegionSequence"
_CODE_VALUES = {"CodeValue", "LongCodeValue", "URNCodeValue"}


@dataclass(frozen=True, slots=True, eq=False)
class LesionSources:
    """The DICOM objects that the lesions of a series came from.

    Attributes:
        by_uid: DICOM objects that gave seeds: their UIDs, and a SEG's segments.
        derived: Our own SEG, None where there is none.
    """

    by_uid: dict[str, Dataset]
    derived: Dataset | None

    @classmethod
    def read(cls, report: SeriesReport, derived: Dataset | None) -> Self:
        """Read the headers of the sources that the lesions name.

        Raises:
            PixelDataError: A source cannot be read any more.
        """
        used = {lesion.seed.source_uid for lesion in report.lesions}
        dicom = (source for source in report.series.roi_sources if source.kind in DICOM_KINDS)
        return cls({source.uid: read_roi_source(source) for source in dicom if source.uid in used}, derived)

    def references(self) -> list[Dataset]:
        """Everything that a report's items may refer to."""
        return [*self.by_uid.values(), *([self.derived] if self.derived is not None else [])]

    def segment(self, series_uid: str, seed: Seed) -> tuple[Dataset, Dataset] | None:
        """The SEG object and the segment that outline a lesion, ours before the original; None where there is none."""
        uid = tracking_uid(series_uid, seed)
        if self.derived is not None:
            for segment in self.derived.SegmentSequence:
                if segment.get("TrackingUID") == uid:
                    return self.derived, segment
        original = self.original(seed)
        return None if original is None else (self.by_uid[seed.source_uid], original)

    def original(self, seed: Seed) -> Dataset | None:
        """The segment of the SEG that a lesion came from, None where it came from something else."""
        if seed.kind is not SeedKind.SEG or seed.source_uid not in self.by_uid:
            return None
        segments = self.by_uid[seed.source_uid].SegmentSequence
        return next((segment for segment in segments if segment.SegmentNumber == seed.roi_number), None)


def measurement_group(report: SeriesReport, lesion: Lesion, sources: LesionSources) -> Any:
    """Everything about a lesion except its features."""
    import highdicom as hd

    seed, series_uid = lesion.seed, report.series.uid
    found = sources.segment(series_uid, seed)
    arguments: dict[str, Any] = {
        "tracking_identifier": hd.sr.TrackingIdentifier(tracking_uid(series_uid, seed), tracking_identifier(seed)),
        "algorithm_id": _algorithm(report.provenance),
        "qualitative_evaluations": [
            hd.sr.QualitativeEvaluation(_code(FLAG), _code(flag_concept(flag))) for flag in seed.flags
        ],
        "measurements": _head_measurements(lesion),
        **_finding(sources.original(seed)),
    }
    group: Any
    if found is None:
        group = hd.sr.MeasurementsAndQualitativeEvaluations(**arguments)
    else:
        segmentation, segment = found
        group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=hd.sr.ReferencedSegment(
                segmentation.SOPClassUID,
                segmentation.SOPInstanceUID,
                int(segment.SegmentNumber),
                source_series=hd.sr.SourceSeriesForSegmentation(series_uid),
            ),
            **arguments,
        )
    group[0].ContentSequence.extend(_seed_items(report, seed, sources))
    if lesion.stability is not None:
        group[0].ContentSequence.extend(_stability_items(lesion.stability))
    return group


def _head_measurements(lesion: Lesion) -> list["hd.sr.Measurement"]:
    """What heads say (TID 300), each number with the identification of its own algorithm (TID 4019)."""
    import highdicom as hd

    found = []
    for score in lesion.scores:
        parameters = [f"head SHA-256: {score.head.sha256}", f"training lesions SHA-256: {score.head.training_sha256}"]
        algorithm = hd.sr.AlgorithmIdentification(
            name=f"{score.head.name} ({score.head.kind.value})", version=score.head.version, parameters=parameters
        )
        for outcome, value in zip(score.head.outcomes, score.values, strict=True):
            name = _code(score_concept(score.head, outcome))
            found.append(hd.sr.Measurement(name, value, unit=_code(NO_UNITS), algorithm_id=algorithm))
    return found


def _stability_items(stability: Stability) -> list["hd.sr.ContentItem"]:
    """How many jittered seeds gave features, and how near those are to the lesion's own."""
    import highdicom as hd

    numbers: dict[Concept, float | None] = {
        STABILITY_SEEDS: stability.n_seeds - stability.n_lost,
        STABILITY_MEAN: stability.cosine_mean,
        STABILITY_MIN: stability.cosine_min,
    }
    return [
        hd.sr.NumContentItem(_code(concept), round(value, 6), unit=_code(NO_UNITS), relationship_type="CONTAINS")
        for concept, value in numbers.items()
        if value is not None
    ]


def _seed_items(report: SeriesReport, seed: Seed, sources: LesionSources) -> list["hd.sr.ContentItem"]:
    """Where the seed is and what it came from, as extensions of the template (TID 1411 is extensible)."""
    import highdicom as hd

    items: list[hd.sr.ContentItem] = []
    if report.series.frame_of_reference_uid:
        point = np.asarray([seed.lps_mm])
        frame = report.series.frame_of_reference_uid
        items.append(hd.sr.Scoord3DContentItem(_code(CENTER), "POINT", point, frame, relationship_type="CONTAINS"))
    source = sources.by_uid.get(seed.source_uid)
    if source is not None and seed.kind is not SeedKind.SEG:
        uids = (source.SOPClassUID, source.SOPInstanceUID)
        items.append(hd.sr.CompositeContentItem(_code(SOURCE_OBJECT), *uids, relationship_type="CONTAINS"))
    elif seed.kind in DICOM_KINDS:
        items.append(hd.sr.UIDRefContentItem(_code(SOURCE_UID), seed.source_uid, "CONTAINS"))
    elif seed.source_uid:
        items.append(hd.sr.TextContentItem(_code(SOURCE_FILE), seed.source_uid, "CONTAINS"))
    if seed.roi_number is not None:
        items.append(hd.sr.TextContentItem(_code(ROI_NUMBER), str(seed.roi_number), "CONTAINS"))
    if seed.label:
        items.append(hd.sr.TextContentItem(_code(ROI_NAME), seed.label, "CONTAINS"))
    return items


def _algorithm(provenance: Provenance) -> "hd.sr.AlgorithmIdentification":
    """TID 4019: which software, weights and preprocessing made the numbers."""
    import highdicom as hd

    parameters = [
        f"weights: {provenance.weights}",
        f"weights SHA-256: {provenance.weights_sha256}",
        f"preprocessing mode: {provenance.mode.value}",
    ]
    if provenance.weights_note:
        parameters.append(f"note on the weights: {provenance.weights_note}")
    return hd.sr.AlgorithmIdentification(name=PRODUCT, version=provenance.version, parameters=parameters)


def _finding(segment: Dataset | None) -> dict[str, Any]:
    """Finding, its category and site: what a source SEG says of its segment; else a lesion at an unnamed site."""
    import highdicom as hd

    finding: dict[str, Any] = {"finding_type": _code(LESION), "finding_category": _code(MORPHOLOGIC_ABNORMALITY)}
    if segment is None:
        return finding
    kinds = _codes_in(segment, "SegmentedPropertyTypeCodeSequence")
    categories = _codes_in(segment, "SegmentedPropertyCategoryCodeSequence")
    if kinds:
        finding = {"finding_type": kinds[0], "finding_category": categories[0] if categories else None}
    return {**finding, "finding_sites": [hd.sr.FindingSite(site) for site in _codes_in(segment, _REGION)]}


def _codes_in(segment: Dataset, keyword: str) -> list["hd.sr.CodedConcept"]:
    """The complete codes of a sequence: some are half empty in old or hand-made segmentations, or damaged."""
    try:
        items = segment.get(keyword) or []
    except READ_ERRORS:
        return []
    return [code for item in items if (code := _code_of(item)) is not None]


def _code_of(item: Dataset) -> "hd.sr.CodedConcept | None":
    import highdicom as hd

    try:
        if not all(item.get(part) for part in ("CodingSchemeDesignator", "CodeMeaning")):
            return None
        return hd.sr.CodedConcept.from_dataset(item) if _CODE_VALUES & set(item.dir()) else None
    except READ_ERRORS:
        return None


def _code(concept: Concept) -> "hd.sr.CodedConcept":
    import highdicom as hd

    return hd.sr.CodedConcept(concept.value, concept.scheme, concept.meaning)
