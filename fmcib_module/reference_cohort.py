"""A table of features -> the reference statistics of its weights."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fmcib_module.adapters.reference_file import find_reference, own_reference_path, write_reference
from fmcib_module.core.errors import InputError, OutputError
from fmcib_module.core.reference import ReferenceStatistics, fit_reference

PATIENT_COLUMNS = ("patient", "study_uid")
"""Whose a lesion is; the first that the table has. A run's own table names studies and no patients."""

MADE_BY_COLUMNS = ("weights_sha256", "mode")
METADATA_KEY = b"fmcib_features"
"""Under which a feature table's metadata names them, as JSON."""


def make_reference(table: Path, *, cohort: str, output: Path | None = None) -> ReferenceStatistics:
    """Fit reference statistics to a cohort and write them.

    Args:
        table: Parquet with `features`, `patient` or `study_uid`, and `weights_sha256` and `mode`, as columns (a run's
            features.parquet) or in the file's metadata (a feature table of `training`).
        cohort: What the lesions are, in a few words.
        output: File to write; None writes it into the cache, where runs with these weights find it.

    Raises:
        InputError: The table cannot be read, lacks a column, mixes weights or modes, or is too small.
        OutputError: The file cannot be written.
    """
    try:
        content = pq.read_table(table)
    except (OSError, pa.ArrowException) as error:
        fix = "give features.parquet of a run"
        raise InputError(f"the table cannot be read: {type(error).__name__}", table.name, fix) from error
    weights_sha256, mode = (_made_by(content, name, table.name) for name in MADE_BY_COLUMNS)
    patients = next((name for name in PATIENT_COLUMNS if name in content.column_names), None)
    if "features" not in content.column_names or patients is None:
        fix = "give features.parquet of a run, or a feature table of training"
        raise InputError("the table needs the columns features, and patient or study_uid", table.name, fix)
    values = np.array(content["features"].to_pylist(), dtype=np.float32)
    reference = fit_reference(values, np.array([str(name) for name in content[patients].to_pylist()]))
    path = output or own_reference_path(weights_sha256, mode)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_reference(reference, path, weights_sha256=weights_sha256, mode=mode, cohort=cohort)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", path.name, "choose another --output") from error
    find_reference.cache_clear()
    return reference


def _made_by(content: pa.Table, name: str, where: str) -> str:
    """The one value of a column, or of the file's metadata."""
    if name in content.column_names:
        found = sorted({str(value) for value in content[name].to_pylist()})
    else:
        stated = json.loads((content.schema.metadata or {}).get(METADATA_KEY, b"{}")).get(name)
        found = [str(stated)] if stated else []
    if len(found) != 1:
        listed = ", ".join(found) or "none"
        raise InputError(f"expected one {name}, found {listed}", where, "give features of one run's settings")
    return found[0]
