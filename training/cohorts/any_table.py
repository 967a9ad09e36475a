"""Any cohort that is a table of lesions already: checked, joined to outcomes, split by patient."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from fmcib_module.core.errors import InputError
from training.cohorts.outcomes import OutcomeSettings, check_shares, split_patients, with_outcomes
from training.cohorts.tables import Cohort, Told
from training.lesion_table import KNOWN_COLUMNS, LesionRow, read_lesion_table


@dataclass(frozen=True, slots=True)
class TableSettings:
    """Keys of a cohort's file with `kind: table`; paths relative to where it is run.

    Attributes:
        table: Lesion table, CSV or Parquet: image column, coordX, coordY, coordZ, and what else is known.
        output: Folder of the new table (lesions.csv) and the record.
        patient_column: Column that names the patient.
        columns: Columns without a meaning of their own that are kept; all others are dropped.
        outcome: Clinical table that is joined by patient.
        val: Share of the patients without a split that become val.
        test: Likewise test; 1 makes the whole cohort a test set.
        seed: Of the split.
        shared_patients: Take a table in which a patient is in two splits; the record says how many.
    """

    table: str
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


def build_table(settings: TableSettings, base: Path, told: Told) -> Cohort:
    """Read, check, join, split.

    Raises:
        InputError: A table cannot be read or has a wrong value, or the patient's column is absent.
    """
    table = read_lesion_table(base / settings.table, shared_patients=settings.shared_patients)
    rows, left_out = with_outcomes([_row(row, settings) for row in table.rows], settings.outcome, base)
    rows = split_patients(rows, val=settings.val, test=settings.test, seed=settings.seed)
    told(len(rows), len(rows))
    column = "series_uid" if all(_is_uid(row.image) for row in rows) else "image_path"
    return Cohort({"lesions.csv": rows}, left_out, image_column=column)


def _row(row: LesionRow, settings: TableSettings) -> LesionRow:
    others = {name: row.others[name] for name in settings.columns if name in row.others}
    if settings.patient_column in KNOWN_COLUMNS:
        return replace(row, others=others)
    patient = str(row.others.get(settings.patient_column) or "").strip()
    if not patient:
        raise InputError(
            f"{settings.patient_column} is empty or absent", f"{settings.table}, row {row.lesion}", "name the patient"
        )
    return replace(row, patient=patient, others=others)


def _is_uid(image: str) -> bool:
    return image.replace(".", "").isdigit()
