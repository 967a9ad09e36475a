"""The DICOM node: who may call, what is accepted, and with which status it is answered (pynetdicom)."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from socketserver import BaseServer
from typing import TYPE_CHECKING, Any, Final

from fmcib_module.adapters.dicom_header import CT_CLASSES
from fmcib_module.adapters.roi_references import GSPS_CLASSES, RTSTRUCT_CLASS, SEG_CLASSES, SR_CLASSES
from fmcib_module.core.errors import ConfigError, InputError, OutputError
from fmcib_module.pacs.audit import Audit
from fmcib_module.pacs.node_settings import NodeSettings
from fmcib_module.pacs.received import read_received
from fmcib_module.pacs.spool import Spool

if TYPE_CHECKING:
    from pynetdicom.ae import ApplicationEntity

SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
DOES_NOT_MATCH: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000
"""Statuses of the Storage Service Class (PS3.4 B.2.3)."""

_REJECTED_BY_USER: Final = (0x01, 0x01)
_CALLING, _CALLED = 0x03, 0x07
"""Rejected permanently by the service user: AE title not recognised (PS3.8 9.3.4)."""

VERIFICATION: Final = "1.2.840.10008.1.1"
STORED_CLASSES: Final = tuple(sorted({*CT_CLASSES, RTSTRUCT_CLASS, *SEG_CLASSES, *SR_CLASSES, *GSPS_CLASSES}))

TRANSFER_SYNTAXES: Final = (
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian
    *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70)),  # JPEG
    *(f"1.2.840.10008.1.2.4.{n}" for n in (80, 81)),  # JPEG-LS
    *(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91)),  # JPEG 2000
    *(f"1.2.840.10008.1.2.4.{n}" for n in (201, 202, 203)),  # HTJ2K
    "1.2.840.10008.1.2.5",  # RLE
)
"""In the order of preference; the chain decodes them all."""

INVALID_PDU: Final = "Evt19"
"""Event of the upper layer's state machine, which aborts (PS3.8 9.2.3)."""

LONGEST_REQUEST: Final = 131072
"""Bytes of an association request, which the negotiated length does not bind: 128 contexts take about 30,000."""

CONNECTIONS_PER_ASSOCIATION: Final = 2
"""Connections above this many times the associations are closed unread: they may never send a request."""


class Node:
    """The listening side of `fmcib serve`."""

    def __init__(self, settings: NodeSettings, spool: Spool, audit: Audit) -> None:
        """Listen.

        Raises:
            ConfigError: The port is taken, TLS files cannot be read, or pynetdicom is not installed.
        """
        self._settings, self._spool, self._audit = settings, spool, audit
        self._ae = _application_entity(settings)
        from pynetdicom import evt

        handlers: Any = [
            (evt.EVT_CONN_OPEN, self._bound),
            (evt.EVT_REQUESTED, self._check_caller),
            (
                evt.EVT_REJECTED,
                lambda event: audit("association-rejected", **_caller(event), reason="too many associations"),
            ),
            (evt.EVT_ESTABLISHED, lambda event: audit("association-accepted")),
            (evt.EVT_ABORTED, lambda event: audit("association-aborted", **_caller(event))),
            (evt.EVT_DIMSE_RECV, _message_is_whole),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_C_STORE, self._store),
        ]
        make_server: Any = self._ae.make_server
        try:
            self._server = make_server(
                (settings.host, settings.port),
                ssl_context=settings.tls.server_context(),
                evt_handlers=handlers,
                server_class=_server_class(),
            )
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            raise ConfigError(f"cannot listen: {error.strerror}", where, "choose a free port") from error
        self._server.most_connections = CONNECTIONS_PER_ASSOCIATION * settings.maximum_associations
        self._server.audit = audit
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="dicom-node")
        self._thread.start()

    def close(self, wait_s: float) -> None:
        """Take no more associations, let those that run go on for some seconds, then abort them."""
        self._server.stop()
        self._thread.join()
        until = time.monotonic() + wait_s
        while (running := self._server.active_associations) and time.monotonic() < until:
            time.sleep(0.05)
        for association in running:
            association.abort(block=False)
        for association in running:
            association.join(timeout=1)
            if association.is_alive():  # its peer stopped in the middle of a message
                with suppress(OSError, AttributeError):
                    association.dul.socket.socket.shutdown(socket.SHUT_RDWR)
                association.join(timeout=1)

    @property
    def associations(self) -> int:
        """How many are open."""
        return len(self._server.active_associations)

    def _bound(self, event: Any) -> None:
        """Bound what a connection may cost, before a byte of it is read."""
        dul = event.assoc.dul
        dul.socket.recv = BoundedReceiver(dul.socket.socket, self._settings, self._audit)
        dul.state_machine.do_action = _surviving(dul, dul.state_machine.do_action, self._audit)

    def _check_caller(self, event: Any) -> None:
        """Reject whoever is not on the list, or asks for somebody else."""
        request = event.assoc.requestor.primitive
        title, address = request.calling_ae_title, event.assoc.requestor.address
        reason = 0
        if not any(peer.admits(title, address) for peer in self._settings.peers):
            reason = _CALLING
        elif request.called_ae_title.strip() != self._settings.ae_title.strip():
            reason = _CALLED
        if reason:
            why = "calling AE title or address is not listed" if reason == _CALLING else "called AE title is not ours"
            self._audit("association-rejected", calling=title, address=address, reason=why)
            event.assoc.acse.send_reject(*_REJECTED_BY_USER, reason)
            event.assoc.kill()  # waits until the peer has been told

    def _echo(self, _event: Any) -> int:
        self._audit("echo")
        return SUCCESS

    def _store(self, event: Any) -> int:
        """Answer a C-STORE request; whatever happens, with a status."""
        if not self._spool.has_room():
            self._audit("object-refused", **_caller(event), reason="the disk is full up to its limit")
            return OUT_OF_RESOURCES
        try:
            content = event.encoded_dataset()
            received = read_received(content)
        except (InputError, AttributeError, ValueError) as error:
            self._audit("object-refused", **_caller(event), reason=_reason(error))
            return CANNOT_UNDERSTAND
        request = event.request
        if (request.AffectedSOPClassUID, request.AffectedSOPInstanceUID) != (received.sop_class_uid, received.sop_uid):
            self._audit("object-refused", **_caller(event), reason="the request names another object than it holds")
            return DOES_NOT_MATCH
        if received.own:
            self._audit("own-result-ignored", **_caller(event), study=received.study)
            return SUCCESS
        try:
            is_new = self._spool.store(received, content)
        except OutputError as error:
            self._audit("object-refused", **_caller(event), reason=error.what)
            return OUT_OF_RESOURCES
        self._audit("object-stored" if is_new else "object-repeated")
        return SUCCESS


