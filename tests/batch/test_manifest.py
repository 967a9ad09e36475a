"""Manifests in every form, and parts of them."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fmcib_module.batch.items import Item, SeedRow, Shard
from fmcib_module.batch.manifest import read_manifest
from fmcib_module.core.errors import ConfigError

CT, OTHER_CT, RTSTRUCT, SEG, SR, PR = "1.2.3.1", "1.2.3.2", "1.2.3.7", "1.2.3.8", "1.2.3.9", "1.2.3.10"
BUCKET = "s3://idc-open-data"


@pytest.fixture
def indices(tmp_path: Path) -> Path:
    """Indices with the columns of idc-index: two CTs, one with an RTSTRUCT, one with a SEG."""
    folder = tmp_path / "indices"
    folder.mkdir()
    modalities = {CT: "CT", OTHER_CT: "CT", RTSTRUCT: "RTSTRUCT", SEG: "SEG"}
    main = {
        "SeriesInstanceUID": list(modalities),
        "StudyInstanceUID": ["1.2.1", "1.2.2", "1.2.1", "1.2.2"],
        "Modality": list(modalities.values()),
        "series_aws_url": [f"{BUCKET}/{uid.replace('.', '-')}/*" for uid in modalities],
    }
    pq.write_table(pa.table(main), folder / "idc_index.parquet")
    rtstruct = {"SeriesInstanceUID": [RTSTRUCT], "referenced_SeriesInstanceUID": [CT]}
    pq.write_table(pa.table(rtstruct), folder / "rtstruct_index.parquet")
    seg = {"SeriesInstanceUID": [SEG], "segmented_SeriesInstanceUID": [OTHER_CT]}
    pq.write_table(pa.table(seg), folder / "seg_index.parquet")
    return folder


def _url(uid: str) -> str:
    return f"{BUCKET}/{uid.replace('.', '-')}"


def _write(folder: Path, text: str, name: str = "manifest.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_rows_with_seed_points_of_one_source_are_one_series_with_several_lesions(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        "source,rois,coordX,coordY,coordZ,label\n"
        "ct one,drawn/rt.dcm;drawn/seg.dcm,1,2,3,A\n"
        "ct one,drawn/rt.dcm;drawn/seg.dcm,-4.5,5,6,B\n"
        "s3://bucket/ct gs://bucket/rt,,,,,\n",
    )
    assert read_manifest(path) == [
        Item(("ct one", "drawn/rt.dcm", "drawn/seg.dcm"), (SeedRow("A", (1, 2, 3)), SeedRow("B", (-4.5, 5, 6)))),
        Item(("s3://bucket/ct", "gs://bucket/rt")),
    ]


def test_parquet_holds_what_csv_holds(tmp_path: Path) -> None:
    table = pd.DataFrame({"url": ["s3://bucket/ct"], "coordX": [1.5], "coordY": [0.0], "coordZ": [-2.0]})
    table.to_parquet(tmp_path / "manifest.parquet")
    table.to_csv(tmp_path / "manifest.csv", index=False)
    from_parquet = read_manifest(tmp_path / "manifest.parquet")
    assert from_parquet == read_manifest(tmp_path / "manifest.csv")
    assert from_parquet[0].seeds == (SeedRow("", (1.5, 0.0, -2.0)),)


def test_a_series_uid_is_looked_up_with_what_was_drawn_on_it(tmp_path: Path, indices: Path) -> None:
    expected = [Item((_url(CT), _url(RTSTRUCT)), series_uid=CT), Item((_url(OTHER_CT), _url(SEG)), series_uid=OTHER_CT)]
    assert read_manifest(_write(tmp_path, f"{CT}\n{OTHER_CT}\n", "uids.txt"), indices=indices) == expected
    assert read_manifest(_write(tmp_path, f"SeriesInstanceUID\n{CT}\n{OTHER_CT}\n"), indices=indices) == expected


def test_an_s5cmd_manifest_is_grouped_by_what_was_drawn_on_what(tmp_path: Path, indices: Path) -> None:
    lines = [f"cp {_url(uid)}/* ." for uid in (SEG, CT, OTHER_CT)]
    path = _write(tmp_path, "\n".join(["# To download the files in this manifest, ...", *lines, ""]), "m.s5cmd")
    assert read_manifest(path, indices=indices) == [
        Item((_url(CT),), series_uid=CT),
        Item((_url(OTHER_CT), _url(SEG)), series_uid=OTHER_CT),
    ]


@pytest.fixture
def with_reports(indices: Path) -> Path:
    """The same, with a report of the first CT's study and a presentation state of the other's."""
    path = indices / "idc_index.parquet"
    more = {
        "SeriesInstanceUID": [SR, PR],
        "StudyInstanceUID": ["1.2.1", "1.2.2"],
        "Modality": ["SR", "PR"],
        "series_aws_url": [f"{_url(SR)}/*", f"{_url(PR)}/*"],
    }
    pq.write_table(pa.concat_tables([pq.read_table(path), pa.table(more)]), path)
    return indices


def test_reports_of_a_series_study_come_along(tmp_path: Path, with_reports: Path) -> None:
    assert read_manifest(_write(tmp_path, f"series_uid\n{CT}\n{OTHER_CT}\n"), indices=with_reports) == [
        Item((_url(CT), _url(RTSTRUCT), _url(SR)), series_uid=CT),
        Item((_url(OTHER_CT), _url(SEG), _url(PR)), series_uid=OTHER_CT),
    ]
    lines = [f"cp {_url(uid)}/* ." for uid in (PR, SR, CT, OTHER_CT, SEG)]
    path = _write(tmp_path, "\n".join(lines), "m.s5cmd")
    assert read_manifest(path, indices=with_reports) == [
        Item((_url(CT), _url(SR)), series_uid=CT),
        Item((_url(OTHER_CT), _url(SEG), _url(PR)), series_uid=OTHER_CT),
    ]


def test_a_row_may_name_a_report_and_a_presentation_state(tmp_path: Path) -> None:
    path = _write(tmp_path, "source,sr,gsps\nct,a/report.dcm;b/other.dcm,state.dcm\n")
    assert read_manifest(path) == [Item(("ct", "a/report.dcm", "b/other.dcm", "state.dcm"))]


def test_without_the_further_indices_a_study_of_an_s5cmd_manifest_is_one_item(tmp_path: Path, indices: Path) -> None:
    (indices / "seg_index.parquet").unlink()
    lines = [f"cp {_url(uid)}/* ." for uid in (CT, OTHER_CT, RTSTRUCT, SEG)] + ["cp s3://other/unknown/* ."]
    path = _write(tmp_path, "\n".join(lines), "m.s5cmd")
    assert [item.sources for item in read_manifest(path, indices=indices)] == [
        (_url(CT), _url(RTSTRUCT)),
        (_url(OTHER_CT), _url(SEG)),
        ("s3://other/unknown",),
    ]


def test_a_uid_needs_the_further_indices_and_says_how_to_get_them(tmp_path: Path, indices: Path) -> None:
    (indices / "rtstruct_index.parquet").unlink()
    with pytest.raises(ConfigError, match=r"rtstruct_index is not on this machine.*fetch_index.*--idc-indices"):
        read_manifest(_write(tmp_path, f"series_uid\n{CT}\n"), indices=indices)


def test_a_uid_that_the_index_does_not_know_is_named(tmp_path: Path, indices: Path) -> None:
    with pytest.raises(ConfigError, match=r"1 of 2 series.*SeriesInstanceUID 1\.2\.99"):
        read_manifest(_write(tmp_path, f"series_uid\n{CT}\n1.2.99\n"), indices=indices)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no row with a column"),
        ("name\nct\n", "no row with a column"),
        ("source,rois\n,drawn.dcm\n", "neither a source nor a series.*row 2"),
        ("source,series_uid\nct,../x\n", "not a UID.*row 2"),
        ("source,coordX,coordY,coordZ\na,1,2,3\nct,1,2,\n", "not usable.*row 3"),
        ("source,coordX,coordY,coordZ\nct,1,2,nan\n", "not finite"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_runs(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_manifest(_write(tmp_path, text))


def test_an_absent_or_damaged_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_manifest(tmp_path / "absent.csv")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_manifest(_write(tmp_path, "PAR1 no parquet", "damaged.parquet"))


def test_shards_are_disjoint_and_complete_whatever_the_order() -> None:
    items = [Item((f"s3://bucket/{n}",)) for n in range(200)]
    shards = [Shard(number, 16).choose(reversed(items)) for number in range(1, 17)]
    chosen = [item for shard in shards for item in shard]
    assert len(chosen) == 200
    assert set(chosen) == set(items)
    assert max(map(len, shards)) < 40  # 12.5 on average; a binomial draw exceeds 40 once in 10^9


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "-1/3", "1/0"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="shard is"):
        Shard.parse(text)
