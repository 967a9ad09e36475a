"""Who does which item: claims, records and signs of life in the output store, so that no output is written twice.

Below OUTPUT/_batch (no series' folder has a name like this):

    job.json                    what makes the results; a job with other settings or weights is refused
    jobs/JOB                    written again and again by a job that lives
    claims/ITEM.GENERATION      made by the job that does the item; only one job can make it
    done/ITEM.GENERATION.ok     the item's ledger, made last: what it lists is there whole (or .failed)
    series/OUTPUT_NAME          which item writes this folder of OUTPUT

An item is taken over by the next generation where its job is dead, and repeated by it where it failed.
"""

import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from fmcib_module.batch.items import Item
from fmcib_module.batch.retry import StoreError
from fmcib_module.batch.store import Store
from fmcib_module.core.errors import OutputError

FOLDER: Final = "_batch"
OK: Final = "ok"
FAILED: Final = "failed"

BEAT_S: Final = 20.0
"""A living job says so this often."""

DEAD_AFTER_S: Final = 120.0
"""A job that has not said so for this long is dead."""

MOST_ATTEMPTS: Final = 3
"""A worker that dies as often as this on one item is taken to die of it."""

_IF_ANY: Final = ("extractors", "heads", "salt_id")
"""Beside the configuration, where a run has any."""

_CONFIGURATION: Final = ("settings_sha256", "weights_sha256", "version")


class Claim(StrEnum):
    """What came of asking for an item."""

    OURS = "ours"
    DONE = "done"  # by an earlier attempt of this job
    BUSY = "busy"  # another job came first
    DEADLY = "deadly"  # workers die of it


@dataclass(frozen=True, slots=True)
class Task:
    """An item, and the generation that this job tries to claim."""

    item: Item
    generation: int

    @property
    def name(self) -> str:
        """Of its claim and record."""
        return f"{self.item.key}.{self.generation}"


@dataclass(frozen=True, slots=True)
class Survey:
    """What is to be done of some items.

    Attributes:
        tasks: To do, or to do again.
        records: Item's key -> name of the record of what is done.
        busy: Items that another living job does.
    """

    tasks: tuple[Task, ...]
    records: dict[str, str]
    busy: tuple[Item, ...]


class Claims:
    """One job's view of the store."""

    def __init__(self, store: Store, job: str) -> None:
        """Nothing is touched.

        Args:
            store: OUTPUT.
            job: From `job_name`.
        """
        self._store = store
        self._job = job

    def claim(self, task: Task) -> Claim:
        """Take an item; a retry of a lost worker finds its own job's claim and goes on."""
        mine = f"{self._job} {uuid.uuid4().hex}".encode()  # no two attempts write the same
        for attempt in range(1, MOST_ATTEMPTS + 1):
            name = f"{FOLDER}/claims/{task.name}" if attempt == 1 else f"{FOLDER}/attempts/{task.name}.{attempt}"
            if self._store.create(name, mine):
                return Claim.OURS
            if attempt == 1:
                if _owner(self._store, name) != self._job:
                    return Claim.BUSY
                if any(self._store.read(record_name(task, end)) is not None for end in (OK, FAILED)):
                    return Claim.DONE
        return Claim.DEADLY

    def is_ours(self, task: Task) -> bool:
        """Whether nobody has taken the item over, as they do from a job that seems dead."""
        later = Task(task.item, task.generation + 1)
        return self._store.read(f"{FOLDER}/claims/{later.name}") is None

    def own_series(self, task: Task, output_name: str) -> bool:
        """Reserve a folder of OUTPUT for an item; false where another item of the manifest has it."""
        name, key = f"{FOLDER}/series/{output_name}", task.item.key.encode()
        return self._store.create(name, key) or self._store.read(name) == key

    def record(self, task: Task, ledger: bytes, *, failed: bool) -> bool:
        """Commit an item; false where it is on record already."""
        return self._store.create(record_name(task, FAILED if failed else OK), ledger)


def record_name(task: Task, end: str) -> str:
    """Where an item's ledger lies, relative to OUTPUT."""
    return f"{FOLDER}/done/{task.name}.{end}"


