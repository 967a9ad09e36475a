import csv
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from fmcib_module.adapters import tables
from fmcib_module.adapters.tables import CohortWriter, read_series_csv, write_series_csv
from fmcib_module.core.conventions import Flag, SeedKind
from fmcib_module.core.domain import Lesion, Seed, Series
from fmcib_module.core.errors import OutputError
from fmcib_module.core.report import TEXT_COLUMNS, series_rows
from tests.adapters.report_builders import EXTREMES, random_features, report_of

AWKWARD = 'Tumor "left", \nlobe\r\n;=1+1 \u2028 腫瘍 \\ '
SERIES = Series("1.2.3", "1.2", "CT")


def lesion(
    values: NDArray[np.float32], label: str = "GTV", roi_number: int | None = None, flags: tuple[Flag, ...] = ()
) -> Lesion:
    seed = Seed((0.1, -1e-17, 12345.678901234567), label, "7.7", SeedKind.RTSTRUCT, roi_number, flags=flags)
    return Lesion(seed, values)


def any_float32(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Values with every exponent and sign, as likely as any other bit pattern."""
    bits = np.random.default_rng(seed).integers(0, 2**32, count, dtype=np.uint32)
    values = bits.view(np.float32)
    return np.where(np.isfinite(values), values, np.float32(0))


def bits_of(values: object) -> NDArray[np.uint32]:
    return np.array(values, dtype=np.float32).view(np.uint32)


def test_columns_are_those_of_the_published_model_then_ours(tmp_path: Path) -> None:
    write_series_csv(report_of(SERIES, [lesion(random_features(3))]), tmp_path / "features.csv")
    header = (tmp_path / "features.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == (
        "feature_0,feature_1,feature_2,Mhub ROI,Centroid,Image,MHub Metadata,coordX,coordY,coordZ,"
        "roi_number,source_uid,series_uid,study_uid,mode,weights,weights_sha256,flags"
    )


@pytest.mark.parametrize("values", [EXTREMES, any_float32(50_000)], ids=["extremes", "any bit pattern"])
def test_float32_values_survive_any_reader(tmp_path: Path, values: NDArray[np.float32]) -> None:
    path = tmp_path / "features.csv"
    write_series_csv(report_of(SERIES, [lesion(values)]), path)
    with path.open(encoding="utf-8", newline="") as file:
        _, row = csv.reader(file)
    assert (bits_of([np.float32(text) for text in row[: len(values)]]) == bits_of(values)).all()
    assert (bits_of(read_series_csv(path)[0].values) == bits_of(values)).all()


def test_float32_values_survive_pandas(tmp_path: Path) -> None:
    path = tmp_path / "features.csv"
    values = np.concatenate([EXTREMES, any_float32(2000, seed=1)])
    write_series_csv(report_of(SERIES, [lesion(values)]), path)
    table = pd.read_csv(path)
    assert (bits_of(table.iloc[0, : len(values)].to_numpy(dtype=np.float64)) == bits_of(values)).all()


def test_rows_read_back_as_they_were(tmp_path: Path) -> None:
    lesions = [
        lesion(random_features(5), AWKWARD, roi_number=3, flags=(Flag.NEAR_BORDER, Flag.OUTSIDE_MASK)),
        lesion(random_features(5, 1), "", roi_number=None),
    ]
    report = report_of(SERIES, lesions)
    write_series_csv(report, tmp_path / "features.csv")
    for found, expected in zip(read_series_csv(tmp_path / "features.csv"), series_rows(report), strict=True):
        assert replace(found, values=expected.values).cells() == expected.cells()
        assert (found.lps_mm, found.flags, found.roi_number) == (expected.lps_mm, expected.flags, expected.roi_number)
        assert (found.values == expected.values).all()


def test_labels_stay_exact_for_pandas(tmp_path: Path) -> None:
    write_series_csv(report_of(SERIES, [lesion(random_features(2), AWKWARD)]), tmp_path / "features.csv")
    assert pd.read_csv(tmp_path / "features.csv")["Mhub ROI"][0] == AWKWARD


def test_a_foreign_or_damaged_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "features.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(OutputError, match="columns are not those of this package"):
        read_series_csv(path)
    write_series_csv(report_of(SERIES, [lesion(random_features(4))]), path)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(OutputError, match="cannot be read"):
        read_series_csv(path)


def test_a_cohort_holds_the_rows_of_its_series_in_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROWS_PER_GROUP", 4)
    reports = [
        report_of(Series(f"1.{n}", "1", "CT"), [lesion(random_features(8, 10 * n + m), AWKWARD) for m in range(3)])
        for n in range(3)
    ]
    lines = []
    with CohortWriter(tmp_path) as cohort:
        for number, report in enumerate(reports):
            path = tmp_path / str(number) / "features.csv"
            write_series_csv(report, path)
            lines.append(path.read_bytes().partition(b"\n")[2])
            cohort.add(read_series_csv(path) if number == 1 else series_rows(report))
        assert not (tmp_path / "features.csv").exists()
    assert (tmp_path / "features.csv").read_bytes().partition(b"\n")[2] == b"".join(lines)

    file = pq.ParquetFile(tmp_path / "features.parquet")
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [4, 4, 1]
    table = file.read()
    file.close()
    expected = np.stack([one.values for report in reports for one in report.lesions])
    assert table.schema.names == ["features", *TEXT_COLUMNS]
    assert table.schema.field("features").type == pa.list_(pa.float32(), 8)
    assert (np.stack(table["features"].to_numpy(zero_copy_only=False)) == expected).all()
    assert table["series_uid"].to_pylist() == ["1.0"] * 3 + ["1.1"] * 3 + ["1.2"] * 3
    assert table["coordZ"].to_pylist() == [12345.678901234567] * 9
    assert table["roi_number"].to_pylist() == [None] * 9
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"features.csv", "features.parquet"}


def test_a_cohort_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "features.csv").write_text("old")
    rows = [*series_rows(report_of(SERIES, [lesion(random_features(3))])), None]
    with pytest.raises(AttributeError), CohortWriter(tmp_path) as cohort:
        cohort.add(rows)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["features.csv"]
    assert (tmp_path / "features.csv").read_text() == "old"


def test_a_cohort_without_lesions_writes_nothing(tmp_path: Path) -> None:
    with CohortWriter(tmp_path) as cohort:
        cohort.add(())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="without lesions"):
        write_series_csv(report_of(SERIES, []), tmp_path / "features.csv")


def test_a_cohort_has_one_number_of_features(tmp_path: Path) -> None:
    lesions = [lesion(random_features(3)), lesion(random_features(4))]
    with pytest.raises(ValueError, match="4 features, the first one has 3"), CohortWriter(tmp_path) as cohort:
        cohort.add(series_rows(report_of(SERIES, lesions)))


def test_four_thousand_features_take_a_few_milliseconds_a_row(tmp_path: Path) -> None:
    rows = series_rows(report_of(SERIES, [lesion(random_features(4096, n)) for n in range(100)]))
    start = time.perf_counter()
    with CohortWriter(tmp_path) as cohort:
        cohort.add(rows)
    assert (time.perf_counter() - start) / len(rows) < 0.05  # about 0.004 s on one slow core
