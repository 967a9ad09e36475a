"""DeepLesion: which lesions are taken, their labels and splits, what is refused."""

from pathlib import Path

import pytest

from fmcib_module.core.errors import ConfigError, InputError
from tests.training.cohorts.deeplesion_phantom import run, write_phantom
from tests.training.cohorts.dl_info import info_row, write_info
from training.cohorts.deeplesion_info import read_dl_info
from training.lesion_table import read_lesion_table


def test_labels_splits_and_diameters_are_those_of_the_data_set(tmp_path: Path) -> None:
    write_phantom(tmp_path)
    record = run(tmp_path)
    assert record["tables"]["pretrain.csv"]["lesions"] == 2
    assert record["patients_in_two_tables"] == 0
    table = read_lesion_table(tmp_path / "out" / "task1.csv")
    assert [row.split for row in table.rows] == ["train", "train", "val", "val", "test", "test"]
    assert {row.label for row in table.rows} == {"bone", "abdomen"}  # Coarse_lesion_type 1 and 2
    assert {row.diameter_mm for row in table.rows} == {16.0}  # 8 pixels of 2 mm


def test_what_is_too_thick_or_does_not_cross_is_left_out_and_counted(tmp_path: Path) -> None:
    apart = (10.0, 20.0, 18.0, 20.0, 14.0, 25.0, 14.0, 31.0)
    form = {"key_slice": 5, "slice_range": (1, 9), "split": 1}
    rows = [
        info_row("000001_01_01", spacing=(1.0, 1.0, 3.0), **form),  # type: ignore[arg-type]
        info_row("000002_01_01", spacing=(1.0, 1.0, 3.01), **form),  # type: ignore[arg-type]
        info_row("000003_01_01", spacing=(1.0, 1.0, 1.0), ends=apart, **form),  # type: ignore[arg-type]
        info_row("000004_01_01", spacing=(1.0, 1.0, 1.0), **{**form, "split": 2}),  # type: ignore[arg-type]
    ]
    write_info(tmp_path / "DL_info.csv", rows)
    left_out = run(tmp_path)["left_out"]
    assert left_out == {"slices are more than 3 mm apart": 1, "its diameters do not cross": 1}
    run(tmp_path, uncrossed="midpoint")
    kept = {row.lesion: row for row in read_lesion_table(tmp_path / "out" / "pretrain.csv").rows}
    assert kept.keys() == {"0", "2"}
    assert kept["2"].lps_mm == (14.0, 20.0, -4.0)  # middle of the long diameter


@pytest.mark.parametrize("change", [{"Key_slice_index": "12"}, {"Spacing_mm_px_": "1, 1, -1"}])
def test_a_lesion_that_cannot_be_placed_is_left_out_with_its_reason(tmp_path: Path, change: dict[str, str]) -> None:
    good = info_row("000001_01_01", key_slice=5, slice_range=(1, 9), spacing=(1.0, 1.0, 1.0), split=1)
    other = info_row("000002_01_01", key_slice=5, slice_range=(1, 9), spacing=(1.0, 1.0, 1.0), split=2)
    write_info(tmp_path / "DL_info.csv", [good, good | change, other])
    record = run(tmp_path)
    assert record["left_out"] == {"its slice is not in its range, or its spacing is not positive": 1}
    assert record["tables"]["pretrain.csv"]["lesions"] == 1


def test_patients_are_never_in_two_splits_when_split_by_patient(tmp_path: Path) -> None:
    rows = [
        info_row(f"{n // 4:06d}_01_{n % 4:02d}", key_slice=5, slice_range=(1, 9), spacing=(1.0, 1.0, 1.0), split=3)
        for n in range(1, 60)
    ] + [info_row("000900_01_01", key_slice=5, slice_range=(1, 9), spacing=(1.0, 1.0, 1.0), split=s) for s in (1, 2)]
    write_info(tmp_path / "DL_info.csv", rows)
    assert run(tmp_path)["tables"]["task1.csv"]["patients_in_two_splits"] > 0
    with pytest.raises(InputError, match="in two splits"):
        read_lesion_table(tmp_path / "out" / "task1.csv")
    facts = run(tmp_path, split="patients")["tables"]["task1.csv"]
    assert facts["patients_in_two_splits"] == 0
    assert set(facts["splits"]) == {"train", "val", "test"}
    assert abs(facts["splits"]["val"] - facts["splits"]["test"]) <= 8  # 15 patients with 4 lesions each
    read_lesion_table(tmp_path / "out" / "task1.csv")


def test_patients_who_are_pretrained_on_and_tested_on_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scans = [("000001_01_01", 1), ("000001_02_01", 3), ("000002_01_01", 2), ("000003_01_01", 1)]
    rows = [
        info_row(scan, key_slice=5, slice_range=(1, 9), spacing=(1.0, 1.0, 1.0), split=split) for scan, split in scans
    ]
    write_info(tmp_path / "DL_info.csv", rows)
    assert run(tmp_path)["patients_in_two_tables"] == 1
    assert "1 patients are in more than one of these tables" in caplog.text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"Slice_range": "1, nine"}, "nine"),
        ({"Spacing_mm_px_": "1, 1"}, "expected 3 numbers"),
        ({"Train_Val_Test": "4"}, "Train_Val_Test is 4"),
        ({"Measurement_coordinates": "1, 2, 3, 4, 5, 6, 7, nan"}, "expected 8 numbers"),
    ],
)
def test_a_row_that_is_not_of_the_data_set_is_refused_by_its_number(
    tmp_path: Path, change: dict[str, str], problem: str
) -> None:
    good = info_row("000001_01_01", key_slice=5, slice_range=(1, 9), spacing=(1.0, 1.0, 1.0), split=1)
    write_info(tmp_path / "DL_info.csv", [good, good | change])
    with pytest.raises(InputError, match=problem) as caught:
        read_dl_info(tmp_path / "DL_info.csv")
    assert "row 2" in caught.value.where


def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    for settings, message in (
        ({"kind": "deeplesions"}, "kind is 'deeplesions'"),
        ({"seeds": "published", "uncrossed": "midpoint"}, "published seeds are crossings"),
        ({"workers": 0}, "too small"),
        ({"thickness": 3}, "unknown key"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(tmp_path, **settings)
    with pytest.raises(InputError, match="cannot be read"):
        run(tmp_path)
