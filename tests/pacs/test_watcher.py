"""What the watcher makes of trouble, with stand-ins for the Orthanc and for the work."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from fmcib_module.core.errors import OutputError, PeerError, PeerUnavailableError
from fmcib_module.pacs import orthanc_watch
from fmcib_module.pacs.orthanc import Instance, Listing
from fmcib_module.pacs.orthanc_watch import ATTEMPTS, Watcher, WatchSettings
from fmcib_module.pacs.web import Access
from fmcib_module.pacs.worker import Job, Outcome, WorkerError
from fmcib_module.settings import Settings


class Stand:
    """An Orthanc with one study, and the work on it; `trouble` is raised by what it names."""

    def __init__(self) -> None:
        self.trouble: dict[str, Exception] = {}
        self.objects = 2
        self.uploaded: list[str] = []
        self.outcome = Outcome(("s/features.sr.dcm", "s/seeds.seg.dcm"), 1)

    def last_change(self) -> int:
        return self.objects

    def changes(self, since: int) -> tuple[list[dict[str, Any]], int, bool]:
        return [{}], self.objects, True

    def studies_of(self, changes: object) -> set[str]:
        return {"study"}

    def study(self, name: str) -> Listing | None:
        if not self.objects:
            return None
        instances = tuple(Instance(f"i{n}", "v", 1) for n in range(self.objects))
        return Listing("1.2.3", stable=True, modalities=frozenset({"CT", "SEG"}), instances=instances)

    def download(self, instance: Instance, path: Path) -> None:
        self._raise("download")
        path.write_bytes(b"")

    def upload(self, path: Path) -> bool:
        self._raise("upload")
        self.uploaded.append(path.name)
        return True

    def run(self, job: Job, timeout_s: float) -> Outcome:
        self._raise("run")
        return self.outcome

    def stop(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is open."""

    def _raise(self, what: str) -> None:
        if what in self.trouble:
            raise self.trouble[what]


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    """Takes the place of Orthanc and worker; waiting takes no time."""
    one = Stand()
    monkeypatch.setattr(orthanc_watch, "Orthanc", lambda *_: one)
    monkeypatch.setattr(orthanc_watch, "Worker", lambda *_: one)
    monkeypatch.setattr(orthanc_watch, "back_off_s", lambda _: 0.0)
    return one


def once(folder: Path, **settings: Any) -> list[dict[str, Any]]:
    """What a watcher logs while it does what there is to do."""
    log = io.StringIO()
    chosen: dict[str, Any] = {"from_start": True, "free_disk_gb": 0.0, **settings}
    with Watcher(WatchSettings(folder, "http://127.0.0.1", Settings(), **chosen), Access(), log) as watcher:
        watcher.once()
    return [json.loads(line) for line in log.getvalue().splitlines()]


REFUSED = PeerError("it refuses (HTTP 409)", "Orthanc", "look at its log")
FULL = OutputError("cannot be written: No space left on device", "pulled/one", "free disk space")


@pytest.mark.parametrize(
    ("where", "error"), [("run", WorkerError("it died")), ("upload", REFUSED), ("download", FULL)], ids=str
)
def test_a_study_that_fails_is_tried_again_and_then_let_go_until_it_changes(stand, tmp_path, where, error):
    stand.trouble = {where: error}
    seen = [entry["event"] for _ in range(ATTEMPTS + 2) for entry in once(tmp_path)]
    assert seen == ["study-retried"] * (ATTEMPTS - 1) + ["study-failed"]
    stand.trouble = {}
    assert once(tmp_path) == []
    stand.objects += 1
    [entry] = once(tmp_path)
    assert entry["event"] == "study-done"
    assert stand.uploaded == ["seeds.seg.dcm", "features.sr.dcm"], "segments before what refers to them"


def test_a_peer_that_is_away_is_no_fault_of_the_study(stand, tmp_path):
    stand.trouble = {"upload": PeerUnavailableError("it does not answer", "Orthanc", "start it")}
    for _ in range(ATTEMPTS + 1):
        with pytest.raises(PeerUnavailableError):
            once(tmp_path)
    stand.trouble = {}
    assert [entry["event"] for entry in once(tmp_path)] == ["study-done"]


def test_a_study_that_takes_the_program_down_is_given_up(stand, tmp_path):
    stand.trouble = {"run": MemoryError()}  # stands for a kill: nothing after it is reached
    for _ in range(ATTEMPTS):
        with pytest.raises(MemoryError):
            once(tmp_path)
    [entry] = once(tmp_path)
    assert entry["event"] == "study-failed"


def test_old_results_go_and_pulled_objects_do_not_stay(stand, tmp_path):
    for n in range(3):
        (tmp_path / "results" / f"1.{n}").mkdir(parents=True)
    once(tmp_path, keep=1)
    assert len(list((tmp_path / "results").iterdir())) == 1
    assert not list((tmp_path / "pulled").iterdir())


def test_at_its_first_start_it_takes_what_comes_from_then_on(stand, tmp_path):
    assert once(tmp_path, from_start=False) == []
    stand.objects += 1
    assert [entry["event"] for entry in once(tmp_path, from_start=False)] == ["study-done"]


def test_an_orthanc_that_starts_over_is_followed_from_its_beginning(stand, tmp_path):
    stand.objects = 9
    once(tmp_path)
    stand.objects = 1
    assert [entry["event"] for entry in once(tmp_path)] == ["changes-start-over", "study-done"]


def test_of_a_study_that_is_deleted_meanwhile_nothing_stays(stand, tmp_path):
    stand.trouble = {"run": WorkerError("it died")}
    once(tmp_path)
    assert list((tmp_path / "pulled").rglob("*.dcm"))
    stand.objects = 0
    assert [entry["event"] for entry in once(tmp_path)] == ["changes-start-over"]
    assert not list((tmp_path / "pulled").iterdir())
    assert once(tmp_path) == []