class BoundedReceiver:
    """Reads from a connection as pynetdicom does, but no PDU or message that is too long or too slow."""

    def __init__(self, connection: socket.socket, settings: NodeSettings, audit: Audit) -> None:
        """Set the connection's timeout."""
        self._connection, self._audit = connection, audit
        self._timeout_s = settings.timeout_s
        self._longest_pdu = max(settings.maximum_pdu_bytes, LONGEST_REQUEST)
        self._largest_message = settings.maximum_object_mb * 1_000_000
        self._since_message = 0
        connection.settimeout(settings.timeout_s)

    def __call__(self, count: int) -> bytearray:
        """So many bytes, fewer if the peer is gone.

        Raises:
            OSError: Too many, or not within the timeout; pynetdicom then closes the connection.
        """
        self._since_message += count
        if count > self._longest_pdu or self._since_message > self._largest_message:
            self._audit("connection-cut", reason="PDU too long" if count > self._longest_pdu else "object too large")
            msg = "more bytes than are allowed"
            raise OSError(msg)
        content = bytearray(count)
        view, until = memoryview(content), time.monotonic() + self._timeout_s
        while view:
            read = self._connection.recv_into(view)
            if not read:
                return content[: count - len(view)]
            view = view[read:]
            if view and time.monotonic() > until:
                self._audit("connection-cut", reason="PDU too slow")
                raise TimeoutError
        return content

    def message_is_whole(self) -> None:
        """Start to count anew."""
        self._since_message = 0


def _surviving(dul: Any, do_action: Callable[[str], None], audit: Audit) -> Callable[[str], None]:
    """Pynetdicom's state machine, but a message that it cannot take ends the association, not the thread."""

    def act(event: str) -> None:
        try:
            do_action(event)
        except Exception as error:  # noqa: BLE001  # what a malformed command set raises has no common base
            audit("association-cut", reason=f"malformed message ({type(error).__name__})")
            if event == INVALID_PDU:
                dul.kill_dul()
            else:
                dul.event_queue.put(INVALID_PDU)

    return act


def _message_is_whole(event: Any) -> None:
    transport = event.assoc.dul.socket
    if transport is not None and isinstance(transport.recv, BoundedReceiver):
        transport.recv.message_is_whole()


def _application_entity(settings: NodeSettings) -> "ApplicationEntity":
    try:
        from pynetdicom import _config
        from pynetdicom.ae import ApplicationEntity
    except ImportError as error:
        raise ConfigError("package pynetdicom is not installed", "serve", "pip install 'fmcib-module[pacs]'") from error
    _config.LOG_HANDLER_LEVEL = "none"
    entity = ApplicationEntity(settings.ae_title)
    entity.maximum_associations = settings.maximum_associations
    entity.maximum_pdu_size = settings.maximum_pdu_bytes
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = settings.timeout_s
    entity.add_supported_context(VERIFICATION)
    for uid in STORED_CLASSES:
        entity.add_supported_context(uid, list(TRANSFER_SYNTAXES))
    return entity


def _server_class() -> Any:
    """The server of pynetdicom, with bounds for connections that are no associations yet."""
    from pynetdicom.transport import ThreadedAssociationServer

    class Server(ThreadedAssociationServer):
        """Closes connections above a number; TLS is negotiated in a connection's own thread."""

        daemon_threads = True
        request_queue_size = 128
        most_connections = 0
        audit: Audit

        def verify_request(self, request: Any, client_address: Any) -> bool:
            """Whether a connection may go on."""
            if len(self.active_associations) < self.most_connections:
                return True
            self.audit("connection-refused", address=client_address[0], reason="too many connections")
            return False

        def get_request(self) -> Any:
            """Accept; a peer that never says hello must not hold up the others."""
            assert self.socket is not None
            connection, address = self.socket.accept()
            if self.ssl_context is not None:
                connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            return connection, address

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Note it, without a traceback."""
            self.audit("connection-failed", address=client_address[0])

        def stop(self) -> None:
            """Take no more connections; those that are open go on."""
            BaseServer.shutdown(self)
            self.server_close()

    return Server


def _caller(event: Any) -> dict[str, str]:
    requestor = event.assoc.requestor
    return {"calling": requestor.ae_title, "address": requestor.address or ""}


def _reason(error: Exception) -> str:
    return error.what if isinstance(error, InputError) else type(error).__name__