def survey(store: Store, items: Sequence[Item]) -> Survey:
    """Look at what the store says of items: two listings, and a look at each job that left claims without a record."""
    claimed: dict[str, int] = {}
    for name in store.names(f"{FOLDER}/claims"):
        key, _, number = name.partition(".")
        claimed[key] = max(claimed.get(key, -1), int(number))
    records: dict[str, tuple[int, str]] = {}
    for name in store.names(f"{FOLDER}/done"):
        key, number, _ = name.split(".")
        records[key] = max(records.get(key, (-1, "")), (int(number), f"{FOLDER}/done/{name}"))
    alive: dict[str, bool] = {}
    now = _store_time(store)
    tasks: list[Task] = []
    busy: list[Item] = []
    for item in items:
        generation, record = records.get(item.key, (-1, ""))
        latest = claimed.get(item.key, -1)
        if generation >= latest >= 0:  # its last claim is on record
            if not record.endswith(OK):
                tasks.append(Task(item, latest + 1))
            continue
        if latest >= 0:
            job = _owner(store, f"{FOLDER}/claims/{item.key}.{latest}")
            if job not in alive:
                alive[job] = _is_alive(store, job, now)
            if alive[job]:
                busy.append(item)
                continue
        tasks.append(Task(item, latest + 1))
    kept = {item.key: records[item.key][1] for item in items if item.key in records}
    return Survey(tuple(tasks), kept, tuple(busy))


def describe_once(store: Store, run: dict[str, Any]) -> None:
    """Say what makes the results, or check that it is what an earlier job said.

    Raises:
        OutputError: The store holds results of another configuration.
    """
    name = f"{FOLDER}/job.json"
    wanted = {**{key: run[key] for key in _CONFIGURATION}, **{key: run.get(key) for key in _IF_ANY}}
    if store.create(name, json.dumps(wanted, indent=1, sort_keys=True).encode()):
        return
    try:
        earlier = json.loads(store.read(name) or b"")
        changed = [key for key in _CONFIGURATION if earlier[key] != wanted[key]]
        changed += [key for key in _IF_ANY if earlier.get(key) != wanted[key]]
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError("OUTPUT's job.json cannot be read", name, "choose another place for OUTPUT") from error
    if changed:
        what = f"OUTPUT holds results of another configuration (different: {', '.join(changed)})"
        raise OutputError(what, name, "choose another place for OUTPUT")


def job_name() -> str:
    """A new job's name; tells where it runs, so that a job on the same machine sees at once when it is dead."""
    return f"{uuid.uuid4().hex}:{_machine()}:{os.getpid()}:{_started(os.getpid())}"


@contextmanager
def signs_of_life(store: Store, job: str) -> Iterator[None]:
    """Say again and again, from a thread, that a job lives."""
    name, ended = f"{FOLDER}/jobs/{job.partition(':')[0]}", threading.Event()
    store.write(name, job.encode())

    def beat() -> None:
        while not ended.wait(BEAT_S):
            try:
                store.write(name, job.encode())
            except (StoreError, OutputError):
                continue  # the next may get through; until then others may take the job for dead

    thread = threading.Thread(target=beat, name="signs-of-life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _owner(store: Store, claim: str) -> str:
    """The job that made a claim."""
    return (store.read(claim) or b"").decode().partition(" ")[0]


def _store_time(store: Store) -> float:
    """Now, by the store's own clock, so that clocks of machines need not agree."""
    name = f"{FOLDER}/clock"
    store.write(name, uuid.uuid4().bytes)
    return store.modified(name)


def _is_alive(store: Store, job: str, now: float) -> bool:
    """Whether a job still runs: by its process where it is this machine's, else by its last sign of life."""
    parts = job.split(":")
    if len(parts) != 4:
        return False
    name, machine, pid, started = parts
    if machine == _machine():
        return _started(int(pid)) == started
    beat = f"{FOLDER}/jobs/{name}"
    return store.read(beat) is not None and now - store.modified(beat) < DEAD_AFTER_S


def _machine() -> str:
    """Names this boot of this machine, and the container's own numbering of processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname().replace(":", "-")


def _started(pid: int) -> str:
    """When a process started, in clock ticks since boot (proc(5), field 22); empty where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
