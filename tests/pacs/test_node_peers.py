"""Real peers: Orthanc and DCMTK send to `fmcib serve`, Orthanc gets SR and SEG, by C-STORE and by STOW-RS."""

import gc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
import yaml
from dicomweb_client import DICOMwebClient

from fmcib_module import run
from tests import phantoms
from tests.pacs.node_helpers import free_port, wait_for
from tests.pacs.node_orthanc import Orthanc, needs_orthanc, orthanc
from tests.tools import needs_tool

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

DCMTK = "/usr/bin"
"""pynetdicom installs programs of the same names."""

WHEN = {"ContentDate", "ContentTime", "InstanceCreationDate", "InstanceCreationTime"}


def dcmtk(name: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run one of its programs."""
    program = str(shutil.which(name, path=DCMTK))
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


class ServeProcess:
    """`fmcib serve` as a person starts it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.port, self.log = free_port(), folder / "audit.log"
        values = {
            "folder": str(folder / "node"),
            "port": self.port,
            "http_port": free_port(),
            "peers": [{"ae_title": "ORTHANC", "address": "127.0.0.1"}, {"ae_title": "STORESCU"}],
            "quiet_s": 1.0,
            "free_disk_gb": 0.1,
            "run": {"pictures": False},
            **settings,
        }
        (folder / "serve.yml").write_text(yaml.safe_dump(values))
        command = [sys.executable, "-m", "fmcib_module.cli", "serve", "--config", str(folder / "serve.yml")]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stderr=log)
        wait_for(lambda: "node-started" in self.log.read_text(), 30)

    def stop(self) -> None:
        os.kill(self.process.pid, signal.SIGTERM)
        assert self.process.wait(60) == 0
        assert "node-stopped" in self.log.read_text()
        gc.collect()


def without_time(path: Path) -> pydicom.Dataset:
    """An object without when it was made."""
    dataset = pydicom.dcmread(path)
    for keyword in WHEN & set(dataset.dir()):
        del dataset[keyword]
    for equipment in dataset.get("ContributingEquipmentSequence", []):
        equipment.pop("ContributionDateTime", None)
    return dataset


def retrieve(server: Orthanc, study_uid: str, folder: Path) -> dict[str, Path]:
    """SR and SEG of our making, found by QIDO and fetched by WADO: SOPInstanceUID -> file."""
    client = DICOMwebClient(server.dicomweb)
    found = {}
    for modality in ("SR", "SEG"):
        for series in client.search_for_series(study_uid, search_filters={"Modality": modality}):
            uid = series["0020000E"]["Value"][0]
            for dataset in client.retrieve_series(study_uid, uid):
                if dataset.Manufacturer == "The fmcib-module authors":
                    found[dataset.SOPInstanceUID] = folder / f"{modality}-{len(found)}.dcm"
                    dataset.save_as(found[dataset.SOPInstanceUID], enforce_file_format=True)
    client._session.close()
    return found


@needs_orthanc
@needs_tool("dsrdump")
@pytest.mark.parametrize("way", ["cstore", "stow"])
def test_orthanc_sends_a_study_and_gets_the_results_of_fmcib_run(tmp_path, way):
    study = phantoms.write_study(tmp_path / "in", seg=True)
    run(tmp_path / "in", tmp_path / "out", pictures=False, report=False)
    expected = {path.name: without_time(path) for path in (tmp_path / "out").rglob("*.dcm")}
    assert set(expected) == {"features.sr.dcm", "seeds.seg.dcm"}
    node_port = free_port()
    with orthanc(tmp_path / "orthanc", {"fmcib": ("FMCIB", node_port)}) as server:
        to = {"name": "archive", "protocol": way, "ae_title": "ORTHANC", "host": "127.0.0.1"}
        to |= {"port": server.dicom_port, "url": server.dicomweb}
        node = ServeProcess(tmp_path, port=node_port, destinations=[to])
        try:
            server.upload(study.folder)
            server.send_all("fmcib")
            wait_for(lambda: node.log.read_text().count('"delivered"') == 2, 60)
            server.send_all("fmcib")  # all of it once more, with our results among it
            wait_for(lambda: node.log.read_text().count('"own-result-ignored"') == 2, 30)
        finally:
            node.stop()
        found = retrieve(server, study.study_uid, tmp_path)
    got = {pydicom.dcmread(path).Modality: path for path in found.values()}
    assert len(found) == 2
    for modality, name in (("SR", "features.sr.dcm"), ("SEG", "seeds.seg.dcm")):
        assert without_time(got[modality]) == expected[name]
    assert dcmtk("dsrdump", got["SR"]).returncode == 0
    log = node.log.read_text()
    assert log.count('"study-started"') == 1
    assert "PHANTOM" not in log


@needs_orthanc
@needs_tool("storescu")
def test_dcmtk_sends_ct_with_seg_and_an_orthanc_that_was_down_gets_the_results_too(tmp_path):
    study = phantoms.write_study(tmp_path / "in", rtstruct=False)
    inbox, port = tmp_path / "inbox", free_port()
    inbox.mkdir()
    storescp = subprocess.Popen([str(shutil.which("storescp", path=DCMTK)), "-od", str(inbox), str(port)])
    late_port = free_port()
    to = {"name": "storescp", "ae_title": "ANY", "host": "127.0.0.1", "port": port}
    late = {"name": "late", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": late_port}
    node = ServeProcess(tmp_path, destinations=[to, late])
    try:
        assert dcmtk("echoscu", "-aec", "FMCIB", "-aet", "STORESCU", "127.0.0.1", node.port).returncode == 0
        refused = dcmtk("echoscu", "-aec", "FMCIB", "-aet", "NOBODY", "127.0.0.1", node.port)
        assert "Calling AE Title Not Recognized" in refused.stderr
        sent = dcmtk("storescu", "-R", "-aec", "FMCIB", "+sd", "+r", "127.0.0.1", node.port, study.folder)
        assert sent.returncode == 0, sent.stderr
        wait_for(lambda: '"delivered"' in node.log.read_text(), 60)
        wait_for(lambda: '"delivery-failed"' in node.log.read_text(), 30)
        with orthanc(tmp_path / "orthanc", {}, port=late_port) as server:
            wait_for(lambda: node.log.read_text().count('"delivered"') == 2, 60)
            (instance,) = server.get("instances")
            assert server.get(f"instances/{instance}/simplified-tags")["Modality"] == "SR"
    finally:
        node.stop()
        storescp.terminate()
        storescp.wait(10)
    (sr,) = [pydicom.dcmread(path) for path in inbox.iterdir()]
    assert (sr.Modality, sr.StudyInstanceUID) == ("SR", study.study_uid)
    referenced = {item.ReferencedSOPInstanceUID for item in _referenced(sr)}
    assert pydicom.dcmread(study.seg_path).SOPInstanceUID in referenced


def _referenced(sr: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    for evidence in sr.CurrentRequestedProcedureEvidenceSequence:
        for series in evidence.ReferencedSeriesSequence:
            yield from series.ReferencedSOPSequence
