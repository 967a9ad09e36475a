"""Imaging Data Commons: the packaged index gives the series of the paper's cohorts; s5cmd can run the list."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fmcib_module.core.errors import ConfigError
from tests import phantoms
from tests.tools import needs_tool, tool
from training.cohorts.cohort import cohort
from training.cohorts.manifest import manifest
from training.lesion_table import read_lesion_table

idc_index_data = pytest.importorskip("idc_index_data", reason="the index of Imaging Data Commons is not installed")


def run(folder: Path, **settings: object) -> dict[str, Any]:
    """The verb, with its counts."""
    (folder / "manifest.yml").write_text(json.dumps({"output": "list", **settings}), encoding="utf-8")
    with chdir(folder):
        return manifest(Path("manifest.yml"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "patients", "least_ct", "annotations"),
    [
        # the collections' own pages: LUNG1 422 patients, Radiogenomics 144 with a segmentation; RIDER: 31 outlined
        ({"collection": "nsclc_radiomics"}, 422, 422, 422),
        ({"collection": "nsclc_radiogenomics", "annotations": "SEG"}, 144, 144, 144),
        ({"collection": "rider_lung_ct", "analysis_result": "rider_lungct_seg"}, 31, 59, 59),
    ],
)
def test_the_papers_collections_are_found_without_a_network(
    tmp_path: Path, settings: dict[str, str], patients: int, least_ct: int, annotations: int
) -> None:
    facts = run(tmp_path, **settings)
    assert (facts["patients"], facts["annotations"]) == (patients, annotations)
    assert facts["ct_series"] >= least_ct
    lines = (tmp_path / "list" / "manifest.s5cmd").read_text().splitlines()
    assert len(lines) == len(set(lines)) == facts["ct_series"] + facts["annotations"]
    assert all(line.startswith("cp s3://idc-open-data") for line in lines)
    series = (tmp_path / "list" / "series.csv").read_text()
    assert "LUNG1-" not in series
    assert "R01-" not in series


@pytest.fixture
def small_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index of two patients: CT, scouts, another study, annotations of the collection and of others."""
    series = [  # patient, study, series, modality, images, analysis result
        ("P2", "1.2", "1.2.1", "CT", 120, None),
        ("P2", "1.2", "1.2.2", "CT", 2, None),
        ("P2", "1.2", "1.2.3", "RTSTRUCT", 1, None),
        ("P2", "1.9", "1.9.1", "CT", 120, None),
        ("P1", "1.1", "1.1.1", "CT", 90, None),
        ("P1", "1.1", "1.1.2", "RTSTRUCT", 1, None),
        ("P1", "1.1", "1.1.3", "SEG", 1, "nnunet"),
        ("P3", "1.3", "1.3.1", "CT", 90, None),
    ]
    rows = [
        {
            "collection_id": "lung", "PatientID": patient, "StudyInstanceUID": study, "SeriesInstanceUID": uid,
            "Modality": modality, "instanceCount": images, "analysis_result_id": result, "series_size_MB": 500.0,
            "license_short_name": "CC BY 3.0", "source_DOI": "10.1/x", "series_aws_url": f"s3://bucket/{uid}/*",
        }
        for patient, study, uid, modality, images, result in series
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(tmp_path / "index.parquet")
    monkeypatch.setattr(idc_index_data, "IDC_INDEX_PARQUET_FILEPATH", tmp_path / "index.parquet")


def lines_of(folder: Path) -> list[str]:
    """Of the manifest."""
    return (folder / "list" / "manifest.s5cmd").read_text().splitlines()


@pytest.mark.usefixtures("small_index")
def test_annotations_and_the_scans_of_their_studies_are_listed_patient_by_patient(tmp_path: Path) -> None:
    facts = run(tmp_path, collection="lung")
    assert lines_of(tmp_path) == [
        "cp s3://bucket/1.1.1/* dicom/1.1/1.1.1/",
        "cp s3://bucket/1.1.2/* dicom/1.1/1.1.2/",
        "cp s3://bucket/1.2.1/* dicom/1.2/1.2.1/",
        "cp s3://bucket/1.2.3/* dicom/1.2/1.2.3/",
    ]
    assert (facts["patients"], facts["ct_series"], facts["annotations"], facts["gigabytes"]) == (2, 2, 2, 2.0)
    run(tmp_path, collection="lung", annotations="SEG", analysis_result="nnunet")
    assert [line.split("/")[3] for line in lines_of(tmp_path)] == ["1.1.1", "1.1.3"]


@pytest.mark.usefixtures("small_index")
def test_a_few_patients_can_be_taken_to_try_it_out(tmp_path: Path) -> None:
    assert run(tmp_path, collection="lung", patients=1)["patients"] == 1
    assert len(lines_of(tmp_path)) == 2


@pytest.mark.usefixtures("small_index")
@pytest.mark.parametrize("settings", [{"collection": "no_such"}, {"collection": "lung", "annotations": "KO"}])
def test_what_the_index_does_not_have_is_refused(tmp_path: Path, settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="the index has no"):
        run(tmp_path, **settings)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that speaks S3, with nothing on it; yields its address."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.mark.slow
@needs_tool("s5cmd")
def test_what_s5cmd_downloads_becomes_a_lesion_table(tmp_path: Path, s3: str) -> None:
    client = pytest.importorskip("boto3").client("s3", endpoint_url=s3, region_name="us-east-1")
    run(tmp_path, collection="nsclc_radiomics", patients=1)
    lines = (tmp_path / "list" / "manifest.s5cmd").read_text().splitlines()
    study = phantoms.write_study(tmp_path / "phantom", patient_id="LUNG1-001", seg=False)
    assert study.rtstruct_path is not None
    for line, paths in zip(lines, (study.ct_paths, (study.rtstruct_path,)), strict=True):
        bucket, key, _ = line.split()[1].removeprefix("s3://").split("/")
        client.create_bucket(Bucket=bucket)
        for path in paths:
            client.upload_file(str(path), bucket, f"{key}/{path.name}")
    command = [tool("s5cmd"), "--endpoint-url", s3, "run", "manifest.s5cmd"]
    subprocess.run(command, cwd=tmp_path / "list", check=True, capture_output=True, timeout=120)
    settings = {"kind": "dicom", "images": "list/dicom", "output": "out", "rois": ["re:^gtv-?1"]}
    (tmp_path / "cohort.yml").write_text(json.dumps(settings), encoding="utf-8")
    with chdir(tmp_path):
        cohort(Path("cohort.yml"))
    (row,) = read_lesion_table(tmp_path / "out" / "lesions.csv").rows
    assert row.lps_mm == pytest.approx(study.centroids["GTV-1"], abs=1e-3)
