"""What a cohort is turned into: lesion tables, what was left out and why, a record of counts."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.core.errors import InputError
from training.lesion_table import LesionRow, LesionTable

RECORD: Final = "cohort.json"

Told = Callable[[int, int], None]
"""Called with (done, in all)."""


class SplitBy(StrEnum):
    """Who goes where."""

    PUBLISHED = "published"  # as the published tables: lesions of one patient may be in two splits
    PATIENTS = "patients"  # all lesions of a patient go the same way


@dataclass(frozen=True, slots=True)
class Cohort:
    """What came of a cohort.

    Attributes:
        tables: File name -> rows.
        left_out: (what, reason) of lesions and scans that are in no table.
        facts: Further numbers for the record, plain values.
        image_column: Of the tables: image_path or series_uid.
    """

    tables: Mapping[str, Sequence[LesionRow]]
    left_out: Sequence[tuple[str, str]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    image_column: str = "image_path"


def write_cohort(folder: Path, cohort: Cohort) -> dict[str, Any]:
    """Write the tables and the record.

    Returns:
        The record: per table its lesions, scans, patients, lesions per split and label, and the patients with lesions
        in more than one split; patients in more than one table (what is pretrained on must not be tested on); why
        lesions were left out; the cohort's own facts.

    Raises:
        InputError: A table would have no row.
        OutputError: The disk is full or read-only.
    """
    record = {
        "tables": {name: table_facts(rows) for name, rows in cohort.tables.items()},
        "patients_in_two_tables": _in_two_tables(cohort.tables.values()),
        "left_out": dict(Counter(reason for _, reason in cohort.left_out)),
        **cohort.facts,
    }
    for name, rows in cohort.tables.items():
        if not rows:
            raise InputError("no lesion is left", name, f"see what was left out: {record['left_out']}")
        write_lesion_table(folder / name, rows, cohort.image_column)
    write_bytes(folder / RECORD, (json.dumps(record, indent=1) + "\n").encode())
    return record


def table_facts(rows: Sequence[LesionRow]) -> dict[str, Any]:
    """Counts of one table."""
    by_split = Counter(row.split for row in rows)
    shared = LesionTable(tuple(rows)).shared_patients
    return {
        "lesions": len(rows),
        "scans": len({row.image for row in rows}),
        "patients": len({row.patient for row in rows}),
        "splits": {name: by_split[name] for name in sorted(by_split) if name},
        "labels": dict(sorted(Counter(row.label for row in rows if row.label).items())),
        "patients_in_two_splits": len(shared),
        "lesions_of_patients_in_two_splits": sum(row.patient in shared for row in rows),
    }


def _in_two_tables(tables: Iterable[Sequence[LesionRow]]) -> int:
    counts = Counter(patient for rows in tables for patient in {row.patient for row in rows})
    return sum(count > 1 for count in counts.values())


def write_lesion_table(path: Path, rows: Iterable[LesionRow], image_column: str = "image_path") -> None:
    """Write rows as `read_lesion_table` reads them; columns that are empty everywhere are left out.

    Raises:
        OutputError: The file cannot be written.
    """
    records = [_record(row, image_column) for row in rows]
    columns = [name for name in dict.fromkeys(name for record in records for name in record)]
    used = [name for name in columns if any(record.get(name) not in ("", None) for record in records)]
    text = io.StringIO()
    writer = csv.DictWriter(text, used, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    write_bytes(path, text.getvalue().encode())


def by_patient(rows: Sequence[LesionRow], split_of: Mapping[str, str]) -> list[LesionRow]:
    """The rows with the split of their patient."""
    return [replace(row, split=split_of[row.patient]) for row in rows]


def _record(row: LesionRow, image_column: str) -> dict[str, Any]:
    x, y, z = row.lps_mm
    return {
        "lesion": row.lesion,
        image_column: row.image,
        "coordX": repr(x),
        "coordY": repr(y),
        "coordZ": repr(z),
        "label": row.label,
        "split": row.split,
        "patient": row.patient,
        "diameter": repr(row.diameter_mm) if row.diameter_mm else "",
        "time": "" if row.time is None else repr(row.time),
        "event": "" if row.event is None else int(row.event),
        **row.others,
    }
