"""Debian's Orthanc as a peer: started on loopback with its own ports and folder, stopped by its process id."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import requests

PROGRAM = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin") or "Orthanc"
PLUGINS = Path("/usr/share/orthanc/plugins")
DICOMWEB = PLUGINS / "libOrthancDicomWeb.so"

USER, PASSWORD = "fmcib", "pâss:wörd"

needs_orthanc = pytest.mark.skipif(
    not DICOMWEB.is_file() and os.environ.get("CI") != "true",
    reason="Orthanc and its DICOMweb plugin are not installed (apt install orthanc orthanc-dicomweb)",
)


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Orthanc:
    """One server; its folder keeps what it holds when it is stopped and started again."""

    def __init__(self, folder: Path, **configuration: Any) -> None:
        self.folder = folder
        self.port, self.dicom_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.dicomweb = f"{self.url}/dicom-web"
        folder.mkdir(parents=True)
        (folder / "orthanc.json").write_text(
            json.dumps(
                {
                    "StorageDirectory": str(folder / "storage"),
                    "IndexDirectory": str(folder / "storage"),
                    "HttpPort": self.port,
                    "DicomPort": self.dicom_port,
                    "AuthenticationEnabled": True,
                    "RegisteredUsers": {USER: PASSWORD},
                    "Plugins": [str(DICOMWEB)],
                    "DicomWeb": {"Enable": True},
                    "StableAge": 1,
                    "DicomAlwaysAllowFind": True,
                    "DicomAlwaysAllowGet": True,
                    **configuration,
                }
            )
        )
        self.session = requests.Session()
        self.session.auth = (USER.encode(), PASSWORD.encode())
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.session.close()

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "orthanc.log").open("ab") as log:
            command = [PROGRAM, str(self.folder / "orthanc.json")]
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        for _ in range(300):
            try:
                if self.session.get(f"{self.url}/system", timeout=2).ok:
                    return
            except requests.ConnectionError:
                time.sleep(0.1)
        self.stop()
        raise RuntimeError((self.folder / "orthanc.log").read_text(errors="replace")[-2000:])

    def stop(self) -> None:
        """End it and wait."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def get(self, path: str, **parameters: str) -> Any:
        """What its REST interface answers, from JSON."""
        answer = self.session.get(f"{self.url}{path}", params=parameters, timeout=20)
        answer.raise_for_status()
        return answer.json()

    def send(self, *paths: Path) -> None:
        """Store files over REST."""
        for path in paths:
            answer = self.session.post(f"{self.url}/instances", data=path.read_bytes(), timeout=20)
            answer.raise_for_status()

    def send_folder(self, folder: Path) -> None:
        """Store every DICOM file under a folder."""
        self.send(*sorted(folder.rglob("*.dcm")))

    def wait_until_stable(self) -> None:
        """Wait until nothing is being received any more."""
        for _ in range(200):
            if all(study["IsStable"] for study in self.get("/studies", expand="")):
                return
            time.sleep(0.1)
        raise RuntimeError("a study does not become stable")

    def instances(self, modality: str) -> list[str]:
        """Orthanc's own names of the instances of a modality."""
        series = [one for one in self.get("/series", expand="") if one["MainDicomTags"].get("Modality") == modality]
        return sorted(name for one in series for name in one["Instances"])

    def file(self, instance: str) -> bytes:
        """A stored file."""
        answer = self.session.get(f"{self.url}/instances/{instance}/file", timeout=20)
        answer.raise_for_status()
        return answer.content


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """A running Orthanc with nothing in it."""
    with Orthanc(tmp_path / "orthanc") as server:
        yield server
