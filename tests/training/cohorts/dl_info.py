"""Rows of DL_info.csv, made up or rebuilt from the published tables."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

INFO_COLUMNS: Final = (
    "File_name", "Patient_index", "Study_index", "Series_ID", "Key_slice_index", "Measurement_coordinates",
    "Bounding_boxes", "Lesion_diameters_Pixel_", "Normalized_lesion_location", "Coarse_lesion_type", "Possibly_noisy",
    "Slice_range", "Spacing_mm_px_", "Image_size", "DICOM_windows", "Patient_gender", "Patient_age", "Train_Val_Test",
)  # fmt: skip
"""Of DL_info.csv."""


def write_info(path: Path, records: Sequence[Mapping[str, str]]) -> None:
    """Write DL_info.csv."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, INFO_COLUMNS)
        writer.writeheader()
        writer.writerows(records)


def rebuild_info(records: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """Rows as DL_info.csv has them, from rows of the published tables.

    What the tables do not hold is made up so that it fits: the diameters are drawn through the published crossing, with
    their published lengths, at right angles, in a direction of their own. Numbers that are absent become lesions that
    are too thick, so that row numbers stay.
    """
    by_number = {int(record["Unnamed: 0"]): record for record in records}
    thick = info_row("000000_01_01", key_slice=5, slice_range=(1, 9), spacing=(0.5, 0.5, 5.0), split=1)
    return [_rebuilt(by_number[n]) if n in by_number else thick for n in range(max(by_number) + 1)]


def info_row(
    scan: str,
    *,
    key_slice: int,
    slice_range: tuple[int, int],
    spacing: tuple[float, float, float],
    split: int,
    ends: Sequence[float] = (10.0, 20.0, 18.0, 20.0, 14.0, 17.0, 14.0, 23.0),
    lesion_type: int = -1,
) -> dict[str, str]:
    """One row; the default diameters are 8 and 6 pixels and cross at (14, 20)."""
    patient, study, series = (str(int(part)) for part in scan.split("_"))
    lengths = math.dist(ends[0:2], ends[2:4]), math.dist(ends[4:6], ends[6:8])
    values = (
        f"{scan}_{key_slice:03d}.png", patient, study, series, str(key_slice), ", ".join(map(repr, ends)),
        "5, 12, 23, 28", ", ".join(map(repr, lengths)), "0.5, 0.5, 0.5", str(lesion_type), "0",
        f"{slice_range[0]}, {slice_range[1]}", ", ".join(map(repr, spacing)), "32, 48", "-175, 275", "F", "62",
        str(split),
    )  # fmt: skip
    return dict(zip(INFO_COLUMNS, values, strict=True))


def _rebuilt(record: Mapping[str, str]) -> dict[str, str]:
    scan, _, ranges = record["Volume_fn"].removesuffix(".nii.gz").rpartition("_")
    first, last = (int(value) for value in ranges.split("-"))
    x, y = float(record["centroid_x"]), float(record["centroid_y"])
    lengths = [float(record[f"lesion_diameters_{a}"]) / float(record[f"spacing_{a}"]) for a in "xy"]
    angle = 0.1 + (int(record["Unnamed: 0"]) % 31) / 10
    ends: list[float] = []
    for length, turn in zip(lengths, (angle, angle + math.pi / 2), strict=True):
        dx, dy = math.cos(turn) * length / 2, math.sin(turn) * length / 2
        ends += [x - dx, y - dy, x + dx, y + dy]
    known = int(record["Coarse_lesion_type"])
    row = info_row(
        scan,
        key_slice=last + 1 - int(float(record["centroid_z"])),
        slice_range=(first, last),
        spacing=(float(record["spacing_x"]), float(record["spacing_y"]), float(record["spacing_z"])),
        split=int(record["Train_Val_Test"]),
        ends=ends,
        lesion_type=known + 1 if known >= 0 else known,
    )
    same = {name: record[name] for name in ("Possibly_noisy", "Patient_gender", "Patient_age", "DICOM_windows")}
    return (
        row | {"Lesion_diameters_Pixel_": ", ".join(map(repr, lengths)), "Bounding_boxes": record["bbox"][1:-1]} | same
    )
