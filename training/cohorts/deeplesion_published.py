"""How much of DeepLesion's published tables is reproduced, row by row."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from fmcib_module.core.domain import Point
from fmcib_module.core.errors import InputError
from training.cohorts.deeplesion_info import (
    DeepLesionRow,
    published_seed_lps_mm,
    published_slice_index,
)

TABLES: Final = {"pretrain.csv": "", "task1_train.csv": "train", "task1_val.csv": "val", "task1_test.csv": "test"}
"""Published table -> split of task 1."""

SAME_MM: Final = 1e-6
"""Seeds and spacings are the same below this."""


def read_published(folder: Path) -> dict[int, dict[str, str]]:
    """Rows of the published tables by their number in DL_info.csv; `table` is added.

    Raises:
        InputError: A table is absent or has no such column.
    """
    found: dict[int, dict[str, str]] = {}
    for name in TABLES:
        try:
            with (folder / name).open(newline="", encoding="utf-8-sig") as file:
                found |= {int(row["Unnamed: 0"]): {**row, "table": name} for row in csv.DictReader(file)}
        except (OSError, KeyError, ValueError) as error:
            reason = type(error).__name__
            raise InputError(f"a published table cannot be read: {reason}", name, "give the published CSV") from error
    return found


def compare_with_published(folder: Path, rows: Sequence[DeepLesionRow], split_of: Mapping[int, str]) -> dict[str, Any]:
    """Shares of the published rows that come out the same.

    Args:
        folder: Of the published tables.
        rows: The lesions that are used.
        split_of: Row number -> split of task 1.

    Returns:
        n_published, n_ours, n_both; of those in both the shares with the same `seed` (below `SAME_MM`), the very same
        seed, the same spacing, diameters, image, label and split; and how far published seeds lie from the lesion:
        `slices_off` (quartiles, mm) and the share that is at most one slice off.
    """
    published = read_published(folder)
    ours = {row.number: row for row in rows}
    both = [(ours[number], published[number]) for number in sorted(ours.keys() & published.keys())]
    if not both:
        raise InputError("no lesion is in the published tables", folder.name, "give the tables of this data set")
    checks: dict[str, list[bool]] = {}
    for row, record in both:
        for name, same in _same(row, record, split_of.get(row.number, "")).items():
            checks.setdefault(name, []).append(same)
    off = [_slices_off(row) for row, _ in both]
    off_mm = [abs(n) * row.spacing_mm[2] for n, (row, _) in zip(off, both, strict=True)]
    return {
        "n_published": len(published),
        "n_ours": len(ours),
        "n_both": len(both),
        "shares_the_same": {name: float(np.mean(values)) for name, values in checks.items()},
        "published_seeds_along_z": {
            "off_mm_quartiles": [float(q) for q in np.quantile(off_mm, (0.25, 0.5, 0.75))],
            "share_within_one_slice": float(np.mean(np.abs(off) <= 1)),
            "share_outside_patch": float(np.mean(np.array(off_mm) > 25)),
        },
    }


def _same(row: DeepLesionRow, record: Mapping[str, str], split: str) -> dict[str, bool]:
    seed = published_seed_lps_mm(row)
    expected: Point = (float(record["coordX"]), float(record["coordY"]), float(record["coordZ"]))
    spacing = tuple(float(record[f"spacing_{axis}"]) for axis in "xyz")
    diameters = (float(record["lesion_diameters_x"]), float(record["lesion_diameters_y"]))
    known = int(record["Coarse_lesion_type"])
    return {
        "seed": seed is not None and math.dist(seed, expected) < SAME_MM,
        "seed_to_the_last_bit": seed == expected,
        "spacing": row.spacing_mm == spacing,
        "diameters": math.dist(row.diameters_mm, diameters) < SAME_MM,
        "image": row.volume_name == record["Volume_fn"],
        "label": row.lesion_type == (known + 1 if known >= 0 else known),
        "split": split == TABLES[record["table"]],
    }


def _slices_off(row: DeepLesionRow) -> int:
    return published_slice_index(row) - (row.key_slice - row.slice_range[0])
