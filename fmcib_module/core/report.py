"""What a report says and in which order: coded concepts, column names and UIDs that a rerun repeats."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.conventions import Flag
from fmcib_module.core.domain import Lesion, Point, Provenance, Seed, SeriesReport
from fmcib_module.core.heads import HeadFacts, HeadKind

PRIVATE_SCHEME: Final = "99FMCIB"
"""Coding scheme designator of this project's own codes; "99" marks a private scheme (PS3.16 section 8.2)."""

MAX_FEATURES: Final = 10_000
"""Feature codes have four digits."""

LESIONS_PER_SR: Final = 8
"""4,096 numbers take about 1 MB; viewers and DCMTK's tools stay quick below 10 MB, so longer reports are split."""


class Concept(NamedTuple):
    """A coded concept: value (LongCodeValue above 16 characters), CodingSchemeDesignator, CodeMeaning (64 at most)."""

    value: str
    scheme: str
    meaning: str


LESION: Final = Concept("52988006", "SCT", "Lesion")
"""Finding of a seed whose source does not say what it is (SNOMED CT, as in CID 6054)."""

MORPHOLOGIC_ABNORMALITY: Final = Concept("49755003", "SCT", "Morphologically Abnormal Structure")
"""Category of LESION (CID 7150, Segmentation Property Categories)."""

CENTER: Final = Concept("111010", "DCM", "Center")
"""Name of the item that holds the seed's position (PS3.16 annex D)."""

CT_PROCEDURE: Final = Concept("25045-6", "LN", "CT unspecified body region")
"""Procedure Reported of TID 1500 (CID 100, Quantitative Diagnostic Imaging Procedures)."""

NO_UNITS: Final = Concept("1", "UCUM", "no units")
"""Unit of every feature (PS3.16 CID 82)."""

FLAG: Final = Concept("FLAG", PRIVATE_SCHEME, "Flag of the computation")
SOURCE_OBJECT: Final = Concept("SOURCE_OBJECT", PRIVATE_SCHEME, "Object that the seed was made from")
SOURCE_UID: Final = Concept("SOURCE_UID", PRIVATE_SCHEME, "SOP Instance UID of the seed's source")
SOURCE_FILE: Final = Concept("SOURCE_FILE", PRIVATE_SCHEME, "File that the seed was made from")
ROI_NUMBER: Final = Concept("ROI_NUMBER", PRIVATE_SCHEME, "ROI number or segment number in the source")
ROI_NAME: Final = Concept("ROI_NAME", PRIVATE_SCHEME, "ROI name or segment label in the source")
STABILITY_SEEDS: Final = Concept("STABILITY_SEEDS", PRIVATE_SCHEME, "Jittered seeds with features")
STABILITY_MEAN: Final = Concept("STABILITY_MEAN", PRIVATE_SCHEME, "Mean cosine to features of jittered seeds")
STABILITY_MIN: Final = Concept("STABILITY_MIN", PRIVATE_SCHEME, "Lowest cosine to features of jittered seeds")
WEIGHTS_NOTE: Final = Concept("WEIGHTS_NOTE", PRIVATE_SCHEME, "Note on the weights")


def feature_concept(index: int) -> Concept:
    """Name of feature `index`, 0-based: FEAT0007 is the column feature_7 of the tables.

    The code says only the position in the network's output; which network is in the algorithm identification.

    Raises:
        ValueError: The index does not fit in four digits.
    """
    if not 0 <= index < MAX_FEATURES:
        msg = f"feature index {index} is not in 0..{MAX_FEATURES - 1}"
        raise ValueError(msg)
    return Concept(f"FEAT{index:04d}", PRIVATE_SCHEME, f"Deep feature {index:04d}")


def flag_concept(flag: Flag) -> Concept:
    """Code of a flag: the word that stands in the ledger and in the tables, so that it can be searched for."""
    return Concept(flag.value, PRIVATE_SCHEME, flag.value.replace("_", " ").capitalize())


def deterministic_uid(*parts: str) -> str:
    """A UID that depends on `parts` alone.

    Returns:
        "2.25." and the decimal form of a UUID of version 8 (PS3.5 B.2, RFC 9562 5.8) made from the first 128 bits
        of the SHA-256 of the parts as a JSON list, so that ("ab", "c") and ("a", "bc") differ.
    """
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF << 76) | 0x8 << 76  # version 8: custom
    number = number & ~(0x3 << 62) | 0x2 << 62  # variant of RFC 9562
    return f"2.25.{number}"


def tracking_uid(series_uid: str, seed: Seed) -> str:
    """Tracking Unique Identifier of a lesion: the same in every rerun, for every mode and every set of weights.

    Made of the series, the source object, ROI number, label and the position rounded to 0.001 mm.
    """
    x, y, z = (f"{round(value, 3) + 0.0:.3f}" for value in seed.lps_mm)  # + 0.0 turns -0.0 into 0.0
    return deterministic_uid("lesion", series_uid, seed.source_uid, str(seed.roi_number), seed.label, x, y, z)


def tracking_identifier(seed: Seed) -> str:
    """Tracking Identifier of a lesion: its label as in the source, or what it is where it has none."""
    if seed.label.strip():
        return seed.label
    return seed.kind.value if seed.roi_number is None else f"{seed.kind.value} {seed.roi_number}"


