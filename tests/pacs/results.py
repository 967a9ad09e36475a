"""Results in an archive, fetched by QIDO and WADO, against those that `fmcib run` wrote on the same objects."""

import shutil
import subprocess
import warnings
from pathlib import Path

import pydicom
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset

from tests.pacs.orthanc import Orthanc

CLOCKS = ("Content Date", "Content Time", "Instance Creation", "Series Date", "Series Time", "DateTime")


def check_results(orthanc: Orthanc, expected: Path, scratch: Path) -> int:
    """Every SR and SEG under a folder is in the archive, opens with dsrdump and says the same.

    Returns:
        How many SR and SEG the archive holds in all.
    """
    paths = sorted(expected.rglob("*.dcm"))
    for path in paths:
        wanted = pydicom.dcmread(path)
        found = fetch(orthanc, wanted)
        assert words(found) == words(wanted)
        if wanted.Modality == "SR" and shutil.which("dsrdump"):
            copy = scratch / f"{wanted.SOPInstanceUID}.dcm"
            found.save_as(copy, enforce_file_format=True)
            dump = subprocess.run(["dsrdump", "+Pl", copy], capture_output=True, text=True, check=True)
            assert "99FMCIB" in dump.stdout
    return sum(len(orthanc.instances(modality)) for modality in ("SR", "SEG"))


def fetch(orthanc: Orthanc, wanted: Dataset) -> Dataset:
    """An object by its UIDs, asked for as any DICOMweb client would."""
    client = DICOMwebClient(orthanc.dicomweb, session=orthanc.session)
    filters = {"SOPInstanceUID": wanted.SOPInstanceUID}
    found = client.search_for_instances(wanted.StudyInstanceUID, wanted.SeriesInstanceUID, search_filters=filters)
    assert len(found) == 1, f"{wanted.SOPInstanceUID} is not there once"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return client.retrieve_instance(wanted.StudyInstanceUID, wanted.SeriesInstanceUID, wanted.SOPInstanceUID)


def words(dataset: Dataset) -> list[str]:
    """Every element as text, but for those that say when it was written."""
    return [line for line in str(dataset).splitlines() if not any(name in line for name in CLOCKS)]
