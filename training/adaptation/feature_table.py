"""The feature table: the lesion table's columns and one row of features per lesion, with what made them (Parquet)."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fmcib_module.adapters.atomic import replacing
from fmcib_module.core.errors import InputError

log = logging.getLogger(__name__)

META_KEY: Final = b"fmcib_features"
"""Of the Parquet file's metadata; holds `FeatureMeta` as JSON."""

FEATURES: Final = "features"
"""Column of the features: a fixed-size list of float32."""

TEXT_COLUMNS: Final = ("lesion", "patient", "split", "label")
NUMBER_COLUMNS: Final = ("time", "event")

ROI_COLUMNS: Final = ("roi_number", "Mhub ROI")
"""Columns that tell the lesions of a series apart in OUTPUT/features.parquet; labels name them by one of these."""


@dataclass(frozen=True, slots=True)
class FeatureMeta:
    """What made the features.

    Attributes:
        extractor: Name of the extractor: of the weights, "med3d", "radiomics", ...
        version: Of the software that ran it.
        weights_sha256: SHA-256 of the weights; empty where there are none.
        table_sha256: SHA-256 of the lesion table (`LesionTable.sha256`); empty where unknown.
        mode: Preprocessing mode; empty where the extractor has its own.
    """

    extractor: str
    version: str = ""
    weights_sha256: str = ""
    table_sha256: str = ""
    mode: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureTable:
    """Features of lesions.

    `lesion`, `patient`, `split` and `label` become text ("" where unknown; a number 1 and 1.0 both "1"), `time`
    and `event` float64 (NaN where unknown).

    Attributes:
        frame: One row per lesion, index 0..n-1: at least `lesion` (unique) and `patient`; no features.
        values: (n, d) finite float32.
        meta: What made them.

    Raises:
        InputError: A column is missing, a lesion is there twice, a patient is not known, or a value is not finite.
    """

    frame: pd.DataFrame
    values: NDArray[np.float32]
    meta: FeatureMeta

    def __post_init__(self) -> None:
        values = np.ascontiguousarray(self.values, dtype=np.float32)
        if values.ndim != 2 or len(values) != len(self.frame):
            msg = f"expected ({len(self.frame)}, d) features, got {values.shape}"
            raise ValueError(msg)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "frame", _checked(self.frame))
        broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(broken):
            lesion = self.frame["lesion"].iloc[int(broken[0])]
            where = f"lesion {lesion}" + (f" and {len(broken) - 1} more" if len(broken) > 1 else "")
            raise InputError("features are not finite", where, "leave these lesions out or repair their scan")

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, rows: NDArray[Any]) -> "FeatureTable":
        """The same table with some of its rows, by their numbers or a mask."""
        return FeatureTable(self.frame.iloc[rows], self.values[rows], self.meta)


