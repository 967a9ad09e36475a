"""A destination that remembers every object it got, by content; it can be down for a while."""

import hashlib
import ssl
import threading
from collections import defaultdict
from typing import Any

from pynetdicom import AE, evt

from tests.pacs.node_helpers import EXPLICIT, SEG_CLASS, SR_CLASS


class Receiver:
    """Stands for an archive.

    Attributes:
        contents: SOPInstanceUID -> digests of what came under it, in order.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.contents: dict[str, list[str]] = defaultdict(list)
        self._lock = threading.Lock()
        self._entity = AE("ARCHIVE")
        self._entity.maximum_associations = 50
        for uid in (SR_CLASS, SEG_CLASS):
            self._entity.add_supported_context(uid, EXPLICIT)
        self._server: Any = None

    def start(self, tls: ssl.SSLContext | None = None) -> None:
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._server = self._entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers, ssl_context=tls
        )

    def stop(self) -> None:
        self._entity.shutdown()

    def _store(self, event: Any) -> int:
        digest = hashlib.sha256(event.encoded_dataset(include_meta=False)).hexdigest()
        with self._lock:
            self.contents[event.request.AffectedSOPInstanceUID].append(digest)
        return 0
