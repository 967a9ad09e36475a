"""What the tests of the node share: small studies, a quick stand-in for the chain, and a service on free ports."""

import contextlib
import io
import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pydicom
from pydicom.dataset import Dataset
from pynetdicom import AE

from fmcib_module.adapters.derived import MANUFACTURER, PRODUCT
from fmcib_module.adapters.roi_writer import rtstruct_dataset
from fmcib_module.adapters.study_writer import StudyTags, ct_datasets, start_dataset, uid_from
from fmcib_module.pacs import dispatch
from fmcib_module.pacs.node_settings import NodeSettings, read_node_settings
from fmcib_module.pacs.service import Service
from fmcib_module.pacs.worker import Job, Outcome, WorkerError, attempt
from tests import phantoms

SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.34"
CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
EXPLICIT = "1.2.840.10008.1.2.1"


def small_study(key: str, *, slices: int = 3, edge: int = 8) -> list[Dataset]:
    """CT slices and one RTSTRUCT on them, a few kilobytes each."""
    shape = (slices, edge, edge)
    grid = phantoms.phantom_grid(shape, (1.5, 1.5, 2.5), "axial")
    tags = StudyTags(key, patient_name="SECRET^NAME", patient_id="SECRET-ID")
    ct = ct_datasets(phantoms.np.zeros(shape, "f4"), grid, tags)
    rois = [phantoms.RoiContours("GTV-1", (phantoms.ellipse_lps((12, -7, 30), *(phantoms.np.eye(3)[:2] * 3)),))]
    return [*ct, rtstruct_dataset(rois, ct, tags)]


def quick_work(job: Job) -> Outcome:
    """Stands for the chain: one small SR per study, whose UID follows from the input and whose text does not."""
    count = job.output.parent.parent / "runs"
    with count.open("a") as file:
        file.write(job.output.name + "\n")
    first = pydicom.dcmread(job.objects[0], force=True)
    tags = StudyTags(first.StudyInstanceUID, date="20240102")
    sr = start_dataset(pydicom.uid.UID(SR_CLASS), "SR", uid_from(first.StudyInstanceUID, "sr series"), tags)
    sr.StudyInstanceUID = first.StudyInstanceUID
    names = "|".join(path.name for path in job.objects)
    sr.SOPInstanceUID = sr.file_meta.MediaStorageSOPInstanceUID = uid_from("sr", names)
    sr.Manufacturer, sr.ManufacturerModelName = MANUFACTURER, PRODUCT
    sr.SeriesDescription = f"made at {time.time_ns()}"  # another run makes another content
    job.output.mkdir(parents=True, exist_ok=True)
    sr.save_as(job.output / "one.sr.dcm", enforce_file_format=True)
    return Outcome(("one.sr.dcm",), 1)


def failing_work(job: Job) -> Outcome:
    """Fails, each time."""
    with (job.output.parent.parent / "runs").open("a") as file:
        file.write(job.output.name + "\n")
    raise OSError(28, "SECRET^NAME")


def slow_work(job: Job) -> Outcome:
    """As `quick_work`, after half a second."""
    time.sleep(0.5)
    return quick_work(job)


def hopeless_work(_job: Job) -> Outcome:
    """Nothing came through, as `fmcib run` says with exit code 4."""
    return Outcome((), 0, "slices are not one uniform grid [SeriesInstanceUID 1.2]: fix", failed=True)


def node_settings(folder: Path, **overrides: Any) -> NodeSettings:
    """Quick, on free ports of this machine."""
    values: dict[str, Any] = {
        "folder": str(folder),
        "port": 0,
        "http_port": -1,
        "peers": [{"ae_title": "TESTER", "address": "127.0.0.1"}],
        "free_disk_gb": 0.1,
        "quiet_s": 0.2,
        "back_off_s": 0.05,
        "timeout_s": 5.0,
    }
    return read_node_settings(None, **{**values, **overrides})


class InlineWorker:
    """Works in the node's own process, which starts no other; `test_worker.py` is about the real ones."""

    def __init__(self, work: Callable[[Job], Outcome], _lock: Path) -> None:
        self._work = work

    def run(self, job: Job, _timeout_s: float) -> Outcome:
        answer = attempt(self._work, job)
        if isinstance(answer, str):
            raise WorkerError(answer)
        return answer

    def stop(self) -> None:
        pass


@contextlib.contextmanager
def running(
    settings: NodeSettings, work: Callable[[Job], Outcome] = quick_work, worker: type = InlineWorker
) -> Iterator[tuple[Service, io.StringIO]]:
    """A node in this process, and its log."""
    log = io.StringIO()
    with mock.patch.object(dispatch, "Worker", worker), Service(settings, log, work) as service:
        yield service, log


def events(log: io.StringIO) -> list[dict[str, Any]]:
    """The audit log's lines."""
    return [json.loads(line) for line in log.getvalue().splitlines()]


def send(port: int, datasets: Sequence[Dataset], *, calling: str = "TESTER", called: str = "FMCIB") -> list[int]:
    """C-STORE with pynetdicom; the statuses, none where the association was not accepted."""
    entity = AE(calling)
    for uids in sorted({(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in datasets}):
        entity.add_requested_context(*uids)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return []
    statuses = [association.send_c_store(ds).Status for ds in datasets]
    association.release()
    return statuses


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Until something is true; fails where it does not become true."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def free_port() -> int:
    """A TCP port that nobody uses now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
