"""Who does an item: one job at a time, a dead one's successor, nobody twice."""

import os
import threading
from pathlib import Path

import pytest

from fmcib_module.batch import claims
from fmcib_module.batch.claims import FOLDER, Claim, Claims, Task, describe_once, job_name, signs_of_life, survey
from fmcib_module.batch.items import Item
from fmcib_module.batch.store import FolderStore
from fmcib_module.core.errors import OutputError

ITEM = Item(("s3://bucket/ct",))
TASK = Task(ITEM, 0)
ELSEWHERE = "0123456789abcdef:another-machine:1:1"
"""A job on another machine."""
DEAD_HERE = job_name().rsplit(":", 1)[0] + ":0"
"""A job with our machine and process number, started at another time: its process is gone."""


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "output")


def test_of_many_jobs_at_once_one_gets_an_item(store: FolderStore) -> None:
    jobs = [Claims(store, f"job{n}") for n in range(16)]
    answers: list[Claim] = []
    threads = [threading.Thread(target=lambda job=job: answers.append(job.claim(TASK))) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [Claim.BUSY] * 15 + [Claim.OURS]


def test_a_retry_of_a_lost_worker_goes_on_and_does_not_repeat_what_is_done(store: FolderStore) -> None:
    job = Claims(store, "job")
    assert job.claim(TASK) is Claim.OURS
    assert job.claim(TASK) is Claim.OURS
    assert job.record(TASK, b"{}", failed=False)
    assert job.claim(TASK) is Claim.DONE


def test_an_item_that_workers_die_of_is_given_up(store: FolderStore) -> None:
    job = Claims(store, "job")
    answers = [job.claim(TASK) for _ in range(claims.MOST_ATTEMPTS + 1)]
    assert answers == [Claim.OURS] * claims.MOST_ATTEMPTS + [Claim.DEADLY]


def test_a_record_is_made_once(store: FolderStore) -> None:
    assert Claims(store, "one").record(TASK, b"first", failed=False)
    assert not Claims(store, "two").record(TASK, b"second", failed=False)
    assert store.read(f"{FOLDER}/done/{TASK.name}.ok") == b"first"


def test_done_is_left_alone_and_failed_is_repeated(store: FolderStore) -> None:
    done, failed, new = (Item((name,)) for name in ("done", "failed", "new"))
    job = Claims(store, ELSEWHERE)
    for item in (done, failed):
        job.claim(Task(item, 0))
        job.record(Task(item, 0), b"{}", failed=item is failed)
    found = survey(store, [done, failed, new])
    assert found.tasks == (Task(failed, 1), Task(new, 0))
    assert set(found.records) == {done.key, failed.key}


def test_a_job_of_another_machine_lives_as_long_as_it_says_so(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    Claims(store, ELSEWHERE).claim(TASK)
    with signs_of_life(store, ELSEWHERE):
        assert survey(store, [ITEM]).busy == (ITEM,)
    long_ago = store.modified(f"{FOLDER}/clock") - claims.DEAD_AFTER_S - 1
    assert store.folder is not None
    os.utime(store.folder / FOLDER / "jobs" / ELSEWHERE.partition(":")[0], (long_ago, long_ago))
    assert survey(store, [ITEM]).tasks == (Task(ITEM, 1),)


def test_a_job_of_this_machine_is_dead_with_its_process(store: FolderStore) -> None:
    Claims(store, DEAD_HERE).claim(TASK)
    with signs_of_life(store, DEAD_HERE):  # written, but by nobody who lives
        assert survey(store, [ITEM]).tasks == (Task(ITEM, 1),)
    alive = Item(("alive",))
    Claims(store, job_name()).claim(Task(alive, 0))
    assert survey(store, [alive]).busy == (alive,)


def test_a_job_that_was_taken_for_dead_learns_that_its_item_is_gone(store: FolderStore) -> None:
    late, successor = Claims(store, ELSEWHERE), Claims(store, job_name())
    late.claim(TASK)
    assert late.is_ours(TASK)
    successor.claim(Task(ITEM, 1))
    assert not late.is_ours(TASK)


def test_results_of_another_configuration_are_refused(store: FolderStore) -> None:
    run = {"settings_sha256": "a", "weights_sha256": "b", "version": "c", "mode": "published"}
    describe_once(store, run)
    describe_once(store, run | {"mode": "told twice"})
    with pytest.raises(OutputError, match="different: weights_sha256"):
        describe_once(store, run | {"weights_sha256": "other"})
    with pytest.raises(OutputError, match=r"another configuration \(different: heads\)"):
        describe_once(store, run | {"heads": [{"name": "malignancy", "sha256": "ab"}]})


@pytest.mark.parametrize("content", [b"", b"[]", b'{"version": "c"}'])
def test_a_job_json_that_says_nothing_is_refused(store: FolderStore, content: bytes) -> None:
    store.create(f"{FOLDER}/job.json", content)
    with pytest.raises(OutputError, match="cannot be read"):
        describe_once(store, {"settings_sha256": "a", "weights_sha256": "b", "version": "c"})
