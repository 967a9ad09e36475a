"""Results -> destinations, by C-STORE (pynetdicom) or STOW-RS (dicomweb-client), until they are there."""

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import pydicom

from fmcib_module.core.errors import FmcibError
from fmcib_module.pacs.audit import Audit
from fmcib_module.pacs.dispatch import POLL_S
from fmcib_module.pacs.node_settings import Destination, NodeSettings
from fmcib_module.pacs.node_settings import Protocol as Way
from fmcib_module.pacs.results import Delivery, Outbox
from fmcib_module.pacs.web import TIMEOUT_S, check_url, open_session, read_access, translated_errors

OBJECTS_PER_ASSOCIATION: Final = 50

FIRST_WAIT_S: Final = 5.0
"""After the first failure; it doubles with each, up to five minutes."""

_WARNINGS: Final = frozenset({0xB000, 0xB006, 0xB007})
"""The destination stored the object and says that it changed or doubts something (PS3.4 table B.2-1)."""


class Sender(Protocol):
    """Sends files to one destination."""

    def send(self, paths: Sequence[Path]) -> Iterator[str]:
        """For each file in turn: empty when it is there, else why not."""


class StoreSender:
    """By C-STORE."""

    def __init__(self, destination: Destination, settings: NodeSettings) -> None:
        """Remember where to."""
        self._destination, self._settings = destination, settings

    def send(self, paths: Sequence[Path]) -> Iterator[str]:
        """One association for all files."""
        from pynetdicom import AE, _config

        _config.STORE_SEND_CHUNKED_DATASET = True  # the file's own bytes
        to, settings = self._destination, self._settings
        entity = AE(settings.ae_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = settings.timeout_s
        entity.connection_timeout = settings.timeout_s
        for uids in sorted({_class_and_syntax(path) for path in paths}):
            entity.add_requested_context(*uids)
        tls: Any = (settings.tls.client_context(), to.host) if to.tls else None
        association = entity.associate(to.host, to.port, ae_title=to.ae_title, tls_args=tls)
        if not association.is_established:
            why = "it rejected the association" if association.is_rejected else "it does not answer"
            yield from (why for _ in paths)
            return
        try:
            for path in paths:
                yield self._store(association, path)
        finally:
            association.release()

    def _store(self, association: Any, path: Path) -> str:
        try:
            status = association.send_c_store(path)
        except (RuntimeError, ValueError) as error:  # the association is gone, or the context was not accepted
            return f"it did not take the object ({type(error).__name__})"
        if "Status" not in status:
            return "it did not answer the request"
        if status.Status == 0 or status.Status in _WARNINGS:
            return ""
        return f"it refused the object (status 0x{status.Status:04X})"


class StowSender:
    """By STOW-RS."""

    def __init__(self, destination: Destination) -> None:
        """Open a session.

        Raises:
            ConfigError: The address or the credentials cannot be used.
        """
        self._name = destination.name
        self._url = check_url(destination.url)
        self._session = open_session(read_access(Path(destination.credentials) if destination.credentials else None))
        self._session.request = partial(self._session.request, timeout=TIMEOUT_S)  # type: ignore[method-assign]

    def send(self, paths: Sequence[Path]) -> Iterator[str]:
        """One request per file, so that one that is refused does not stop the others."""
        from dicomweb_client import DICOMwebClient

        client = DICOMwebClient(self._url, session=self._session)
        for path in paths:
            try:
                with translated_errors(f"destination {self._name}"):
                    answer = client.store_instances([pydicom.dcmread(path)])
                failed = answer.get("FailedSOPSequence") or []
                yield f"it refused the object (reason 0x{failed[0].FailureReason:04X})" if failed else ""
            except FmcibError as error:
                yield error.what


class Deliverer:
    """A thread that sends to one destination what it does not have yet."""

    def __init__(self, destination: Destination, settings: NodeSettings, outbox: Outbox, audit: Audit) -> None:
        """Start.

        Raises:
            ConfigError: The destination cannot be used.
        """
        self._name, self._outbox, self._audit = destination.name, outbox, audit
        stow = destination.protocol is Way.STOW
        self._sender: Sender = StowSender(destination) if stow else StoreSender(destination, settings)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"deliver-{destination.name}")
        self._thread.start()

    def close(self) -> None:
        """Stop after the object that is on its way."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            with self._audit.guard(f"delivery to {self._name}"):
                if due := self._outbox.due(self._name, OBJECTS_PER_ASSOCIATION):
                    self._send(due)

    def _send(self, due: Sequence[Delivery]) -> None:
        lost = [delivery for delivery in due if not delivery.path.is_file()]
        for delivery in lost:
            self._outbox.failed(self._name, delivery, "its file is gone from the outbox", FIRST_WAIT_S)
        there = [delivery for delivery in due if delivery not in lost]
        if not there:
            return
        reasons = self._sender.send([delivery.path for delivery in there])
        for delivery, reason in zip(there, reasons, strict=False):
            if reason:
                self._outbox.failed(self._name, delivery, reason, FIRST_WAIT_S)
            else:
                self._outbox.delivered(self._name, delivery)
            if self._stop.is_set():
                reasons.close()  # type: ignore[attr-defined]  # a generator, which releases the association
                return


def _class_and_syntax(path: Path) -> tuple[str, str]:
    meta = pydicom.filereader.read_file_meta_info(path)
    return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
