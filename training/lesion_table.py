"""The lesion table: one row per lesion, which image it is in and where; read from CSV or Parquet, checked, hashed."""

import csv
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from fmcib_module.adapters.point_rows import COORDINATES
from fmcib_module.core.domain import Point
from fmcib_module.core.errors import InputError

IMAGE_COLUMNS: Final = ("image_path", "series_uid", "SeriesInstanceUID")
"""Columns that name the image; the first is the published tables'."""

SPLITS: Final = ("train", "val", "test")

KNOWN_COLUMNS: Final = (
    *IMAGE_COLUMNS, *COORDINATES, "label", "split", "patient", "diameter", "lesion", "time", "event",
)  # fmt: skip
"""Columns that mean something here; others are passed through."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LesionRow:
    """A lesion.

    Attributes:
        image: Path of an image file or DICOM folder, as the table has it, or a SeriesInstanceUID.
        lps_mm: Its centre, LPS millimetres.
        label: Class, for the kNN that watches a run; "" where unknown.
        split: train, val or test; "" where the table does not say (`patient_splits`).
        patient: Whose lesion it is; the image where the table does not say.
        diameter_mm: 0 where unknown.
        lesion: Its name, which no other row of the table has; the row's number, from 1, where the table does not say.
        time: Years from the scan to the event or to the last time the patient was seen without it; None where unknown.
        event: Whether `time` ends with the event; None where unknown.
        others: Columns that mean nothing here, as the table has them.
    """

    image: str
    lps_mm: Point
    label: str = ""
    split: str = ""
    patient: str = ""
    diameter_mm: float = 0.0
    lesion: str = ""
    time: float | None = None
    event: bool | None = None
    others: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class LesionTable:
    """Checked rows, in the table's order."""

    rows: tuple[LesionRow, ...]

    @property
    def sha256(self) -> str:
        """Of the rows: the same for the same lesions as CSV or Parquet, whatever their names and other columns."""
        plain = [_hashed(row) for row in self.rows]
        return hashlib.sha256(json.dumps(plain).encode()).hexdigest()

    @property
    def shared_patients(self) -> frozenset[str]:
        """Patients with lesions in more than one split."""
        splits: dict[str, set[str]] = {}
        for row in self.rows:
            splits.setdefault(row.patient, set()).add(row.split)
        return frozenset(patient for patient, found in splits.items() if len(found) > 1)


def read_lesion_table(path: Path, *, shared_patients: bool = False) -> LesionTable:
    """Read a lesion table.

    Columns: `image_path` (relative to the images' folder) or `series_uid`; `coordX`, `coordY`, `coordZ` (LPS mm);
    optional `label`, `split`, `patient`, `diameter` (mm), `lesion`, `time` (years) and `event` (0 or 1). Others are
    passed through, so the published tables are read as they are.

    Args:
        path: CSV or Parquet.
        shared_patients: Take a table whose splits share patients (as published ones do); `LesionTable.shared_patients`
            says which. Else it is refused.

    Raises:
        InputError: The file cannot be read, a column is missing, or a value is wrong; the message names the row
            (1 is the first below the header) and the column.
    """
    records = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    if not records:
        raise InputError("the lesion table has no rows", path.name, "give one row per lesion")
    column = _image_column(records[0], path.name)
    rows = tuple(_row(record, column, n, path.name) for n, record in enumerate(records, start=1))
    _check_names(rows, path.name)
    if not shared_patients:
        _check_patients(rows, path.name)
    return LesionTable(rows)


def _hashed(row: LesionRow) -> list[Any]:
    """What a table's hash is of; outcomes only where there are any, so that tables without them keep their hash."""
    plain = [row.image, [repr(v) for v in row.lps_mm], row.label, row.split, row.patient, repr(row.diameter_mm)]
    return plain if row.time is None and row.event is None else [*plain, repr(row.time), repr(row.event)]


def patient_splits(given: Mapping[str, str], *, val: float, test: float, seed: int) -> dict[str, str]:
    """Draw a split for every patient that has none, so that all lesions of a patient go the same way.

    Patients are ranked by a hash of seed and name: the first `test` share is test, the next `val` share val (each
    rounded to whole patients), the rest train, so the result depends on no order.

    Args:
        given: Patient -> split, "" where it is to be drawn.
        val: Share of those patients, 0..1.
        test: Likewise.
        seed: Another seed draws others.
    """
    free = sorted((name for name, split in given.items() if not split), key=lambda name: _rank(seed, name))
    n_test, n_val = round(test * len(free)), round(val * len(free))
    drawn = {name: "test" if n < n_test else "val" if n < n_test + n_val else "train" for n, name in enumerate(free)}
    return {name: split or drawn[name] for name, split in given.items()}


