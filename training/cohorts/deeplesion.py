"""DeepLesion as two lesion tables: unlabelled lesions for pretraining, labelled ones for the paper's task 1."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from fmcib_module.core.domain import Point
from fmcib_module.core.errors import ConfigError
from training.cohorts.deeplesion_info import (
    LESION_TYPES,
    DeepLesionRow,
    published_seed_lps_mm,
    read_dl_info,
    seed_lps_mm,
)
from training.cohorts.deeplesion_published import compare_with_published
from training.cohorts.deeplesion_volumes import write_volumes
from training.cohorts.tables import Cohort, SplitBy, Told
from training.lesion_table import LesionRow, patient_splits

PUBLISHED_SPLIT_SEED: Final = 21
"""Of the published division of the official test set (Process_Dataset.ipynb)."""


class Uncrossed(StrEnum):
    """What becomes of a lesion whose two diameters do not cross."""

    LEAVE_OUT = "leave-out"  # as published
    MIDPOINT = "midpoint"  # of the long diameter


class SeedForm(StrEnum):
    """Which seeds the tables hold."""

    CORRECT = "correct"  # where the lesion is
    PUBLISHED = "published"  # as the published tables have them; see published_seed_lps_mm


@dataclass(frozen=True, slots=True)
class DeepLesionSettings:
    """Keys of a cohort's file with `kind: deeplesion`; paths relative to where it is run.

    Attributes:
        info: DL_info.csv.
        output: Folder of the tables (pretrain.csv, task1.csv) and the record.
        slices: Folder of the unpacked PNG slices (Images_png); "" makes tables only.
        volumes: Folder of the sub-volumes that are made of them; "" for `volumes` in `output`. The tables name them
            relative to `output`.
        max_thickness_mm: Lesions with a larger distance between slices are left out.
        uncrossed: leave-out or midpoint, for lesions whose diameters do not cross.
        seeds: correct or published.
        split: published (task 1: the official validation set is for training, the official test set is halved lesion
            by lesion) or patients (halved patient by patient).
        seed: Of a split by patients.
        published: Folder of the published tables to compare with; "" for none.
        workers: Processes that write volumes.
    """

    info: str
    output: str
    slices: str = ""
    volumes: str = ""
    max_thickness_mm: float = 3.0
    uncrossed: Uncrossed = Uncrossed.LEAVE_OUT
    seeds: SeedForm = SeedForm.CORRECT
    split: SplitBy = SplitBy.PUBLISHED
    seed: int = 1
    published: str = ""
    workers: int = 1

    def __post_init__(self) -> None:
        if self.workers < 1 or self.max_thickness_mm <= 0:
            raise ConfigError("workers or max_thickness_mm is too small", "settings", "use positive numbers")
        if self.seeds is SeedForm.PUBLISHED and self.uncrossed is Uncrossed.MIDPOINT:
            raise ConfigError("published seeds are crossings", "uncrossed", "use leave-out with published seeds")


def build_deeplesion(settings: DeepLesionSettings, base: Path, told: Told) -> Cohort:
    """Select the lesions, place their seeds, split them, write the sub-volumes that are missing.

    Args:
        settings: What and how.
        base: Folder that paths are relative to.
        told: Told after every sub-volume.

    Raises:
        InputError: DL_info.csv or a published table cannot be read.
        OutputError: A sub-volume cannot be written.
    """
    found = read_dl_info(base / settings.info)
    rows, left_out = select(found, settings.max_thickness_mm, settings.uncrossed)
    if settings.slices:
        unwritten = _volumes(settings, base, rows, told)
        left_out += [
            (f"lesion {row.number}", unwritten[row.volume_name]) for row in rows if row.volume_name in unwritten
        ]
        rows = [row for row in rows if row.volume_name not in unwritten]
    unlabelled = [row for row in rows if row.official_split == 1]
    labelled = [row for row in rows if row.official_split != 1]
    task1 = split_task1(labelled, settings.split, settings.seed)
    seeds = {row.number: _seed(row, settings.seeds) for row in rows}
    facts: dict[str, Any] = {}
    if settings.published:
        facts["published"] = compare_with_published(
            base / settings.published, rows, {row.number: split for row, split in task1}
        )
    volumes = os.path.relpath(_volume_folder(settings), settings.output)
    tables = {
        "pretrain.csv": [_lesion(row, volumes, seeds[row.number], "train") for row in unlabelled],
        "task1.csv": [_lesion(row, volumes, seeds[row.number], split) for row, split in task1],
    }
    return Cohort(tables, left_out, facts)


def select(
    rows: Iterable[DeepLesionRow], max_thickness_mm: float, uncrossed: Uncrossed
) -> tuple[list[DeepLesionRow], list[tuple[str, str]]]:
    """The lesions that are used, and (what, reason) of the others."""
    used, left_out = [], []
    for row in rows:
        if not row.has_place:
            left_out.append((f"lesion {row.number}", "its slice is not in its range, or its spacing is not positive"))
        elif row.spacing_mm[2] > max_thickness_mm:
            left_out.append((f"lesion {row.number}", f"slices are more than {max_thickness_mm:g} mm apart"))
        elif row.crossing is None and uncrossed is Uncrossed.LEAVE_OUT:
            left_out.append((f"lesion {row.number}", "its diameters do not cross"))
        else:
            used.append(row)
    return used, left_out


def split_task1(rows: Sequence[DeepLesionRow], how: SplitBy, seed: int) -> list[tuple[DeepLesionRow, str]]:
    """Lesions of the official validation (2) and test set (3) with their split of task 1.

    The published split trains on the official validation set and halves the official test set lesion by lesion with
    scikit-learn, so it depends on which lesions there are; the other halves it by patient.
    """
    from sklearn.model_selection import train_test_split  # a second that other cohorts do not pay

    train = [row for row in rows if row.official_split == 2]
    rest = [row for row in rows if row.official_split == 3]
    if how is SplitBy.PATIENTS or len(rest) < 2:
        halves = patient_splits({row.patient: "" for row in rest}, val=1.0, test=0.5, seed=seed)  # val is what is left
        return [(row, "train") for row in train] + [(row, halves[row.patient]) for row in rest]
    val, test = train_test_split(rest, test_size=0.5, random_state=PUBLISHED_SPLIT_SEED)
    return [(row, "train") for row in train] + [(row, "val") for row in val] + [(row, "test") for row in test]


def _volumes(settings: DeepLesionSettings, base: Path, rows: Sequence[DeepLesionRow], told: Told) -> dict[str, str]:
    """Name -> reason of the sub-volumes that cannot be written."""
    total = len({row.volume_name for row in rows})
    failures = {}
    outcomes = write_volumes(base / settings.slices, base / _volume_folder(settings), rows, workers=settings.workers)
    for done, (name, problem) in enumerate(outcomes, start=1):
        if problem:
            failures[name] = problem
        told(done, total)
    return failures


def _volume_folder(settings: DeepLesionSettings) -> Path:
    return Path(settings.volumes) if settings.volumes else Path(settings.output, "volumes")


def _seed(row: DeepLesionRow, form: SeedForm) -> Point:
    published = published_seed_lps_mm(row)
    if form is SeedForm.PUBLISHED and published is not None:
        return published
    return seed_lps_mm(row, row.crossing or row.midpoint)


def _lesion(row: DeepLesionRow, volumes: str, seed: Point, split: str) -> LesionRow:
    return LesionRow(
        image=Path(volumes, row.volume_name).as_posix(),
        lps_mm=seed,
        label=LESION_TYPES.get(row.lesion_type, ""),
        split=split,
        patient=row.patient,
        diameter_mm=row.diameters_mm[0],
        lesion=str(row.number),
        others={"sex": row.sex, "age": row.age, "noisy": int(row.noisy)},
    )