def write_feature_table(path: Path, table: FeatureTable) -> None:
    """Write a feature table as Parquet, atomically.

    Raises:
        OutputError: It cannot be written.
    """
    n_features = table.values.shape[1]
    features = pa.FixedSizeListArray.from_arrays(pa.array(table.values.reshape(-1)), n_features)
    arrow = pa.Table.from_pandas(table.frame.drop(columns=FEATURES, errors="ignore"), preserve_index=False)
    arrow = arrow.append_column(FEATURES, features)
    arrow = arrow.replace_schema_metadata({META_KEY: json.dumps(asdict(table.meta), sort_keys=True).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        pq.write_table(arrow, temporary)


def read_feature_table(path: Path, labels: Path | None = None) -> FeatureTable:
    """Read a feature table, or OUTPUT of `fmcib run`.

    Args:
        path: A file that `write_feature_table` wrote; or an OUTPUT folder, whose features.parquet is read.
        labels: CSV with further columns (`patient`, `label`, `split`, `time`, `event`, ...). To a feature table it is
            joined by `lesion`; to OUTPUT by `series_uid` and either `roi_number` or "Mhub ROI", and it must name the
            `patient`, since an OUTPUT does not. Lesions without labels are left out, and so are labels without
            features; the log says how many.

    Raises:
        InputError: The file is absent, not one of these, or does not fit the labels.
    """
    file = path / "features.parquet" if path.is_dir() else path
    frame, values, metadata = _read_parquet(file)
    if META_KEY in metadata:
        meta = FeatureMeta(**json.loads(metadata[META_KEY]))
        keys = ["lesion"]
    elif "weights_sha256" in frame and "series_uid" in frame:
        meta = _meta_of_output(frame, file.name)
        frame = frame.assign(patient=frame["study_uid"].where(frame["study_uid"] != "", frame["series_uid"]))
        keys = []
    else:
        fix = "give a file of `python -m training features`, or OUTPUT of `fmcib run`"
        raise InputError("this is no table of features", file.name, fix)
    if labels is not None:
        frame, rows = _joined(frame, _read_labels(labels), keys, labels.name)
        values = values[rows]
    return FeatureTable(frame, values, meta)


def _checked(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.reset_index(drop=True)
    if "lesion" not in frame:
        frame.insert(0, "lesion", [str(n) for n in range(1, len(frame) + 1)])
    if "patient" not in frame:
        raise InputError("there is no column patient", "feature table", "say whose lesion each row is")
    frame = frame.assign(
        **{name: [_text(value) for value in frame[name]] for name in TEXT_COLUMNS if name in frame},
        **{name: _numbers(frame[name]) for name in NUMBER_COLUMNS if name in frame},
    )
    if (frame["patient"] == "").any():
        row = int((frame["patient"] == "").to_numpy().argmax()) + 1
        raise InputError("the patient is not known", f"feature table, row {row}", "say whose lesion it is")
    twice = frame["lesion"][frame["lesion"].duplicated()]
    if len(twice):
        raise InputError("a lesion is there twice", f"lesion {twice.iloc[0]}", "give every lesion a name of its own")
    return frame


def _text(value: object) -> str:
    """A cell as text: empty where there is nothing, and whole numbers without a point."""
    if pd.isna(value):  # type: ignore[call-overload]  # any object may stand in a cell
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _numbers(column: "pd.Series[Any]") -> NDArray[np.float64]:

    try:
        return pd.to_numeric(column.replace("", None)).to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise InputError(f"{column.name} is not a number everywhere", "feature table", "correct the values") from error


def _read_parquet(path: Path) -> tuple[pd.DataFrame, NDArray[np.float32], dict[bytes, bytes]]:

    fix = "give a file of `python -m training features`, or OUTPUT of `fmcib run`"
    try:
        arrow = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        reason = type(error).__name__
        raise InputError(f"the table of features cannot be read: {reason}", path.name, fix) from error
    if FEATURES not in arrow.column_names or not pa.types.is_fixed_size_list(arrow.schema.field(FEATURES).type):
        raise InputError("there is no column of features", path.name, fix)
    n_features = arrow.schema.field(FEATURES).type.list_size
    column = arrow.column(FEATURES).combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, n_features).astype(np.float32)
    frame = arrow.drop_columns([FEATURES]).to_pandas()
    return frame, values, dict(arrow.schema.metadata or {})


def _meta_of_output(frame: pd.DataFrame, where: str) -> FeatureMeta:
    """What made the features of an OUTPUT: one set of weights and one mode."""
    made = frame[["weights", "weights_sha256", "mode", "MHub Metadata"]].drop_duplicates()
    if len(made) != 1:
        raise InputError("its rows have different weights or modes", where, "run all series with the same settings")
    weights, sha256, mode, metadata = made.iloc[0]
    return FeatureMeta(str(weights), str(json.loads(metadata)["version"]), str(sha256), "", str(mode))


def _read_labels(path: Path) -> pd.DataFrame:

    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = type(error).__name__
        raise InputError(f"the labels cannot be read: {reason}", path.name, "give a CSV file in UTF-8") from error


def _joined(
    frame: pd.DataFrame, labels: pd.DataFrame, keys: list[str], where: str
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """The lesions that have labels, with the labels' columns, and their row numbers in `frame`."""
    if not keys:
        roi = next((name for name in ROI_COLUMNS if name in labels), ROI_COLUMNS[0])
        keys = ["series_uid", roi]
    missing = [name for name in [*keys, *(["patient"] if len(keys) == 2 else [])] if name not in labels]
    if missing:
        raise InputError(f"column(s) {', '.join(missing)} are missing", where, "name lesions and their patients")
    ours = [tuple(map(_text, row)) for row in frame[keys].astype(object).itertuples(index=False)]
    theirs = [tuple(map(_text, row)) for row in labels[keys].itertuples(index=False)]
    for kind, names in (("features", ours), ("labels", theirs)):
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(
                f"two rows of the {kind} have the same {' and '.join(keys)}", f"{where}: {twice}", "tell them apart"
            )
    place = {name: row for row, name in enumerate(ours)}
    found = [row for row, name in enumerate(theirs) if name in place]
    rows = np.array([place[theirs[row]] for row in found], dtype=np.int64)
    if not found:
        raise InputError("no label belongs to any lesion", where, f"compare {' and '.join(keys)} of both")
    if len(found) < max(len(ours), len(theirs)):
        counts = (len(found), len(ours) - len(found), len(theirs) - len(found))
        log.warning("%d lesions have labels; %d have none, %d labels have no features", *counts)
    added = labels.iloc[found].reset_index(drop=True)
    kept = frame.iloc[rows].reset_index(drop=True).drop(columns=[name for name in added if name in frame])
    return kept.join(added), rows
