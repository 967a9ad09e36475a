"""A small folder as DeepLesion's, and the verb that reads it."""

import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.training.cohorts.dl_info import info_row, write_info
from training.cohorts.cohort import cohort

COLUMN, ROW = 14.0, 20.0
"""Where the diameters of `info_row` cross."""

SHAPE = (32, 48)
"""Rows and columns of the phantom's slices."""


def write_slices(folder: Path, scan: str, numbers: range, bright: int, *, hu: int = 900) -> None:
    """Air with one bright pixel where the diameters cross, on slice `bright`; all slices differ."""
    (folder / scan).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        voxels = np.full(SHAPE, -1000 + number, dtype=np.int32)
        if number == bright:
            voxels[int(ROW), int(COLUMN)] = hu
        Image.fromarray((voxels + 32768).astype(np.uint16)).save(folder / scan / f"{number:03d}.png")


def write_phantom(folder: Path) -> None:
    """Eight patients with one lesion each on the third slice of nine: two for pretraining, two training, four tests."""
    rows = []
    for patient, split in enumerate((1, 1, 2, 2, 3, 3, 3, 3), start=1):
        scan = f"{patient:06d}_01_02"
        spacing = (2.0, 2.0, 3.0)
        kind = -1 if split == 1 else 1 + patient % 2
        rows.append(info_row(scan, key_slice=13, slice_range=(11, 19), spacing=spacing, split=split, lesion_type=kind))
        write_slices(folder / "Images_png", scan, range(11, 20), bright=13)
    write_info(folder / "DL_info.csv", rows)


def volumes_in(folder: Path) -> list[Path]:
    """The sub-volumes that were written."""
    return sorted(path for path in (folder / "out" / "volumes").iterdir() if not path.name.startswith("."))


def run(folder: Path, **settings: object) -> dict[str, Any]:
    """The verb, with its record."""
    values = {"kind": "deeplesion", "info": "DL_info.csv", "output": "out", **settings}
    (folder / "cohort.yml").write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
    with chdir(folder):
        return cohort(Path("cohort.yml"))
