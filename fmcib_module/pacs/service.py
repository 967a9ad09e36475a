"""`fmcib serve`, put together: what it starts, in which order, and how it stops."""

import fcntl
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final

from fmcib_module.core.errors import ConfigError
from fmcib_module.pacs.audit import Audit, silence_libraries
from fmcib_module.pacs.delivery import Deliverer
from fmcib_module.pacs.dispatch import Dispatcher
from fmcib_module.pacs.node import Node
from fmcib_module.pacs.node_settings import NodeSettings
from fmcib_module.pacs.results import Outbox
from fmcib_module.pacs.spool import Spool
from fmcib_module.pacs.state import State
from fmcib_module.pacs.status import Overview, StatusServer
from fmcib_module.pacs.worker import Work, run_study

GIGABYTE: Final = 1_000_000_000
ASSOCIATION_END_S: Final = 5.0
"""At a stop, how long senders may finish what they began."""


class Service:
    """A running node; a context manager that stops it.

    Attributes:
        port: DICOM.
        http_port: Of the status page; 0 where there is none.
    """

    def __init__(self, settings: NodeSettings, log: IO[str], work: Work = run_study) -> None:
        """Start everything, and take up what an earlier run left.

        Args:
            settings: Of the node.
            log: Where the audit log goes.
            work: What is done with a study.

        Raises:
            ConfigError: Something cannot be used; nothing is left running.
        """
        self.settings = settings
        folder = Path(settings.folder)
        with ExitStack() as stack:
            _make_folder(folder)
            stack.enter_context(_locked(folder / "node.lock"))
            with (folder / "workers.lock").open("w") as workers:
                fcntl.flock(workers, fcntl.LOCK_EX)  # workers of a node that was killed end by themselves
            self.audit = audit = Audit(log)
            self.state = state = State(folder / "state.sqlite", identifiers=settings.identifiers)
            stack.callback(state.close)
            spool = Spool(folder / "spool", state, audit, free_bytes=int(settings.free_disk_gb * GIGABYTE))
            stack.callback(spool.close)
            spool.reconcile()
            if interrupted := state.interrupted():
                audit("studies-taken-up", studies=interrupted)
            outbox = Outbox(folder / "outbox", state, audit, [one.name for one in settings.destinations])
            for destination in settings.destinations:
                stack.callback(Deliverer(destination, settings, outbox, audit).close)
            dispatcher = Dispatcher(settings, state, spool, outbox, audit, work)
            stack.callback(dispatcher.close, settings.stop_s)
            node = Node(settings, spool, audit)
            stack.callback(node.close, ASSOCIATION_END_S)
            self.port, self.http_port = node.port, 0
            if settings.http_port >= 0:
                overview = Overview(settings, state, spool, outbox, audit, node)
                status = StatusServer(overview, settings.http_host, settings.http_port)
                self.http_port = status.port
                stack.callback(status.close)
            audit("node-started", ae_title=settings.ae_title, port=self.port, http_port=self.http_port)
            self._node = node
            self._stack = stack.pop_all()

    @property
    def associations(self) -> int:
        """How many are open."""
        return self._node.associations

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        """Stop in the opposite order: no new objects, then no new work, then no deliveries."""
        self.audit("node-stopping")
        self._stack.close()
        self.audit("node-stopped")


def serve(settings: NodeSettings, log: IO[str], work: Work = run_study) -> None:
    """Run a node until SIGTERM or SIGINT.

    Raises:
        ConfigError: It cannot be started.
    """
    silence_libraries()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Service(settings, log, work):
        stop.wait()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # what lies here is about patients
    except OSError as error:
        raise ConfigError(f"the folder cannot be used: {error.strerror}", folder.name, "give another one") from error


def _locked(path: Path) -> IO[str]:
    """A lock on the folder, held as long as the file is open.

    Raises:
        ConfigError: Another node has it.
    """
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ConfigError("another node uses this folder", path.parent.name, "stop it, or give another one") from error
    return file
