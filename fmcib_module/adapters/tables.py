"""Tables of features: one CSV per series, and the cohort as CSV and Parquet."""

import csv
from collections.abc import Iterable, Sequence
from io import TextIOWrapper
from pathlib import Path
from shutil import copyfileobj
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from fmcib_module.adapters.atomic import PendingFile, replacing, translated_errors
from fmcib_module.core.domain import SeriesReport
from fmcib_module.core.errors import OutputError
from fmcib_module.core.report import SCORE_PREFIX, TEXT_COLUMNS, LesionRow, feature_columns, series_rows

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

ROWS_PER_GROUP = 512
"""Rows held in memory before they are written as one Parquet row group: 8 MB with 4,096 features."""

NUMBER_CELLS = slice(4, 8)
"""Cells of `TEXT_COLUMNS` that are numbers (coordX .. roi_number) and are not quoted."""


def write_series_csv(report: SeriesReport, path: Path) -> None:
    """Write the lesions of one series: UTF-8, comma, "\\n", text always in double quotes.

    Every float32 is printed in the shortest form that reads back as the same float32. Labels stay exactly as they
    are in the source object, also where a spreadsheet would take them for a formula ("=..."): import text as text.

    Raises:
        OutputError: The file cannot be written.
        ValueError: The report has no lesions, so the number of features is unknown.
    """
    rows = series_rows(report)
    if not rows:
        msg = "a report without lesions has no table"
        raise ValueError(msg)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(csv_header(len(rows[0].values), tuple(rows[0].scores)))
        file.writelines(csv_line(row) for row in rows)


def read_series_csv(path: Path) -> list[LesionRow]:
    """Read what `write_series_csv` wrote, exactly.

    Raises:
        OutputError: The file is not one of ours, or is cut short.
    """
    where = f"{path.parent.name}/{path.name}"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file, strict=True)
            score_columns = tuple(name for name in header if name.startswith(SCORE_PREFIX))
            n_features = len(header) - len(TEXT_COLUMNS) - len(score_columns)
            if header != [*feature_columns(n_features), *TEXT_COLUMNS, *score_columns]:
                raise OutputError("columns are not those of this package", where, "run again with --force")
            return [_parse_line(line, n_features, score_columns) for line in lines]
    except (OSError, ValueError, csv.Error) as error:
        reason = type(error).__name__
        raise OutputError(f"the table cannot be read: {reason}", where, "run again with --force") from error


class CohortWriter:
    """Writes OUTPUT/features.csv and OUTPUT/features.parquet (or another stem), series by series, in bounded memory.

    A context manager: both files appear together when the block ends, and neither where it ends with an error.
    Without any lesion nothing is written, since the number of features is then unknown.
    """

    def __init__(self, output: Path, stem: str = "features") -> None:
        """Prepare; files are opened with the first row.

        Raises:
            OutputError: The folder cannot be made.
        """
        self._csv = PendingFile(output / f"{stem}.csv")
        self._parquet = PendingFile(output / f"{stem}.parquet")
        self._csv_file: TextIOWrapper | None = None
        self._parquet_writer: ParquetWriter | None = None
        self._waiting: list[LesionRow] = []
        self._n_features = 0
        self.n_rows = 0

    def add(self, rows: Iterable[LesionRow], table: Path | None = None) -> None:
        """Append rows, from `series_rows` or `read_series_csv`.

        Args:
            rows: Lesions of one series.
            table: Their table, as `write_series_csv` wrote it: its lines are copied instead of made again.

        Raises:
            OutputError: The files cannot be written.
            ValueError: A row has another number of features than the first one.
        """
        with translated_errors(self._csv.path):
            for row in rows:
                if self._csv_file is None:
                    self._open(len(row.values), tuple(row.scores))
                if len(row.values) != self._n_features:
                    msg = f"a row has {len(row.values)} features, the first one has {self._n_features}"
                    raise ValueError(msg)
                if table is None:
                    self._lines.write(csv_line(row))
                self._waiting.append(row)
                self.n_rows += 1
                if len(self._waiting) == ROWS_PER_GROUP:
                    self._write_group()
            if table is not None:
                with table.open(encoding="utf-8", newline="") as file:
                    file.readline()  # the header
                    copyfileobj(file, self._lines)

    @property
    def _lines(self) -> TextIOWrapper:
        assert self._csv_file is not None, "a row comes before its line"
        return self._csv_file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with translated_errors(self._csv.path):
                if kind is None and self._waiting:
                    self._write_group()
                self._close()
            if kind is None and self.n_rows:
                self._csv.commit()
                self._parquet.commit()
        finally:
            self._csv.discard()
            self._parquet.discard()

    def _open(self, n_features: int, score_columns: tuple[str, ...]) -> None:
        from pyarrow.parquet import ParquetWriter  # heavy; `inspect` never writes tables

        self._n_features = n_features
        self._csv_file = self._csv.temporary.open("w", encoding="utf-8", newline="")
        self._csv_file.write(csv_header(n_features, score_columns))
        schema = cohort_schema(n_features, score_columns)
        self._parquet_writer = ParquetWriter(self._parquet.temporary, schema, compression="zstd")

    def _write_group(self) -> None:
        assert self._parquet_writer is not None
        self._parquet_writer.write_batch(_record_batch(self._waiting, self._n_features))
        self._waiting.clear()

    def _close(self) -> None:
        if self._csv_file is not None:
            self._csv_file.close()
        if self._parquet_writer is not None:
            self._parquet_writer.close()


