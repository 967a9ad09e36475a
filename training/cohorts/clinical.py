"""Clinical tables -> time, event and the label "alive after two years", with right censoring."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from fmcib_module.core.errors import InputError
from training.lesion_table import KNOWN_COLUMNS

DAYS_PER_YEAR: Final = 365.25


class ClinicalForm(StrEnum):
    """Whose columns the table has."""

    TABLE = "table"  # patient, time (years), event (0 or 1), and covariates under their own names
    LUNG1 = "lung1"  # of the collection NSCLC-Radiomics
    RADIOGENOMICS = "radiogenomics"  # of the collection NSCLC Radiogenomics, time as published
    RADIOGENOMICS_DEATH = "radiogenomics-death"  # the same, the time of the dead ends with "Date of Death"


LUNG1_COVARIATES: Final = {"age": "age", "gender": "sex", "Overall.Stage": "stage", "Histology": "histology"}
"""Columns that are kept, and the names they get."""

RADIOGENOMICS_COVARIATES: Final = {
    "Age at Histological Diagnosis": "age",
    "Gender": "sex",
    "Pathological T stage": "t_stage",
    "Pathological N stage": "n_stage",
    "Histology ": "histology",  # so in the published file
    "Smoking status": "smoking",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a patient.

    Attributes:
        time: Years from the scan (LUNG1: from the start of treatment) to death or to when last known alive.
        event: Whether `time` ends with death.
        covariates: Name -> text.
    """

    time: float
    event: bool
    covariates: Mapping[str, str] = field(default_factory=dict, compare=False)

    def alive_after(self, years: float) -> str:
        """1 alive, 0 dead by then; "" where the patient was last seen alive before (censored)."""
        if self.time >= years:
            return "1"
        return "0" if self.event else ""


def read_clinical(path: Path, form: ClinicalForm) -> dict[str, Outcome]:
    """Read a clinical table.

    Returns:
        Patient -> outcome; patients without a time or an event are not in it.

    Raises:
        InputError: It cannot be read, a column is missing, a value is wrong (the message names the row), or a patient
            is there twice with different outcomes.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            records = list(csv.DictReader(file, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"it cannot be read: {type(error).__name__}", path.name, "give a CSV in UTF-8") from error
    outcomes: dict[str, Outcome] = {}
    for number, record in enumerate(records, start=1):
        where = f"{path.name}, row {number}"
        try:
            patient, outcome = READERS[form](record)
        except KeyError as error:
            raise InputError(f"column {error} is missing", path.name, f"give the columns of {form.value}") from error
        except ValueError as error:
            raise InputError(f"not an outcome: {error}", where, "correct the value, or leave it empty") from error
        if outcome is not None and outcomes.setdefault(patient, outcome) != outcome:
            raise InputError("a patient is there twice, with different outcomes", where, "give one row per patient")
    return outcomes


def _table(record: Mapping[str, str]) -> tuple[str, Outcome | None]:
    covariates = {name: value for name, value in record.items() if name not in KNOWN_COLUMNS}
    return record["patient"].strip(), _outcome(record["time"], record["event"], 1.0, covariates)


def _lung1(record: Mapping[str, str]) -> tuple[str, Outcome | None]:
    covariates = _covariates(record, LUNG1_COVARIATES)
    outcome = _outcome(record["Survival.time"], record["deadstatus.event"], DAYS_PER_YEAR, covariates)
    return record["PatientID"].strip(), outcome


def _radiogenomics(record: Mapping[str, str]) -> tuple[str, Outcome | None]:
    """Time from the CT to "Date of Last Known Alive", also for the dead: so in the published table."""
    return _from_ct(record, record["Date of Last Known Alive"])


def _radiogenomics_death(record: Mapping[str, str]) -> tuple[str, Outcome | None]:
    """Time from the CT to "Date of Death", where there is one."""
    return _from_ct(record, record["Date of Death"].strip() or record["Date of Last Known Alive"])


READERS: Final = {
    ClinicalForm.TABLE: _table,
    ClinicalForm.LUNG1: _lung1,
    ClinicalForm.RADIOGENOMICS: _radiogenomics,
    ClinicalForm.RADIOGENOMICS_DEATH: _radiogenomics_death,
}


def _from_ct(record: Mapping[str, str], last: str) -> tuple[str, Outcome | None]:
    first_day, last_day = _date(record["CT Date"]), _date(last)
    status = {"Alive": "0", "Dead": "1"}.get(record["Survival Status"].strip(), "")
    days = str((last_day - first_day).days) if first_day and last_day else ""
    covariates = _covariates(record, RADIOGENOMICS_COVARIATES)
    return record["Case ID"].strip(), _outcome(days, status, DAYS_PER_YEAR, covariates)


def _outcome(time: str, event: str, unit: float, covariates: Mapping[str, str]) -> Outcome | None:
    time, event = time.strip(), event.strip()
    if time in ("", "NA") or event in ("", "NA"):
        return None
    value = float(time) / unit
    if not math.isfinite(value) or value < 0:
        msg = f"time {time!r}, expected 0 or more"
        raise ValueError(msg)
    if event not in ("0", "1", "0.0", "1.0"):
        msg = f"event {event!r}, expected 0 or 1"
        raise ValueError(msg)
    return Outcome(value, event.startswith("1"), covariates)


def _covariates(record: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    return {ours: record[theirs].strip() for theirs, ours in names.items() if theirs in record}


def _date(text: str) -> date | None:
    """Month/day/year; the message of an error does not repeat it."""
    if not text.strip():
        return None
    try:
        return datetime.strptime(text.strip(), "%m/%d/%Y").date()  # days between dates need no zone
    except ValueError:
        msg = "a date is not month/day/year"
        raise ValueError(msg) from None
