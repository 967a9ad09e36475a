"""Imaging Data Commons: SeriesInstanceUIDs and s5cmd manifests -> where series and the objects drawn on them lie.

`idc-index` ships the index of all series. Which RTSTRUCT and SEG belong to which image series is in two further
indices that it downloads once (`idc-index` calls them `rtstruct_index` and `seg_index`). No index says which images a
report or presentation state marks: those of an image's study go along with it, and a run takes what marks a lesion.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fmcib_module.batch.extra import need
from fmcib_module.batch.items import Item
from fmcib_module.core.errors import ConfigError

MAIN_INDEX: Final = "idc_index"

REFERENCES: Final = {"rtstruct_index": "referenced_SeriesInstanceUID", "seg_index": "segmented_SeriesInstanceUID"}
"""Index of objects drawn on images -> its column with the image series' UID."""

REPORTS: Final = ("SR", "PR")
"""Modalities of reports and presentation states."""

_COPY = re.compile(r"^\s*(?:cp|sync)\s+(?:--?\S+\s+)*['\"]?((?:s3|gs)://[^\s'\"]+)['\"]?(?:\s.*)?$")

_FETCH_FIX: Final = (
    "run `python -c \"from idc_index import IDCClient; IDCClient().fetch_index('{name}')\"` where there is a network, "
    "and give the folder that holds {name}.parquet as --idc-indices"
)


@dataclass(frozen=True, slots=True)
class IdcSeries:
    """A row of the main index."""

    series_uid: str
    study_uid: str
    modality: str
    url: str


def manifest_urls(text: str) -> list[str]:
    """The prefixes that an s5cmd manifest copies, in order; empty for any other text."""
    found = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _COPY.match(line)
        if match is None:
            return []
        found.append(_prefix(match[1]))
    return found


def resolve_series(series_uids: Sequence[str], indices: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Where image series lie, each followed by the RTSTRUCT and SEG series drawn on it, and its study's reports.

    Args:
        series_uids: SeriesInstanceUIDs of image series.
        indices: Folder with idc_index.parquet, rtstruct_index.parquet and seg_index.parquet, or some of them; what is
            not there is looked for where idc-index keeps it.

    Raises:
        ConfigError: A UID is not in the index, or an index is not here.
    """
    drawn = _drawn_on(set(series_uids), indices)
    wanted = {*series_uids, *(uid for uids in drawn.values() for uid in uids)}
    known = {row.series_uid: row for row in _main_index("SeriesInstanceUID", wanted, indices)}
    if missing := [uid for uid in series_uids if uid not in known]:
        what = f"{len(missing)} of {len(series_uids)} series are not in this version of the IDC index"
        raise ConfigError(what, f"SeriesInstanceUID {missing[0]}", "check the UID, or give the series' URL as `source`")
    studies = {known[uid].study_uid for uid in series_uids}
    reports = _by_study(row for row in _main_index("StudyInstanceUID", studies, indices) if row.modality in REPORTS)
    return {
        uid: (
            *(known[one].url for one in (uid, *sorted(drawn.get(uid, ()))) if one in known),
            *(row.url for row in reports[known[uid].study_uid]),
        )
        for uid in series_uids
    }


def group_manifest(urls: Sequence[str], indices: Path | None = None) -> list[Item]:
    """Make items of an s5cmd manifest's prefixes: each image series, with what is listed of what others drew on it.

    The index of series tells what a prefix holds. Where the further indices are not here, what the manifest lists of
    one study is one item, and the headers decide what was drawn on what; so is what the index does not know.
    """
    known = {_prefix(row.url): row for row in _main_index("series_aws_url", _spellings(urls), indices)}
    series = {url: known[_as_s3(url)] for url in urls if _as_s3(url) in known}
    by_uid = {row.series_uid: url for url, row in series.items()}
    images = [row.series_uid for row in series.values() if row.modality == "CT"]
    try:
        drawn = _drawn_on(set(images), indices)
    except ConfigError:
        return _studies(urls, series)
    reports = _by_study(row for row in series.values() if row.modality in REPORTS)
    items = []
    for uid in images:
        listed = [by_uid[one] for one in sorted(drawn.get(uid, ())) if one in by_uid]
        of_study = [by_uid[row.series_uid] for row in reports[series[by_uid[uid]].study_uid]]
        items.append(Item((by_uid[uid], *listed, *of_study), series_uid=uid))
    placed = {url for item in items for url in item.sources}
    return [*items, *(Item((url,)) for url in urls if url not in placed)]


def _by_study(rows: Iterable[IdcSeries]) -> defaultdict[str, list[IdcSeries]]:
    """Series of each study, in a fixed order."""
    groups: defaultdict[str, list[IdcSeries]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.series_uid):
        groups[row.study_uid].append(row)
    return groups


def _studies(urls: Sequence[str], series: dict[str, IdcSeries]) -> list[Item]:
    groups: dict[str, list[str]] = defaultdict(list)
    for url in urls:
        groups[series[url].study_uid if url in series else url].append(url)
    return [Item(tuple(group)) for group in groups.values()]


def _drawn_on(series_uids: set[str], indices: Path | None) -> dict[str, set[str]]:
    """Image series -> the series drawn on it."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, column in REFERENCES.items():
        for row in _read(name, ["SeriesInstanceUID", column], column, series_uids, indices):
            found[row[column]].add(row["SeriesInstanceUID"])
    return found


def _main_index(column: str, values: Iterable[str], indices: Path | None) -> list[IdcSeries]:
    columns = ["SeriesInstanceUID", "StudyInstanceUID", "Modality", "series_aws_url"]
    return [
        IdcSeries(row["SeriesInstanceUID"], row["StudyInstanceUID"], row["Modality"], _prefix(row["series_aws_url"]))
        for row in _read(MAIN_INDEX, columns, column, values, indices)
    ]


def _read(name: str, columns: list[str], key: str, values: Iterable[str], indices: Path | None) -> list[dict[str, Any]]:
    """The rows of an index whose `key` is among `values`; only these leave the disk."""
    import pyarrow.parquet as pq

    table = pq.read_table(_index_path(name, indices), columns=columns, filters=[(key, "in", sorted(values))])
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _index_path(name: str, indices: Path | None) -> Path:
    """Where an index lies.

    Raises:
        ConfigError: It is not here; it is not downloaded by us, so that a job needs no network but for its data.
    """
    if indices is not None and (indices / f"{name}.parquet").is_file():
        return indices / f"{name}.parquet"
    data: Any = need("idc_index_data")
    if (shipped := data.INDEX_METADATA[name]["parquet_filepath"]) is not None:
        return Path(shipped)
    directories: Any = need("platformdirs")
    kept = Path(directories.user_data_dir("idc_index_data", "IDC", version=data.__version__)) / f"{name}.parquet"
    if kept.is_file():
        return kept
    raise ConfigError(f"the IDC index {name} is not on this machine", name, _FETCH_FIX.format(name=name))


def _spellings(urls: Iterable[str]) -> list[str]:
    """How the index writes what a manifest lists."""
    return [f"{_as_s3(url)}{end}" for url in urls for end in ("/*", "/")]


def _as_s3(url: str) -> str:
    """IDC's buckets have the same names and keys with both providers, but for the open bucket's name."""
    return re.sub(r"^gs://public-datasets-idc/", "s3://idc-open-data/", url).replace("gs://", "s3://", 1)


def _prefix(url: str) -> str:
    return url.rstrip("*").rstrip("/")
