"""The lesion table: what is read, what is refused and where, and that splits go patient by patient."""

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from fmcib_module.core.errors import InputError
from tests.shared import DATA, needs_shared
from training.lesion_table import patient_splits, read_lesion_table

HEADER = "image_path,coordX,coordY,coordZ,patient,split,label,diameter\n"
GOOD = HEADER + "a.nrrd,1,2.5,-3,p1,train,solid,12\nb.nrrd,4,5,6,p2,,,\n"


def _table(folder: Path, text: str) -> Path:
    path = folder / "lesions.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_all_columns_are_read(tmp_path: Path) -> None:
    first, second = read_lesion_table(_table(tmp_path, GOOD)).rows
    assert (first.image, first.lps_mm, first.patient, first.split) == ("a.nrrd", (1.0, 2.5, -3.0), "p1", "train")
    assert (first.label, first.diameter_mm) == ("solid", 12.0)
    assert (second.split, second.label, second.diameter_mm) == ("", "", 0.0)


def test_parquet_and_csv_of_the_same_lesions_have_the_same_hash(tmp_path: Path) -> None:
    csv = _table(tmp_path, GOOD)
    parquet = tmp_path / "lesions.parquet"
    pd.read_csv(csv).assign(more=1).to_parquet(parquet)
    assert read_lesion_table(parquet).sha256 == read_lesion_table(csv).sha256
    moved = _table(tmp_path, GOOD.replace("2.5", "2.6"))
    assert read_lesion_table(moved).sha256 != read_lesion_table(parquet).sha256


def test_without_a_patient_column_the_image_is_the_patient(tmp_path: Path) -> None:
    table = read_lesion_table(_table(tmp_path, "image_path,coordX,coordY,coordZ\na.nrrd,1,2,3\na.nrrd,4,5,6\n"))
    assert {row.patient for row in table.rows} == {"a.nrrd"}


@pytest.mark.parametrize(
    ("text", "column", "row"),
    [
        (GOOD.replace("2.5", "two"), "coordY", 1),
        (GOOD.replace(",5,", ",nan,"), "coordY", 2),
        (GOOD.replace(",5,", ",,"), "coordY", 2),
        (GOOD.replace("b.nrrd", ""), "image_path", 2),
        (GOOD.replace("train", "training"), "split", 1),
        (GOOD.replace(",12\n", ",-1\n"), "diameter", 1),
        (GOOD.replace("label", "time").replace("solid", "-0.5"), "time", 1),
        (GOOD.replace("label", "event").replace("solid", "dead"), "event", 1),
        (GOOD.replace("label", "lesion").replace("p2,,,", "p2,,solid,"), "lesion", 2),
    ],
)
def test_a_wrong_value_is_refused_with_its_row_and_column(tmp_path: Path, text: str, column: str, row: int) -> None:
    with pytest.raises(InputError) as caught:
        read_lesion_table(_table(tmp_path, text))
    assert caught.value.where == f"lesions.csv, row {row}, column {column}"


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    text = GOOD.replace("p2,,", "p1,test,")
    with pytest.raises(InputError, match=r"row 1 has 'train', row 2 has 'test'"):
        read_lesion_table(_table(tmp_path, text))


def test_splits_that_share_patients_are_read_when_asked_for_and_counted(tmp_path: Path) -> None:
    text = GOOD.replace("p2,,", "p1,test,") + "c.nrrd,7,8,9,p3,val,,\n"
    table = read_lesion_table(_table(tmp_path, text), shared_patients=True)
    assert [row.split for row in table.rows] == ["train", "test", "val"]
    assert table.shared_patients == {"p1"}


def test_outcomes_names_and_other_columns_are_read_from_csv_and_parquet_alike(tmp_path: Path) -> None:
    csv = _table(
        tmp_path, "image_path,coordX,coordY,coordZ,lesion,time,event,stage\n" + "a,1,2,3,7,1.5,1,IIIb\nb,4,5,6,,,,\n"
    )
    parquet = tmp_path / "lesions.parquet"
    pd.read_csv(csv).to_parquet(parquet)
    for path in (csv, parquet):
        first, second = read_lesion_table(path).rows
        assert (first.lesion, first.time, first.event, first.others["stage"]) == ("7", 1.5, True, "IIIb")
        assert (second.lesion, second.time, second.event) == ("2", None, None)
    assert read_lesion_table(csv).sha256 == read_lesion_table(parquet).sha256


def test_the_hash_of_a_table_without_outcomes_is_what_it_was_before_there_were_any(tmp_path: Path) -> None:
    plain = [
        ["a.nrrd", ["1.0", "2.5", "-3.0"], "solid", "train", "p1", "12.0"],
        ["b.nrrd", ["4.0", "5.0", "6.0"], "", "", "p2", "0.0"],
    ]
    expected = hashlib.sha256(json.dumps(plain).encode()).hexdigest()
    assert read_lesion_table(_table(tmp_path, GOOD)).sha256 == expected
    named = GOOD.replace("diameter\n", "diameter,lesion\n").replace("12\n", "12,x\n").replace("p2,,,\n", "p2,,,,y\n")
    assert read_lesion_table(_table(tmp_path, named)).sha256 == expected
    outcomes = (
        GOOD.replace("diameter\n", "diameter,time,event\n")
        .replace("12\n", "12,2.5,0\n")
        .replace("p2,,,\n", "p2,,,,3,1\n")
    )
    assert read_lesion_table(_table(tmp_path, outcomes)).sha256 != expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("coordX,coordY,coordZ\n1,2,3\n", "one image column, found none"),
        ("image_path,series_uid,coordX,coordY,coordZ\na,1.2,1,2,3\n", "found image_path, series_uid"),
        ("image_path,coordX,coordY\na,1,2\n", "coordZ are missing"),
        ("image_path,coordX,coordY,coordZ\n", "no rows"),
    ],
)
def test_a_table_without_what_it_needs_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_lesion_table(_table(tmp_path, text))


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00\x81")
    for name in ("x.parquet", "x.csv", "absent.csv"):
        with pytest.raises(InputError, match="cannot be read"):
            read_lesion_table(tmp_path / name)


@needs_shared
def test_the_published_pretraining_table_is_read_as_it_is() -> None:
    path = next((DATA / "tables" / "deeplesion-fmcib").glob("pretrain*.csv"))
    table = read_lesion_table(path)
    assert len(table.rows) == 11467  # Pai et al. 2024
    assert table.rows[0].lps_mm == (147.4608654975891, 176.26944518089294, -32.5)


def test_splits_have_the_shares_asked_for_and_keep_what_is_given() -> None:
    given = {f"p{n}": "" for n in range(100)} | {"known": "test"}
    splits = patient_splits(given, val=0.2, test=0.1, seed=1)
    assert splits["known"] == "test"
    drawn = [splits[name] for name in given if name != "known"]
    assert (drawn.count("val"), drawn.count("test"), drawn.count("train")) == (20, 10, 70)
    assert patient_splits(dict(reversed(given.items())), val=0.2, test=0.1, seed=1) == splits
    assert patient_splits(given, val=0.2, test=0.1, seed=2) != splits
