"""Lesions of patients, with what became of these: the part that all cohorts with survival share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fmcib_module.core.errors import ConfigError
from training.cohorts.clinical import ClinicalForm, Outcome, read_clinical
from training.lesion_table import LesionRow, patient_splits


@dataclass(frozen=True, slots=True)
class OutcomeSettings:
    """Section `outcome`; absent where a cohort has none.

    Attributes:
        table: Clinical table (CSV); "" for none.
        form: table, lung1 or radiogenomics: whose columns it has.
        years: The label is 1 for patients alive after so many years, 0 for those dead by then.
        keep_censored: Keep patients who were last seen alive before that, without a label (for time and event); else
            they are left out, as in the paper.
    """

    table: str = ""
    form: ClinicalForm = ClinicalForm.TABLE
    years: float = 2.0
    keep_censored: bool = False

    def __post_init__(self) -> None:
        if self.years <= 0:
            raise ConfigError(f"years is {self.years}", "outcome", "use a positive number, e.g. 2")


def with_outcomes(
    rows: Sequence[LesionRow], settings: OutcomeSettings, base: Path
) -> tuple[list[LesionRow], list[tuple[str, str]]]:
    """Add time, event, label and covariates to the lesions of each patient.

    Returns:
        The lesions that stay, and (what, reason) of the others: their patient is not in the clinical table, or was
        censored too early.

    Raises:
        InputError: The clinical table cannot be read.
    """
    if not settings.table:
        return list(rows), []
    outcomes = read_clinical(base / settings.table, settings.form)
    kept, left_out = [], []
    for row in rows:
        outcome = outcomes.get(row.patient)
        label = "" if outcome is None else outcome.alive_after(settings.years)
        if outcome is None:
            left_out.append((f"lesion {row.lesion}", "its patient has no outcome in the clinical table"))
        elif not label and not settings.keep_censored:
            left_out.append(
                (f"lesion {row.lesion}", f"its patient was last seen alive before {settings.years:g} years")
            )
        else:
            kept.append(_with_outcome(row, outcome, label))
    return kept, left_out


def split_patients(rows: Sequence[LesionRow], *, val: float, test: float, seed: int) -> list[LesionRow]:
    """Draw a split for the patients that have none; those of the rows stay."""
    given: dict[str, str] = {}
    for row in rows:
        given[row.patient] = given.get(row.patient) or row.split
    split_of = patient_splits(given, val=val, test=test, seed=seed)
    return [replace(row, split=row.split or split_of[row.patient]) for row in rows]


def check_shares(val: float, test: float) -> None:
    """Refuse shares of patients that are none.

    Raises:
        ConfigError: They are negative, or more than 1 together.
    """
    if val < 0 or test < 0 or val + test > 1:
        raise ConfigError(f"val is {val}, test is {test}", "val, test", "use shares of 0 to 1")


def _with_outcome(row: LesionRow, outcome: Outcome, label: str) -> LesionRow:
    others: Mapping[str, object] = {**row.others, **outcome.covariates}
    return replace(row, label=label, time=outcome.time, event=outcome.event, others=others)
