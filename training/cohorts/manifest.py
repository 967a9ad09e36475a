"""`python -m training manifest FILE`: which series of Imaging Data Commons a cohort needs, as a list for s5cmd.

The index comes with the package idc-index-data, so nothing is asked of any server; only s5cmd downloads.
"""

import csv
import io
import logging
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.core.errors import ConfigError
from fmcib_module.settings import from_plain, read_yaml

log = logging.getLogger(__name__)

MANIFEST: Final = "manifest.s5cmd"
SERIES: Final = "series.csv"

COLUMNS: Final = (
    "collection_id", "analysis_result_id", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality",
    "instanceCount", "series_size_MB", "license_short_name", "source_DOI", "series_aws_url",
)  # fmt: skip
"""Of the index."""


@dataclass(frozen=True, slots=True)
class ManifestSettings:
    """Keys of a manifest's file; paths relative to where it is run.

    Attributes:
        collection: collection_id of Imaging Data Commons, e.g. nsclc_radiomics.
        output: Folder of the manifest and its list of series.
        annotations: RTSTRUCT, SEG: the modality of what is drawn.
        analysis_result: analysis_result_id whose annotations are taken; "" for the collection's own.
        least_images: CT series with fewer are scouts and are left out.
        patients: Take only the first so many, by name, to try it out; 0 takes all.
    """

    collection: str
    output: str
    annotations: str = "RTSTRUCT"
    analysis_result: str = ""
    least_images: int = 20
    patients: int = 0


def manifest(settings_path: Path) -> dict[str, Any]:
    """The verb: annotations of a collection and the CT series of their studies.

    Returns:
        Counts: patients, CT series, annotations, gigabytes; licences and DOIs to cite; version of the index.

    Raises:
        ConfigError: The settings are wrong, idc-index-data is not installed, or the index has no such series.
        OutputError: The disk is full or read-only.
    """
    settings = from_plain(ManifestSettings, read_yaml(settings_path), where=settings_path.name)
    rows = select_series(settings)
    folder = Path(settings.output)
    write_bytes(folder / MANIFEST, s5cmd_lines(rows).encode())
    write_bytes(folder / SERIES, _series_csv(rows).encode())
    facts = {
        "patients": len({row["PatientID"] for row in rows}),
        "ct_series": sum(row["Modality"] == "CT" for row in rows),
        "annotations": sum(row["Modality"] != "CT" for row in rows),
        "gigabytes": sum(row["series_size_MB"] for row in rows) / 1000,
        "licences": sorted({row["license_short_name"] for row in rows}),
        "dois": sorted({row["source_DOI"] for row in rows}),
        "index": version("idc-index-data"),
    }
    text = "%d patients: %d CT series, %d %s, %.1f GB (licence %s; cite %s)"
    counts = (facts["patients"], facts["ct_series"], facts["annotations"], settings.annotations, facts["gigabytes"])
    log.info(text, *counts, ", ".join(facts["licences"]), ", ".join(facts["dois"]))
    log.info("download with: cd %s && s5cmd --no-sign-request run %s", folder.name, MANIFEST)
    return facts


def select_series(settings: ManifestSettings) -> list[dict[str, Any]]:
    """Rows of the index: annotations, and the CT series of the same studies, patient by patient.

    Raises:
        ConfigError: The index is not installed, or has no such series.
    """
    rows = _read_index(settings.collection)
    drawn = [
        row
        for row in rows
        if row["Modality"] == settings.annotations and (row["analysis_result_id"] or "") == settings.analysis_result
    ]
    patients = sorted({row["PatientID"] for row in drawn})
    taken = set(patients[: settings.patients] if settings.patients else patients)
    drawn = [row for row in drawn if row["PatientID"] in taken]
    studies = {row["StudyInstanceUID"] for row in drawn}
    ct = [
        row
        for row in rows
        if row["Modality"] == "CT"
        and row["StudyInstanceUID"] in studies
        and row["instanceCount"] >= settings.least_images
    ]
    if not drawn or not ct:
        what = f"{settings.annotations} of {settings.analysis_result or 'the collection itself'}"
        raise ConfigError(f"the index has no {what} with CT", settings.collection, "see Imaging Data Commons' portal")
    return sorted(ct + drawn, key=lambda row: (row["PatientID"], row["Modality"], row["SeriesInstanceUID"]))


def s5cmd_lines(rows: list[dict[str, Any]]) -> str:
    """One copy command per series; each goes to a folder of its study and series."""
    return "".join(
        f"cp {row['series_aws_url']} dicom/{row['StudyInstanceUID']}/{row['SeriesInstanceUID']}/\n" for row in rows
    )


def _read_index(collection: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    try:
        import idc_index_data
    except ImportError as error:
        fix = "install the training group, or `pip install idc-index-data`"
        raise ConfigError("the index of Imaging Data Commons is not installed", "idc-index-data", fix) from error
    path = idc_index_data.IDC_INDEX_PARQUET_FILEPATH
    table = pq.read_table(path, columns=list(COLUMNS), filters=[("collection_id", "=", collection)])
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _series_csv(rows: list[dict[str, Any]]) -> str:
    """What the manifest holds; no patients."""
    columns = [name for name in COLUMNS if name != "PatientID"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
