"""An Orthanc of the test's own: on loopback, with its own ports and folder, ended by its process id."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.pacs.node_helpers import free_port, wait_for

ORTHANC = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")

needs_orthanc = pytest.mark.skipif(
    ORTHANC is None or not DICOMWEB.is_file(), reason="orthanc and orthanc-dicomweb are not installed"
)


@dataclass(frozen=True)
class Orthanc:
    """A running server."""

    url: str
    dicom_port: int

    @property
    def dicomweb(self) -> str:
        """Root of its DICOMweb services."""
        return f"{self.url}/dicom-web"

    def get(self, path: str) -> Any:
        answer = requests.get(f"{self.url}/{path}", timeout=10)
        answer.raise_for_status()
        return answer.json()

    def upload(self, folder: Path) -> None:
        for path in sorted(folder.rglob("*.dcm")):
            requests.post(f"{self.url}/instances", data=path.read_bytes(), timeout=30).raise_for_status()

    def send_all(self, modality: str) -> None:
        """C-STORE every study to a modality, and wait until that is done."""
        for study in self.get("studies"):
            body = {"Resources": [study], "Synchronous": True}
            requests.post(f"{self.url}/modalities/{modality}/store", json=body, timeout=60).raise_for_status()


@contextlib.contextmanager
def orthanc(folder: Path, modalities: dict[str, tuple[str, int]], *, port: int = 0) -> Iterator[Orthanc]:
    """Run one.

    Args:
        folder: For its storage.
        modalities: Name -> AE title and port on this machine.
        port: DICOM port; 0 takes a free one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    http_port, dicom_port = free_port(), port or free_port()
    settings = {
        "Name": "TEST",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": "ORTHANC",
        "DicomPort": dicom_port,
        "DicomModalities": {name: [title, "127.0.0.1", port] for name, (title, port) in modalities.items()},
        "Plugins": [str(DICOMWEB)],
        "DicomAlwaysAllowStore": True,
        "UnknownSopClassAccepted": True,
    }
    config = folder / "orthanc.json"
    config.write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("w") as log:
        process = subprocess.Popen([str(ORTHANC), str(config)], stdout=log, stderr=log)
    server = Orthanc(f"http://127.0.0.1:{http_port}", dicom_port)

    def answers() -> bool:
        with contextlib.suppress(requests.RequestException):
            return bool(server.get("system"))
        return False

    try:
        wait_for(answers, 30)
        yield server
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait(20)
