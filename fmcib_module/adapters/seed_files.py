"""Seed tables (JSON, CSV, 3D Slicer markups) -> seeds."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from fmcib_module.adapters.image_files import file_stem
from fmcib_module.adapters.point_rows import COORDINATES, PointRow, json_point, text_triple
from fmcib_module.adapters.roi_candidates import RoiCandidate
from fmcib_module.adapters.slicer_markups import fcsv_rows, markup_rows
from fmcib_module.core.conventions import SeedKind
from fmcib_module.core.domain import RoiSource, Seed, Series
from fmcib_module.core.errors import InputError, SeedNotFoundError

SUFFIXES = (".json", ".csv", ".tsv", ".fcsv")

MAX_BYTES = 16 * 2**20
"""A larger file is not a seed table."""

LABEL_KEYS = ("Mhub ROI", "label", "roi", "roi_name")
SERIES_KEYS = ("series_uid", "SeriesInstanceUID", "series_instance_uid", "seriesuid", "image_path")
"""Names of the column that says which series a row is for; `seriesuid` is LUNA16's."""


def sniff(path: Path) -> tuple[str, ...] | None:
    """Whether a file is a seed table, and the series that it names.

    Args:
        path: Any file; it is opened only if its suffix is one of `SUFFIXES` and it is not larger than `MAX_BYTES`.

    Returns:
        None if it is not a seed table; else the distinct SeriesInstanceUIDs (or image paths) named in its rows, in
        order; empty where it names none. `names_series` tells whether one means a given series.
    """
    try:
        rows = _read_rows(path)
    except (OSError, ValueError, RecursionError, csv.Error):
        return None
    if rows is None:
        return None
    return tuple(dict.fromkeys(row.series_name for row in rows if row.series_name))


def names_series(name: str, series: Series) -> bool:
    """Whether a row's series name means this series.

    Args:
        name: SeriesInstanceUID, or a path or file name of the image.
        series: It is meant if `name` is its uid, has a folder or file called like its uid, or is its image's file name.
    """
    parts = PurePosixPath(name.strip().replace("\\", "/")).parts
    stems = {file_stem(Path(part)) for part in parts} | set(parts)
    if series.image_path is not None and parts and parts[-1] == series.image_path.name:
        return True
    return series.uid in stems


def list_points(source: RoiSource, series: Series) -> list[RoiCandidate]:
    """The points of a seed table that are for this series, in file order.

    Raises:
        InputError: The file cannot be read, or is not a seed table.
        SeedNotFoundError: It has no rows.
    """
    name = PurePosixPath(source.uid).name or source.path.name
    try:
        rows = _read_rows(source.path)
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise InputError(f"the seed table cannot be read ({type(error).__name__})", name, "write it again") from error
    if rows is None:
        fix = "give coordX, coordY, coordZ as numbers in LPS mm, or a 3D Slicer markups file"
        raise InputError("The input file does not adhere to the expected schema", name, fix)
    if not rows:
        raise SeedNotFoundError("the seed table holds no point", name, "add one, or take the file away")
    candidates = []
    for number, row in enumerate(rows, start=1):
        if not row.series_name or names_series(row.series_name, series):
            label = row.label or f"point {number}"
            make_seeds = partial(_make_seeds, row, source, label, name)
            candidates.append(RoiCandidate(label, None, source, make_seeds, is_named=bool(row.label)))
    return candidates


def _make_seeds(row: PointRow, source: RoiSource, label: str, name: str) -> tuple[Seed, ...]:
    if row.lps_mm is None:
        raise SeedNotFoundError(row.problem, f"{name}, {row.place}", "give three finite numbers, LPS mm")
    return (Seed(row.lps_mm, label=label, source_uid=source.uid, kind=SeedKind.POINT),)


def _read_rows(path: Path) -> list[PointRow] | None:
    """All rows of a seed table, or None if it is none.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not text, or not JSON.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES or path.stat().st_size > MAX_BYTES:
        return None
    text = _decode(path.read_bytes())
    if suffix == ".fcsv":
        return list(fcsv_rows(text))
    if suffix == ".json":
        return _json_rows(json.loads(text), path)
    rows = _csv_rows(text)
    return None if rows is None else list(rows)


def _decode(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")  # what spreadsheets call Unicode text
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _json_rows(document: Any, path: Path) -> list[PointRow] | None:
    if isinstance(document, dict) and isinstance(document.get("markups"), list):
        return list(markup_rows(document, path.name.removesuffix(".json").removesuffix(".mrk")))
    if _is_point(document):
        return [_json_row(document, "object")]
    if isinstance(document, list) and any(_is_point(item) for item in document):
        return [_json_row(item, f"item {n}") for n, item in enumerate(document, start=1)]
    return None


def _is_point(item: Any) -> bool:
    return isinstance(item, dict) and any(name in item for name in COORDINATES)


def _json_row(item: Any, place: str) -> PointRow:
    if not isinstance(item, dict):
        return PointRow(place, problem=f"{item!r} is not of type 'object'")
    label, series_name = _first(item, LABEL_KEYS), _first(item, SERIES_KEYS)
    try:
        return PointRow(place, label, series_name, lps_mm=json_point(item))
    except ValueError as error:
        return PointRow(place, label, series_name, problem=str(error))


def _csv_rows(text: str) -> Iterable[PointRow] | None:
    """Rows of a table whose header has coordX, coordY and coordZ; None for other tables.

    Our own tables of features hold the coordinates too, but they are results, not seeds.
    """
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    names = [name.strip().lower() for name in next(csv.reader([header.strip("\r")], delimiter=delimiter), [])]
    if not {name.lower() for name in COORDINATES} <= set(names) or "feature_0" in names:
        return None
    return _table_rows(csv.reader(io.StringIO(text), delimiter=delimiter), names, has_decimal_comma=delimiter != ",")


def _table_rows(table: Iterator[list[str]], names: list[str], *, has_decimal_comma: bool) -> Iterator[PointRow]:
    next(table)
    for number, cells in enumerate(table, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        row = dict(zip(names, (cell.strip() for cell in cells), strict=False))
        label = _first(row, tuple(key.lower() for key in LABEL_KEYS))
        series_name = _first(row, tuple(key.lower() for key in SERIES_KEYS))
        values = [row.get(name.lower(), "") for name in COORDINATES]
        try:
            point = text_triple([value.replace(",", ".") for value in values] if has_decimal_comma else values)
            yield PointRow(f"row {number}", label, series_name, lps_mm=point)
        except ValueError as error:
            yield PointRow(f"row {number}", label, series_name, problem=str(error))


def _first(row: dict[str, Any], keys: tuple[str, ...]) -> str:
    """The first key's value that says something, as text."""
    for key in keys:
        value = row.get(key)
        if value is not None and str(value).strip():
            return str(value)
    return ""
