"""Any cohort that is a table of lesions already: checked, joined to outcomes, split by patient."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from fmcib_module.core.errors import ConfigError, InputError
from training.cohorts.outcomes import OutcomeSettings, check_shares, split_patients, with_outcomes
from training.cohorts.tables import Cohort, Told
from training.lesion_table import KNOWN_COLUMNS, LesionRow, LesionTable, read_lesion_table


@dataclass(frozen=True, slots=True)
class TableSettings:
    """Keys of a cohort's file with `kind: table`; paths relative to where it is run.

    Attributes:
        tables: Lesion tables, CSV or Parquet: image column, coordX, coordY, coordZ, and what else is known. Of several,
            one table is made: lesions are named FOLDER-LESION after the table's folder, which is also in `cohort`.
        output: Folder of the new table (lesions.csv) and the record.
        patient_column: Column that names the patient.
        columns: Columns without a meaning of their own that are kept; all others are dropped.
        outcome: Clinical table that is joined by patient.
        val: Share of the patients without a split that become val.
        test: Likewise test; 1 makes the whole cohort a test set.
        seed: Of the split.
        shared_patients: Take a table in which a patient is in two splits; the record says how many.
    """

    tables: tuple[str, ...]
    output: str
    patient_column: str = "patient"
    columns: tuple[str, ...] = ()
    outcome: OutcomeSettings = field(default_factory=OutcomeSettings)
    val: float = 0.0
    test: float = 0.0
    seed: int = 1
    shared_patients: bool = False

    def __post_init__(self) -> None:
        check_shares(self.val, self.test)
        if not self.tables or len({_cohort_name(table) for table in self.tables}) < len(self.tables):
            raise ConfigError("no tables, or two in folders of one name", "tables", "put each in a folder of its own")


def build_table(settings: TableSettings, base: Path, told: Told) -> Cohort:
    """Read, check, join, split.

    Raises:
        InputError: A table cannot be read or has a wrong value, or the patient's column is absent.
    """
    found = [row for table in settings.tables for row in _read(table, settings, base)]
    rows, left_out = with_outcomes(found, settings.outcome, base)
    rows = split_patients(rows, val=settings.val, test=settings.test, seed=settings.seed)
    shared = LesionTable(tuple(rows)).shared_patients
    if shared and not settings.shared_patients:
        fix = "give all lesions of a patient the same split, or set shared_patients"
        raise InputError(f"{len(shared)} patient(s) are in two splits", ", ".join(settings.tables), fix)
    told(len(rows), len(rows))
    column = "series_uid" if all(_is_uid(row.image) for row in rows) else "image_path"
    return Cohort({"lesions.csv": rows}, left_out, image_column=column)


def _read(table: str, settings: TableSettings, base: Path) -> list[LesionRow]:
    """Lesions of one table, images relative to where the new one will be."""
    path = base / table
    rows = [_row(row, settings) for row in read_lesion_table(path, shared_patients=settings.shared_patients).rows]
    rows = [replace(row, image=_moved(row.image, path.parent, base / settings.output)) for row in rows]
    if len(settings.tables) == 1:
        return rows
    name = _cohort_name(table)
    return [replace(row, lesion=f"{name}-{row.lesion}", others={**row.others, "cohort": name}) for row in rows]


def _cohort_name(table: str) -> str:
    return Path(table).parent.name or Path(table).stem


def _moved(image: str, old: Path, new: Path) -> str:
    if _is_uid(image) or Path(image).is_absolute():
        return image
    return Path(os.path.relpath(old / image, new)).as_posix()


def _row(row: LesionRow, settings: TableSettings) -> LesionRow:
    others = {name: row.others[name] for name in settings.columns if name in row.others}
    if settings.patient_column in KNOWN_COLUMNS:
        return replace(row, others=others)
    patient = str(row.others.get(settings.patient_column) or "").strip()
    if not patient:
        raise InputError(f"{settings.patient_column} is empty or absent", f"lesion {row.lesion}", "name the patient")
    return replace(row, patient=patient, others=others)


def _is_uid(image: str) -> bool:
    return image.replace(".", "").isdigit()
