"""A manifest file -> items.

CSV or Parquet with the columns `source` (a path, s3:// or gs:// URL; several separated by spaces or semicolons) and/or
`series_uid` (looked up in the Imaging Data Commons where there is no source), optionally `rois` (further sources:
RTSTRUCT, SEG, reports, seed tables) and `coordX, coordY, coordZ` (LPS mm) with `label`; or an s5cmd manifest as
idc-index and IDC's portal write it; or plain text with one SeriesInstanceUID per line.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from fmcib_module.adapters.point_rows import COORDINATES, text_triple
from fmcib_module.adapters.seed_files import LABEL_KEYS
from fmcib_module.batch.idc import group_manifest, manifest_urls, resolve_series
from fmcib_module.batch.items import Item, SeedRow, merge_rows
from fmcib_module.core.errors import ConfigError

SOURCE_KEYS: Final = ("source", "path", "url")
ROI_KEYS: Final = ("rois", "rtstruct", "seg", "sr", "gsps")
SERIES_KEYS: Final = ("series_uid", "SeriesInstanceUID")

_UID = re.compile(r"[0-9]+(?:\.[0-9]+)+")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")


def read_manifest(path: Path, *, indices: Path | None = None) -> list[Item]:
    """Read a manifest; what it lists twice is there once. Locations stay as they are written.

    Args:
        path: The manifest.
        indices: Folder with indices of the Imaging Data Commons, see `idc.resolve_series`.

    Raises:
        ConfigError: It is absent, not a manifest, a row says nothing usable, or a UID cannot be looked up.
    """
    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            return _from_rows(_parquet_rows(path), path, indices)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # Arrow's errors are ValueErrors
        raise ConfigError(
            f"the manifest cannot be read ({type(error).__name__})", path.name, "give CSV, Parquet or an s5cmd manifest"
        ) from error
    if urls := manifest_urls(text):
        return group_manifest(list(dict.fromkeys(urls)), indices)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if lines and all(_UID.fullmatch(line) for line in lines):
        return _from_rows([{"series_uid": line} for line in lines], path, indices)
    return _from_rows(list(csv.DictReader(io.StringIO(text))), path, indices)


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def _from_rows(rows: Sequence[Mapping[str, Any]], path: Path, indices: Path | None) -> list[Item]:
    known = {*SOURCE_KEYS, *SERIES_KEYS}
    if not rows or not known & set(rows[0]):
        what = f"no row with a column named {', '.join(SOURCE_KEYS)} or {', '.join(SERIES_KEYS)}"
        raise ConfigError(what, path.name, "see docs/cloud.md for what a manifest holds")
    items = [_item(row, number, path) for number, row in enumerate(rows, start=2)]
    unresolved = list(dict.fromkeys(item.series_uid for item in items if not item.sources))
    if unresolved:
        found = resolve_series(unresolved, indices)
        items = [item if item.sources else replace(item, sources=found[item.series_uid]) for item in items]
    return merge_rows(items)


def _item(row: Mapping[str, Any], number: int, path: Path) -> Item:
    cells = {key: str(value).strip() for key, value in row.items() if key and value is not None}
    where = f"{path.name}, row {number}"
    series_uid = next((cells[key] for key in SERIES_KEYS if cells.get(key)), "")
    if series_uid and not _UID.fullmatch(series_uid):
        raise ConfigError("the SeriesInstanceUID is not a UID", where, "write digits and dots")
    sources = [location for key in (*SOURCE_KEYS, *ROI_KEYS) for location in _locations(cells.get(key, ""))]
    if not any(cells.get(key) for key in SOURCE_KEYS) and (sources or not series_uid):
        raise ConfigError("the row names neither a source nor a series", where, "fill `source` or `series_uid`")
    return Item(tuple(sources), _seeds(cells, where), series_uid)


def _locations(cell: str) -> list[str]:
    """URLs are separated by spaces or semicolons; paths, which may hold spaces, by semicolons alone."""
    parts = re.split(r"[;\s]+", cell) if _SCHEME.match(cell) else cell.split(";")
    return [part.strip() for part in parts if part.strip()]


def _seeds(cells: Mapping[str, str], where: str) -> tuple[SeedRow, ...]:
    values = [cells.get(name, "") for name in COORDINATES]
    if not any(values):
        return ()
    try:
        point = text_triple(values)
    except ValueError as error:
        raise ConfigError(
            f"the seed point is not usable: {error}", where, "give three finite numbers, LPS mm"
        ) from error
    return (SeedRow(next((cells[key] for key in LABEL_KEYS if cells.get(key)), ""), point),)