def _rank(seed: int, patient: str) -> str:
    return hashlib.sha256(f"{seed}/{patient}".encode()).hexdigest()


def _read_csv(path: Path) -> list[Mapping[str, Any]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"the lesion table cannot be read: {error}", path.name, "give a CSV file in UTF-8") from error


def _read_parquet(path: Path) -> list[Mapping[str, Any]]:
    import pyarrow as pa  # 0.1 s that CSV tables do not pay
    import pyarrow.parquet as pq

    try:
        rows: list[Mapping[str, Any]] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        reason = type(error).__name__
        raise InputError(f"the lesion table cannot be read: {reason}", path.name, "write the Parquet again") from error
    return rows


def _image_column(record: Mapping[str, Any], where: str) -> str:
    found = [name for name in IMAGE_COLUMNS if name in record]
    missing = [name for name in COORDINATES if name not in record]
    if len(found) != 1:
        these = ", ".join(found) if found else "none"
        raise InputError(f"expected one image column, found {these}", where, f"name one of {', '.join(IMAGE_COLUMNS)}")
    if missing:
        raise InputError(f"column(s) {', '.join(missing)} are missing", where, "give each lesion's centre in LPS mm")
    return found[0]


def _row(record: Mapping[str, Any], image_column: str, number: int, table: str) -> LesionRow:
    where = f"{table}, row {number}"
    image = _text(record.get(image_column))
    if not image:
        _refuse(image_column, record.get(image_column), "empty", where)
    x, y, z = (_value(record, name, _finite, where) for name in COORDINATES)
    split = _value(record, "split", _split, where)
    return LesionRow(
        image=image,
        lps_mm=(x, y, z),
        label=_text(record.get("label")),
        split=split,
        patient=_text(record.get("patient")) or image,
        diameter_mm=_value(record, "diameter", _length, where) or 0.0,
        lesion=_name(record.get("lesion")) or str(number),
        time=_value(record, "time", _years, where),
        event=_value(record, "event", _flag, where),
        others={name: value for name, value in record.items() if name not in KNOWN_COLUMNS},
    )


def _value(record: Mapping[str, Any], column: str, convert: Callable[[str], T], where: str) -> T:
    text = _text(record.get(column))
    try:
        return convert(text)
    except ValueError as error:
        _refuse(column, text, str(error), where)


def _refuse(column: str, value: object, problem: str, where: str) -> NoReturn:
    raise InputError(f"{column} is {value!r}: {problem}", f"{where}, column {column}", "correct the value")


def _text(value: object) -> str:
    """A cell as text; empty for what pandas and Parquet write where there is nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).strip()


def _name(value: object) -> str:
    """A lesion's name as text; whole numbers without a point, which pandas adds where a cell of the column is empty."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else _text(value)


def _finite(text: str) -> float:
    number = float(text) if text else math.nan
    if not math.isfinite(number):
        msg = "expected a finite number"
        raise ValueError(msg)
    return number


def _length(text: str) -> float | None:
    return _not_negative(text, "millimetres")


def _years(text: str) -> float | None:
    return _not_negative(text, "years")


def _not_negative(text: str, unit: str) -> float | None:
    number = _finite(text) if text else None
    if number is not None and number < 0:
        msg = f"expected {unit}, 0 or more"
        raise ValueError(msg)
    return number


def _flag(text: str) -> bool | None:
    flags = {"": None, "0": False, "1": True, "0.0": False, "1.0": True, "False": False, "True": True}
    if text not in flags:
        msg = "expected 0, 1 or nothing"
        raise ValueError(msg)
    return flags[text]


def _split(text: str) -> str:
    if text and text not in SPLITS:
        msg = f"expected {', '.join(SPLITS)} or nothing"
        raise ValueError(msg)
    return text


def _check_names(rows: Sequence[LesionRow], where: str) -> None:
    first: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        earlier = first.setdefault(row.lesion, number)
        if earlier != number:
            raise InputError(
                f"rows {earlier} and {number} have the same lesion {row.lesion!r}",
                f"{where}, row {number}, column lesion",
                "give every lesion a name of its own",
            )


def _check_patients(rows: Sequence[LesionRow], where: str) -> None:
    first: dict[str, tuple[int, str]] = {}
    for number, row in enumerate(rows, start=1):
        earlier, split = first.setdefault(row.patient, (number, row.split))
        if split != row.split:
            raise InputError(
                f"one patient is in two splits: row {earlier} has {split!r}, row {number} has {row.split!r}",
                f"{where}, row {number}, column split",
                "give all lesions of a patient the same split, or set shared_patients if the table is meant so",
            )
