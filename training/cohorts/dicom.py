"""A folder of DICOM studies with RTSTRUCT, SEG or points -> lesion table, through the chain's own finders."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from fmcib_module.adapters.dicom_import import scan_folder
from fmcib_module.adapters.identifiers import read_identifiers
from fmcib_module.adapters.seed_finder import find_rois
from fmcib_module.adapters.volume_reader import grid_of
from fmcib_module.core.conventions import Irregular, SeedKind
from fmcib_module.core.domain import Seed, Series
from fmcib_module.core.errors import InputError
from training.cohorts.outcomes import OutcomeSettings, check_shares, split_patients, with_outcomes
from training.cohorts.tables import Cohort, Told
from training.lesion_table import LesionRow


class Take(StrEnum):
    """Which ROIs of a scan."""

    ALL = "all"
    LARGEST = "largest"  # by volume; points have none and come last


@dataclass(frozen=True, slots=True)
class DicomSettings:
    """Keys of a cohort's file with `kind: dicom`; paths relative to where it is run.

    Attributes:
        images: Folder of the DICOM files.
        output: Folder of the table (lesions.csv) and the record.
        rois: Which ROIs, as in the settings of a run; empty takes all.
        sources: RTSTRUCT, SEG, POINT: which kinds of seeds; empty takes all.
        take: all or largest ROI of each scan.
        irregular: refuse, or resample, slices that are not one uniform grid.
        pairs: Test-retest: keep the patients with exactly two scans, one lesion each; columns `pair` and `repeat`.
        identifiers: Write PatientID as the patient; else a pseudonym made from it.
        outcome: Clinical table, joined by PatientID.
        val: Share of the patients that become val.
        test: Likewise test; 1 makes the whole cohort a test set.
        seed: Of the split.
    """

    images: str
    output: str
    rois: tuple[str, ...] = ()
    sources: tuple[SeedKind, ...] = ()
    take: Take = Take.ALL
    irregular: Irregular = Irregular.REFUSE
    pairs: bool = False
    identifiers: bool = False
    outcome: OutcomeSettings = field(default_factory=OutcomeSettings)
    val: float = 0.0
    test: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        check_shares(self.val, self.test)


def build_dicom(settings: DicomSettings, base: Path, told: Told) -> Cohort:
    """Find the lesions of every CT series, join outcomes, split by patient.

    Raises:
        InputError: The folder is absent, or the clinical table cannot be read.
    """
    scan = scan_folder(base / settings.images, progress=told)
    series = [one for study in scan.studies for one in study.series if not one.skip_reason]
    rows: list[LesionRow] = []
    left_out: list[tuple[str, str]] = []
    for done, one in enumerate(series, start=1):
        found, problems = _lesions(one, settings)
        rows += found
        left_out += problems
        told(done, len(series))
    if settings.pairs:
        rows, lone = _paired(rows)
        left_out += lone
    rows = [replace(row, lesion=str(number)) for number, row in enumerate(rows, start=1)]
    rows, without = with_outcomes(rows, settings.outcome, base)
    if not settings.identifiers:
        rows = [replace(row, patient=pseudonym(row.patient)) for row in rows]
    rows = split_patients(rows, val=settings.val, test=settings.test, seed=settings.seed)
    facts = {"ct_series": len(series)}
    return Cohort({"lesions.csv": rows}, left_out + without, facts, image_column="series_uid")


def pseudonym(patient: str) -> str:
    """Stands for a PatientID: always the same, and not to be read back from the table."""
    return f"patient-{hashlib.sha256(patient.encode()).hexdigest()[:12]}"


def _lesions(series: Series, settings: DicomSettings) -> tuple[list[LesionRow], list[tuple[str, str]]]:
    """Of one series; and (what, reason) of what gives none."""
    if not series.roi_sources:
        return [], [(series.uid, "nothing is drawn on the series")]
    try:
        grid_of(series, settings.irregular)
    except InputError as error:
        return [], [(series.uid, error.what)]
    seeds, failures = find_rois(series, rois=settings.rois, kinds=settings.sources or tuple(SeedKind))
    problems = [(f"{series.uid}: {failure.label}", failure.error.what) for failure in failures]
    patient = read_identifiers(series).get("PatientID", "").strip() or series.study_uid
    return [_row(series, seed, patient) for seed in _taken(seeds, settings)], problems


def _taken(seeds: Sequence[Seed], settings: DicomSettings) -> Iterable[Seed]:
    if settings.take is Take.ALL and not settings.pairs:
        return seeds
    return sorted(seeds, key=lambda seed: seed.volume_mm3 or 0.0, reverse=True)[:1]


def _row(series: Series, seed: Seed, patient: str) -> LesionRow:
    return LesionRow(
        image=series.uid,
        lps_mm=seed.lps_mm,
        patient=patient,
        diameter_mm=max(seed.extent_mm or (0.0,)),
        others={"roi": seed.label, "source_uid": seed.source_uid},
    )


def _paired(rows: Sequence[LesionRow]) -> tuple[list[LesionRow], list[tuple[str, str]]]:
    """Lesions of patients with two scans, numbered; repeats by SeriesInstanceUID, which nothing depends on."""
    of: dict[str, list[LesionRow]] = {}
    for row in rows:
        of.setdefault(row.patient, []).append(row)
    kept: list[LesionRow] = []
    lone: list[tuple[str, str]] = []
    for scans in of.values():
        if len(scans) != 2:
            lone += [(row.image, f"its patient has {len(scans)} scan(s) with a lesion, not two") for row in scans]
            continue
        pair = len(kept) // 2 + 1
        for repeat, row in enumerate(sorted(scans, key=lambda row: row.image), start=1):
            kept.append(replace(row, others={**row.others, "pair": pair, "repeat": repeat}))
    return kept, lone