TEXT_COLUMNS: Final = (
    "Mhub ROI",
    "Centroid",
    "Image",
    "MHub Metadata",
    "coordX",
    "coordY",
    "coordZ",
    "roi_number",
    "source_uid",
    "series_uid",
    "study_uid",
    "mode",
    "weights",
    "weights_sha256",
    "flags",
)
"""Columns after feature_0 ... feature_N-1, in the order in which they are written."""


SCORE_PREFIX: Final = "head."
"""Columns of heads come last."""


def feature_columns(n_features: int) -> list[str]:
    """Names of the feature columns, as the published MHub model writes them."""
    return [f"feature_{index}" for index in range(n_features)]


@dataclass(frozen=True, slots=True, eq=False)
class LesionRow:
    """One row of the tables.

    Attributes:
        roi: Column "Mhub ROI": the label exactly as in the source object, line breaks and leading "=" included.
        lps_mm: Columns coordX, coordY, coordZ; LPS millimetres. "Centroid" is the same as "x,y,z".
        image: Column "Image": SeriesInstanceUID, or the image file's name.
        metadata: Column "MHub Metadata": JSON with sorted keys: mode, note, sha256, version, weights.
        roi_number: ROINumber, SegmentNumber or mask label; None (an empty cell) for points.
        source_uid: SOPInstanceUID of the seed's source, or its file.
        series_uid: SeriesInstanceUID, or an image file's safe name.
        study_uid: StudyInstanceUID; empty for image files.
        mode: Preprocessing mode.
        weights: Name of the weights.
        weights_sha256: SHA-256 of the weights.
        flags: Names of flags; joined with ";" in the tables.
        values: (n_features,) float32.
        scores: "head.<head>.<outcome>" -> probability, or log hazard ratio; the columns after `TEXT_COLUMNS`.
    """

    roi: str
    lps_mm: Point
    image: str
    metadata: str
    roi_number: int | None
    source_uid: str
    series_uid: str
    study_uid: str
    mode: str
    weights: str
    weights_sha256: str
    flags: tuple[str, ...]
    values: NDArray[np.float32] = field(repr=False)
    scores: dict[str, float] = field(default_factory=dict)

    def cells(self) -> tuple[str, ...]:
        """The text of `TEXT_COLUMNS`; numbers in their shortest form that reads back as the same float64."""
        x, y, z = (repr(value) for value in self.lps_mm)
        number = "" if self.roi_number is None else str(self.roi_number)
        uids = (self.source_uid, self.series_uid, self.study_uid)
        weights = (self.mode, self.weights, self.weights_sha256)
        return (
            *(self.roi, f"{x},{y},{z}", self.image, self.metadata),
            *(x, y, z, number),
            *(*uids, *weights, ";".join(self.flags)),
        )


def series_rows(report: SeriesReport) -> tuple[LesionRow, ...]:
    """The rows of a series, in the order of its lesions."""
    series, provenance = report.series, report.provenance
    metadata = provenance_json(provenance)
    return tuple(
        LesionRow(
            roi=lesion.seed.label,
            lps_mm=lesion.seed.lps_mm,
            image=series.image_path.name if series.image_path is not None else series.uid,
            metadata=metadata,
            roi_number=lesion.seed.roi_number,
            source_uid=lesion.seed.source_uid,
            series_uid=series.uid,
            study_uid=series.study_uid,
            mode=provenance.mode.value,
            weights=provenance.weights,
            weights_sha256=provenance.weights_sha256,
            flags=tuple(flag.value for flag in lesion.seed.flags),
            values=lesion.values,
            scores=lesion_scores(lesion),
        )
        for lesion in report.lesions
    )


def lesion_scores(lesion: Lesion) -> dict[str, float]:
    """Column -> what a head says, head by head in the order of the run, outcome by outcome in the head's."""
    return {
        score_column(score.head, outcome): value
        for score in lesion.scores
        for outcome, value in zip(score.head.outcomes, score.values, strict=True)
    }


def score_column(head: HeadFacts, outcome: str) -> str:
    """Name of a head's column in the tables."""
    return f"{SCORE_PREFIX}{head.name}.{outcome}"


def score_concept(head: HeadFacts, outcome: str) -> Concept:
    """Name of a head's number in an SR. The code depends on head and outcome alone, so it is the same in every report.

    Returns:
        Code "HEAD" and 12 hexadecimal digits of the SHA-256 of both; the meaning says them in words.
    """
    digest = hashlib.sha256(json.dumps([head.name, outcome]).encode()).hexdigest()[:12]
    what = "log hazard ratio" if head.kind is HeadKind.COX else f"probability of {outcome}"
    return Concept(f"HEAD{digest}", PRIVATE_SCHEME, f"{head.name}: {what}"[:64])


def provenance_json(provenance: Provenance) -> str:
    """What made the features, as JSON with sorted keys."""
    fields = {
        "mode": provenance.mode.value,
        "note": provenance.weights_note,
        "sha256": provenance.weights_sha256,
        "version": provenance.version,
        "weights": provenance.weights,
    }
    return json.dumps(fields, sort_keys=True, ensure_ascii=False)
