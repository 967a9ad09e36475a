"""Many studies at once, a node that is killed again and again, an archive that is down: nothing is lost or changed."""

import contextlib
import gc
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydicom.dataset import Dataset
from pynetdicom import AE

from fmcib_module.pacs.received import hashed_name
from fmcib_module.pacs.state import StudyState
from tests.pacs.node_helpers import events, free_port, node_settings, running, send, small_study, wait_for
from tests.pacs.receiver import Receiver

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
"""pynetdicom leaves a socket to the garbage collector when nobody answers."""

STUDIES, SENDERS, KILLS = 100, 8, 10


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver(free_port())
    one.start()
    yield one
    one.stop()
    gc.collect()


def to(receiver: Receiver) -> list[dict[str, Any]]:
    return [{"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": receiver.port}]


def share_out(studies: list[list[Dataset]], chance: random.Random) -> list[list[Dataset]]:
    """All objects, a quarter of them twice, in random order for each of the senders."""
    objects = [dataset for study in studies for dataset in study]
    objects += chance.sample(objects, len(objects) // 4)
    chance.shuffle(objects)
    return [objects[n::SENDERS] for n in range(SENDERS)]


@pytest.mark.slow
def test_a_hundred_studies_from_eight_senders_are_each_run_once_and_delivered_once(tmp_path, receiver):
    studies = [small_study(f"load {n}") for n in range(STUDIES)]
    settings = node_settings(tmp_path, quiet_s=10.0, destinations=to(receiver), maximum_associations=20, timeout_s=30.0)
    statuses: list[int] = []
    with running(settings) as (service, log):
        parts = share_out(studies, random.Random(1))
        threads = [threading.Thread(target=lambda p=part: statuses.extend(send(service.port, p))) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: service.state.counts()[StudyState.DONE] == STUDIES, 60)
        wait_for(lambda: len(receiver.contents) == STUDIES, 30)
    assert set(statuses) == {0}
    assert len(statuses) == sum(map(len, parts)) == STUDIES * 5
    runs = Counter((tmp_path / "runs").read_text().split())
    assert runs == {hashed_name(study[0].StudyInstanceUID): 1 for study in studies}
    assert {len(contents) for contents in receiver.contents.values()} == {1}
    assert Counter(event["event"] for event in events(log))["study-done"] == STUDIES


class KilledNode:
    """A node's process; killed and started again on the same folder and port."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        self.folder, self.port, self.http_port = folder, free_port(), free_port()
        values = {
            "folder": str(folder / "node"),
            "port": self.port,
            "http_port": self.http_port,
            "peers": [{"ae_title": "TESTER"}],
            "destinations": to(receiver),
            "quiet_s": 0.2,
            "free_disk_gb": 0.1,
            "maximum_associations": 20,
        }
        self.config = folder / "serve.yml"
        self.config.write_text(yaml.safe_dump(values))
        self.process: Any = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.pacs.node_process", str(self.config)]
        with (self.folder / "audit.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=log)

    def answers(self) -> bool:
        """Whether it is up: one that is told to stop before that ends by the signal."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.http_port), timeout=1):
            return True
        return False

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


def send_until_acknowledged(port: int, datasets: list[Dataset], acknowledged: set[str], stop: threading.Event) -> None:
    """As a careful modality: what was not acknowledged is sent again."""
    left = list(datasets)
    while left and not stop.is_set():
        entity = AE("TESTER")
        for uids in sorted({(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in datasets}):
            entity.add_requested_context(*uids)
        entity.connection_timeout = entity.dimse_timeout = entity.acse_timeout = 5
        association = entity.associate("127.0.0.1", port, ae_title="FMCIB")
        try:
            while left and association.is_established:
                if association.send_c_store(left[0]).get("Status") == 0:
                    acknowledged.add(left.pop(0).SOPInstanceUID)
        except RuntimeError:
            pass  # the node is gone
        if association.is_established:
            association.release()
        stop.wait(0.05)


@pytest.mark.slow
def test_killed_ten_times_under_load_it_loses_nothing_and_changes_nothing(tmp_path, receiver):
    chance = random.Random(2)
    studies = [small_study(f"killed {n}") for n in range(60)]
    node, stop, acknowledged = KilledNode(tmp_path, receiver), threading.Event(), set()
    node.start()
    parts = share_out(studies, chance)
    threads = [
        threading.Thread(target=send_until_acknowledged, args=(node.port, part, acknowledged, stop)) for part in parts
    ]
    for thread in threads:
        thread.start()
    spool = tmp_path / "node" / "spool"
    try:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.3, 2.0))
            node.kill()
            there = {path.stem for path in spool.rglob("*.dcm")} if spool.exists() else set()
            assert {hashed_name(uid) for uid in set(acknowledged)} <= there
            node.start()
        for thread in threads:
            thread.join(60)
        assert acknowledged == {dataset.SOPInstanceUID for study in studies for dataset in study}
        wait_for(lambda: studies_done(tmp_path / "node") == len(studies), 60)
        wait_for(node.answers)
    finally:
        stop.set()
        node.process.send_signal(signal.SIGTERM)
        status = node.process.wait(30)
    assert status == 0
    assert len(receiver.contents) >= len(studies)
    changed = {uid: contents for uid, contents in receiver.contents.items() if len(set(contents)) != 1}
    assert changed == {}
    assert "SECRET" not in (tmp_path / "audit.log").read_text()


def studies_done(folder: Path) -> int:
    """Studies that are done with all of their objects, with nothing left to deliver; 0 while something is open."""
    with contextlib.closing(sqlite3.connect(folder / "state.sqlite")) as db:
        (left,) = db.execute("SELECT count(*) FROM studies WHERE state != 'done'").fetchone()
        (waiting,) = db.execute("SELECT count(*) FROM deliveries WHERE state != 'delivered'").fetchone()
        (done,) = db.execute("SELECT count(*) FROM studies").fetchone()
    return 0 if left or waiting else int(done)


def test_an_archive_that_is_down_gets_everything_when_it_is_back(tmp_path, monkeypatch):
    from fmcib_module.pacs import delivery

    monkeypatch.setattr(delivery, "FIRST_WAIT_S", 0.1)
    receiver = Receiver(free_port())
    with running(node_settings(tmp_path, destinations=to(receiver))) as (service, log):
        send(service.port, small_study("down"))
        wait_for(lambda: "delivery-failed" in {event["event"] for event in events(log)})
        receiver.start()
        wait_for(lambda: "delivered" in {event["event"] for event in events(log)})
    receiver.stop()
    gc.collect()
    (contents,) = receiver.contents.values()
    assert len(contents) == 1
    assert "it does not answer" in next(e["reason"] for e in events(log) if e["event"] == "delivery-failed")
