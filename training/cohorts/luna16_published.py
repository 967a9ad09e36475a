"""How much of the published LUNA16 tables is reproduced, nodule by nodule."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fmcib_module.core.errors import InputError
from training.cohorts.lidc import ATTRIBUTES
from training.lesion_table import LesionRow

if TYPE_CHECKING:
    from training.cohorts.luna16 import Nodule

ALL: Final = "luna16_annotations.csv"
LABELLED: Final = "luna16_training_annotations.csv"
SPLITS: Final = {"task2_train.csv": "train", "task2_val.csv": "val", "task2_test.csv": "test"}


def compare_with_published(folder: Path, nodules: Sequence["Nodule"], rows: Mapping[int, LesionRow]) -> dict[str, Any]:
    """Shares of the published rows that come out the same, each over all published rows.

    Args:
        folder: Of the published tables.
        nodules: All that three readers marked.
        rows: Number -> row of the task's table.

    Returns:
        `nodules`: of the table of all nodules, the share with the same series, box, centre, every attribute, and all of
        these, in the same place of the order. `labelled`: of the labelled nodules, the share with the same label and
        split, with a seed within half a millimetre and within a thousandth.

    Raises:
        InputError: A published table cannot be read.
    """
    published = _read(folder / ALL)
    same = [_same_nodule(nodule, record) for nodule, record in zip(nodules, published, strict=False)]
    missing = max(len(published) - len(same), 0)
    shares = {name: sum(one[name] for one in same) / len(published) for name in same[0]} if same else {}
    return {
        "n_published": len(published),
        "n_ours": len(nodules),
        "n_missing": missing,
        "nodules": shares,
        "labelled": _labelled(folder, rows),
    }


def _same_nodule(nodule: "Nodule", record: Mapping[str, str]) -> dict[str, bool]:
    box = f"({', '.join(f'slice({first}, {behind}, None)' for first, behind in nodule.box)})"
    found = {
        "series": nodule.series_uid == record["scan"],
        "box": box == record["bbox"],
        "centre": str(list(nodule.centre)) == record["centroid"],
        **{name: nodule.attributes[name] == int(record[name]) for name in ATTRIBUTES},
    }
    return {**found, "all": all(found.values())}


def _labelled(folder: Path, rows: Mapping[int, LesionRow]) -> dict[str, Any]:
    published = _read(folder / LABELLED)
    split_of = {int(record["Unnamed: 0"]): split for name, split in SPLITS.items() for record in _read(folder / name)}
    n = len(published)
    label, split, distances = 0, 0, []
    for record in published:
        number = int(record[""])
        row = rows.get(number)
        if row is not None and Path(row.image).name == Path(record["image_path"]).name:
            label += row.label == record["malignancy"]
            split += row.split == split_of.get(number, "")
            distances.append(float(np.linalg.norm(np.subtract(row.lps_mm, _point(record)))))
    return {
        "n_published": n,
        "n_both": len(distances),
        "label": label / n,
        "split": split / n,
        "seed_within_half_mm": sum(d < 0.5 for d in distances) / n,
        "seed_within_a_thousandth": sum(d < 1e-3 for d in distances) / n,
    }


def _point(record: Mapping[str, str]) -> tuple[float, ...]:
    return tuple(float(record[f"coord{axis}"]) for axis in "XYZ")


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = type(error).__name__
        raise InputError(f"a published table cannot be read: {reason}", path.name, "give the published CSV") from error