def csv_header(n_features: int, score_columns: Sequence[str] = ()) -> str:
    """The first line of a table; names of heads' columns, which hold names of classes, in quotes."""
    return ",".join([*feature_columns(n_features), *TEXT_COLUMNS, *map(_quoted, score_columns)]) + "\n"


def csv_line(row: LesionRow) -> str:
    """One lesion as a line of a table; text in quotes, so that commas, quotes and line breaks stay inside."""
    numbers = row.values.astype("U32").tolist()  # numpy prints the shortest text that reads back as the same float32
    cells = list(row.cells())
    quoted = [_quoted(cell) for cell in cells]
    quoted[NUMBER_CELLS] = cells[NUMBER_CELLS]
    return ",".join([*numbers, *quoted, *map(repr, row.scores.values())]) + "\n"


def _quoted(cell: str) -> str:
    return f'"{cell.replace(chr(34), chr(34) * 2)}"'


def cohort_schema(n_features: int, score_columns: Sequence[str] = ()) -> "pa.Schema":
    """Parquet schema of the cohort: the tables' columns, with the features as one list column first."""
    import pyarrow as pa

    types = dict.fromkeys(TEXT_COLUMNS, pa.string())
    types |= {"coordX": pa.float64(), "coordY": pa.float64(), "coordZ": pa.float64(), "roi_number": pa.int64()}
    types |= dict.fromkeys(score_columns, pa.float64())
    return pa.schema([("features", pa.list_(pa.float32(), n_features)), *types.items()])


def _record_batch(rows: Sequence[LesionRow], n_features: int) -> "pa.RecordBatch":
    """Rows as Arrow columns, made from buffers: `pa.array` would import pandas, a quarter of a second."""
    import pyarrow as pa

    score_columns = tuple(rows[0].scores)
    schema = cohort_schema(n_features, score_columns)
    values = np.concatenate([row.values for row in rows])
    cells = dict(zip(TEXT_COLUMNS, zip(*(row.cells() for row in rows), strict=True), strict=True))
    columns: dict[str, pa.Array] = {name: _text_column(cells[name]) for name in TEXT_COLUMNS}
    for axis, name in enumerate(("coordX", "coordY", "coordZ")):
        columns[name] = _column(pa.float64(), np.array([row.lps_mm[axis] for row in rows], dtype=np.float64))
    numbers = [row.roi_number for row in rows]
    present = np.array([number is not None for number in numbers])
    columns["roi_number"] = _column(pa.int64(), np.array([number or 0 for number in numbers], dtype=np.int64), present)
    for name in score_columns:
        columns[name] = _column(pa.float64(), np.array([row.scores[name] for row in rows], dtype=np.float64))
    features = pa.Array.from_buffers(
        schema.field("features").type, len(rows), [None], children=[_column(pa.float32(), values)]
    )
    return pa.RecordBatch.from_arrays([features, *(columns[name] for name in schema.names[1:])], schema=schema)


def _column(kind: "pa.DataType", values: NDArray[Any], present: NDArray[np.bool_] | None = None) -> "pa.Array":
    """Numbers; null where not present (validity bitmap, least significant bit first)."""
    import pyarrow as pa

    valid = None if present is None else pa.py_buffer(np.packbits(present, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(np.ascontiguousarray(values))])


def _text_column(texts: Sequence[str]) -> "pa.Array":
    """UTF-8 text: offsets and bytes (Arrow columnar format, variable-size binary layout)."""
    import pyarrow as pa

    encoded = [text.encode() for text in texts]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int32)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def _parse_line(line: list[str], n_features: int, score_columns: Sequence[str]) -> LesionRow:
    cells = dict(zip((*TEXT_COLUMNS, *score_columns), line[n_features:], strict=True))
    return LesionRow(
        roi=cells["Mhub ROI"],
        lps_mm=(float(cells["coordX"]), float(cells["coordY"]), float(cells["coordZ"])),
        image=cells["Image"],
        metadata=cells["MHub Metadata"],
        roi_number=int(cells["roi_number"]) if cells["roi_number"] else None,
        source_uid=cells["source_uid"],
        series_uid=cells["series_uid"],
        study_uid=cells["study_uid"],
        mode=cells["mode"],
        weights=cells["weights"],
        weights_sha256=cells["weights_sha256"],
        flags=tuple(cells["flags"].split(";")) if cells["flags"] else (),
        values=np.array([float(number) for number in line[:n_features]], dtype=np.float32),
        scores={name: float(cells[name]) for name in score_columns},
    )
