"""Feature tables: what is written is read back, OUTPUT of the chain is read too, what cannot be right is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from fmcib_module.adapters.tables import CohortWriter
from fmcib_module.core.errors import InputError
from fmcib_module.core.report import LesionRow
from training.adaptation.feature_table import FeatureMeta, FeatureTable, read_feature_table, write_feature_table

META = FeatureMeta("fmcib", "1.2", "ab" * 32, "cd" * 32, "published")


def some_table(n: int = 6) -> FeatureTable:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "lesion": [f"L{k}" for k in range(n)],
            "patient": [k // 2 for k in range(n)],
            "label": [1.0, None, 0.0, 1.0, "liver", ""][:n],
            "time": ["1.5", "", "2", "0.25", "3", "4"][:n],
            "event": [1, None, 0, 1, 0, 1][:n],
            "scanner": list("aabbcc")[:n],
        }
    )
    return FeatureTable(frame, rng.standard_normal((n, 5)).astype(np.float32), META)


def test_a_table_is_read_back_as_written(tmp_path: Path) -> None:
    table = some_table()
    write_feature_table(tmp_path / "f.parquet", table)
    again = read_feature_table(tmp_path / "f.parquet")
    np.testing.assert_array_equal(again.values, table.values)
    pd.testing.assert_frame_equal(again.frame, table.frame, check_dtype=False)
    assert again.meta == META
    features = pq.read_table(tmp_path / "f.parquet")["features"]
    assert str(features.type) == "fixed_size_list<element: float>[5]"


def test_labels_are_text_and_survival_numbers() -> None:
    frame = some_table().frame
    assert frame["label"].tolist() == ["1", "", "0", "1", "liver", ""]
    assert frame["patient"].tolist() == ["0", "0", "1", "1", "2", "2"]
    np.testing.assert_array_equal(frame["time"], [1.5, np.nan, 2, 0.25, 3, 4])
    np.testing.assert_array_equal(frame["event"], [1, np.nan, 0, 1, 0, 1])


def test_labels_join_by_lesion_in_any_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = some_table()
    write_feature_table(tmp_path / "f.parquet", table)
    (tmp_path / "labels.csv").write_text("lesion,label\nL4,b\nL1,a\nL99,c\n")
    again = read_feature_table(tmp_path / "f.parquet", tmp_path / "labels.csv")
    np.testing.assert_array_equal(again.values, table.values[[4, 1]])
    assert again.frame[["lesion", "label", "scanner"]].to_numpy().tolist() == [["L4", "b", "c"], ["L1", "a", "a"]]
    assert "2 lesions have labels; 4 have none, 1 labels have no features" in caplog.text


def write_output(folder: Path, modes: tuple[str, ...] = ("published",) * 3) -> np.ndarray:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    with CohortWriter(folder) as cohort:
        for n, mode in enumerate(modes):
            series = f"1.2.{n // 2}"
            row = LesionRow(
                f"GTV-{n}", (1.0, 2.0, n), series, '{"version": "0.9"}', n + 1, "1.9", series, f"1.1.{n // 2}", mode,
                "mini", "ef" * 32, (), values[n],
            )  # fmt: skip
            cohort.add([row])
    return values


@pytest.mark.parametrize(
    "labels", ["series_uid,roi_number,{}\n1.2.0,2,p,x\n", 'series_uid,"Mhub ROI",{}\n1.2.0,GTV-1,p,x\n']
)
def test_an_output_of_the_chain_is_joined_with_labels(tmp_path: Path, labels: str) -> None:
    values = write_output(tmp_path)
    (tmp_path / "labels.csv").write_text(labels.format("patient,label"))
    table = read_feature_table(tmp_path, tmp_path / "labels.csv")
    np.testing.assert_array_equal(table.values, values[[1]])
    assert table.frame[["patient", "label"]].to_numpy().tolist() == [["p", "x"]]
    assert table.meta == FeatureMeta("mini", "0.9", "ef" * 32, "", "published")


def test_an_output_without_labels_takes_each_study_as_a_patient(tmp_path: Path) -> None:
    write_output(tmp_path)
    assert read_feature_table(tmp_path).frame["patient"].tolist() == ["1.1.0", "1.1.0", "1.1.1"]


def test_labels_of_an_output_must_name_the_patient(tmp_path: Path) -> None:
    write_output(tmp_path)
    (tmp_path / "labels.csv").write_text("series_uid,roi_number,label\n1.2.0,2,x\n")
    with pytest.raises(InputError, match=r"column.s. patient are missing"):
        read_feature_table(tmp_path, tmp_path / "labels.csv")


def test_an_output_of_two_modes_is_refused(tmp_path: Path) -> None:
    write_output(tmp_path, ("published", "published", "centred"))
    with pytest.raises(InputError, match="different weights or modes"):
        read_feature_table(tmp_path)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("lesion", ["a", "b", "a"], "lesion is there twice .lesion a"),
        ("patient", ["a", None, "a"], "patient is not known .feature table, row 2"),
        ("time", ["1", "soon", "2"], "time is not a number everywhere"),
    ],
)
def test_wrong_columns_are_refused(column: str, values: list[Any], message: str) -> None:
    frame = some_table(3).frame
    frame[column] = values
    with pytest.raises(InputError, match=message):
        FeatureTable(frame, np.zeros((3, 2), np.float32), META)


def test_features_that_are_not_finite_are_refused_with_their_lesion() -> None:
    values = np.zeros((3, 2), np.float32)
    values[1, 1] = np.nan
    with pytest.raises(InputError, match=r"features are not finite .lesion L1"):
        FeatureTable(some_table(3).frame, values, META)


def test_another_parquet_file_is_refused(tmp_path: Path) -> None:
    some_table().frame.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"no column of features .x.parquet"):
        read_feature_table(tmp_path / "x.parquet")
    (tmp_path / "y.parquet").write_text("?")
    with pytest.raises(InputError, match="cannot be read"):
        read_feature_table(tmp_path / "y.parquet")
