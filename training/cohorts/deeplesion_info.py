"""DL_info.csv of DeepLesion: where each lesion is, right and as the published tables have it."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from fmcib_module.core.domain import Point
from fmcib_module.core.errors import InputError

Point2 = tuple[float, float]

LESION_TYPES: Final = {
    1: "bone",
    2: "abdomen",
    3: "mediastinum",
    4: "liver",
    5: "lung",
    6: "kidney",
    7: "soft tissue",
    8: "pelvis",
}
"""Coarse_lesion_type; -1 is unknown (Yan et al. 2018, doi:10.1117/1.JMI.5.3.036501)."""


@dataclass(frozen=True, slots=True)
class DeepLesionRow:
    """A row of DL_info.csv.

    Attributes:
        number: Of the row, from 0, as the published tables number it.
        scan: patient_study_series, the name of the folder of its slices.
        key_slice: Number of the slice that the lesion was measured on; slices are numbered from 1, head to feet.
        slice_range: First and last slice of its sub-volume.
        spacing_mm: Between columns, rows, slices.
        diameters_mm: Long and short RECIST diameter.
        long_axis: Ends of the long diameter, (column, row) of the key slice.
        short_axis: Ends of the short diameter.
        lesion_type: A key of `LESION_TYPES`, or -1.
        official_split: 1 train (types unknown), 2 validation, 3 test; by patient.
        noisy: The measurement is doubtful, the data set's makers say.
        sex: F or M.
        age: Years; empty where unknown.
    """

    number: int
    scan: str
    key_slice: int
    slice_range: tuple[int, int]
    spacing_mm: Point
    diameters_mm: Point2
    long_axis: tuple[Point2, Point2]
    short_axis: tuple[Point2, Point2]
    lesion_type: int
    official_split: int
    noisy: bool
    sex: str
    age: str

    @property
    def patient(self) -> str:
        """The data set's number of the patient."""
        return self.scan.partition("_")[0]

    @property
    def has_place(self) -> bool:
        """Whether its slice is one of its sub-volume's and the spacing is positive."""
        return self.slice_range[0] <= self.key_slice <= self.slice_range[1] and min(self.spacing_mm) > 0

    @property
    def volume_name(self) -> str:
        """File of its sub-volume, as the published tables name it."""
        first, last = self.slice_range
        return f"{self.scan}_{first:03d}-{last:03d}.nii.gz"

    @property
    def crossing(self) -> Point2 | None:
        """Where the two diameters cross, (column, row); None where they do not."""
        return _crossing(self.long_axis, self.short_axis)

    @property
    def midpoint(self) -> Point2:
        """Middle of the long diameter, (column, row)."""
        (x1, y1), (x2, y2) = self.long_axis
        return (x1 + x2) / 2, (y1 + y2) / 2


def read_dl_info(path: Path) -> list[DeepLesionRow]:
    """Read DL_info.csv.

    Raises:
        InputError: It cannot be read, or a row is not as in the data set; the message names the row.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            records = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"it cannot be read: {type(error).__name__}", path.name, "give DL_info.csv") from error
    rows = []
    for number, record in enumerate(records):
        try:
            rows.append(_row(number, record))
        except (KeyError, ValueError, TypeError) as error:
            where = f"{path.name}, row {number + 1} below the header"
            raise InputError(f"not a row of DeepLesion: {error!r}", where, "give DL_info.csv as published") from error
    return rows


def seed_lps_mm(row: DeepLesionRow, place: Point2) -> Point:
    """Where a point of the key slice is in the row's sub-volume (see deeplesion_volumes.py), LPS mm.

    Args:
        row: Of the lesion.
        place: (column, row) in pixels; pixel centres are whole numbers.
    """
    column, line = place
    dx, dy, dz = row.spacing_mm
    return column * dx, line * dy, -(row.key_slice - row.slice_range[0]) * dz


def published_seed_lps_mm(row: DeepLesionRow) -> Point | None:
    """The seed of the published tables; None where the diameters do not cross.

    It differs from `seed_lps_mm` in three ways: column and row are truncated to whole pixels; they are given as the
    first and second index of a volume whose first axis is the rows, so that x and y change places; and slices are
    counted back from the last one, starting at 1, in a volume that starts at its first. A lesion is therefore at the
    mirrored slice, plus one. The published training loader uses the first two indices on a reoriented volume, which
    undoes the exchange of x and y, and nothing undoes the mirror.

    References:
        foundation-cancer-image-biomarker, data/preprocessing/deeplesion: process_annotations.py (centroid),
        process_deeplesion.py (affine), format_annotations.py (index to LPS); spacings are float32 in NIfTI.
    """
    if row.crossing is None:
        return None
    column, line = (int(value) for value in row.crossing)
    dx, dy, dz = (float(np.float32(value)) for value in row.spacing_mm)
    return line * dy, column * dx, -published_slice_index(row) * dz


def published_slice_index(row: DeepLesionRow) -> int:
    """The third index of the published tables' centroid."""
    return row.slice_range[1] - row.key_slice + 1


def _row(number: int, record: Mapping[str, str]) -> DeepLesionRow:
    ends = _numbers(record["Measurement_coordinates"], 8)
    spacing = _numbers(record["Spacing_mm_px_"], 3)
    pixels = _numbers(record["Lesion_diameters_Pixel_"], 2)
    first, last = (int(value) for value in _numbers(record["Slice_range"], 2))
    row = DeepLesionRow(
        number=number,
        scan=record["File_name"].rpartition("_")[0],
        key_slice=int(record["Key_slice_index"]),
        slice_range=(first, last),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        diameters_mm=(pixels[0] * spacing[0], pixels[1] * spacing[1]),
        long_axis=((ends[0], ends[1]), (ends[2], ends[3])),
        short_axis=((ends[4], ends[5]), (ends[6], ends[7])),
        lesion_type=int(record["Coarse_lesion_type"]),
        official_split=int(record["Train_Val_Test"]),
        noisy=record["Possibly_noisy"].strip() == "1",
        sex=record["Patient_gender"],
        age=record["Patient_age"],
    )
    if row.official_split not in (1, 2, 3):
        msg = f"Train_Val_Test is {row.official_split}, expected 1, 2 or 3"
        raise ValueError(msg)
    return row


def _numbers(text: str, n: int) -> list[float]:
    values = [float(item) for item in text.split(",")]
    if len(values) != n or not np.all(np.isfinite(values)):
        msg = f"expected {n} numbers, found {text!r}"
        raise ValueError(msg)
    return values


def _crossing(first: tuple[Point2, Point2], second: tuple[Point2, Point2]) -> Point2 | None:
    """Where two segments meet, ends included; None where they do not, or lie on one line."""
    (x1, y1), (x2, y2) = first
    (x3, y3), (x4, y4) = second
    ux, uy, vx, vy = x2 - x1, y2 - y1, x4 - x3, y4 - y3
    across = ux * vy - uy * vx
    if across == 0:
        return None
    along_first = ((x3 - x1) * vy - (y3 - y1) * vx) / across
    along_second = ((x3 - x1) * uy - (y3 - y1) * ux) / across
    if not (0 <= along_first <= 1 and 0 <= along_second <= 1):
        return None
    return x1 + along_first * ux, y1 + along_first * uy
