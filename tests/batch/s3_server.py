"""An S3 server on loopback (moto), behind a proxy that fails on purpose."""

import hashlib
import http.client
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"}


@dataclass
class Faults:
    """What the proxy does wrong.

    Attributes:
        busy_every: Answers 503 to every so many requests' first attempt; 0 for none.
        cut_every: Sends half the body of every so many objects at their first attempt; 0 for none.
        damage_every: Changes one byte of every so many objects at their first attempt; 0 for none.
        always_busy: Answers 503 to every request whose path holds this.
        done: What it did, by name.
        requests: (method, path) of every request.
    """

    busy_every: int = 0
    cut_every: int = 0
    damage_every: int = 0
    always_busy: str = ""
    done: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, str]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def choose(self, method: str, path: str) -> str:
        """What to do to a request: by its path, so that it does not depend on the order of threads."""
        with self.lock:
            self.requests.append((method, path))
            key = f"{method} {path}"
            if self.always_busy and self.always_busy in path:
                return self._did("busy")
            if key in self.seen:
                return ""
            self.seen.add(key)
            number = int(hashlib.sha256(key.encode()).hexdigest(), 16)
            if self.busy_every and number % self.busy_every == 0:
                return self._did("busy")
            is_object = method == "GET" and "?" not in path
            if is_object and self.cut_every and number % self.cut_every == 1:
                return self._did("cut")
            if is_object and self.damage_every and number % self.damage_every == 2:
                return self._did("damage")
            return ""

    def _did(self, what: str) -> str:
        self.done[what] += 1
        return what


@contextmanager
def serving(faults: Faults) -> Iterator[str]:
    """The endpoint's URL; the bucket `bucket` is there, empty."""
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), _handler(f"{host}:{port}", faults))
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        backend = http.client.HTTPConnection(f"{host}:{port}")
        backend.request("PUT", "/bucket", headers={"Host": f"{host}:{port}"})
        assert backend.getresponse().status == 200
        backend.close()
        yield f"http://127.0.0.1:{proxy.server_port}"
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
        moto.stop()


def _handler(backend: str, faults: Faults) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            what = faults.choose(self.command, self.path)
            if what == "busy":
                return self._answer(503, {}, b"<Error><Code>SlowDown</Code></Error>")
            connection = http.client.HTTPConnection(backend, timeout=60)
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            headers = {k: v for k, v in response.getheaders() if k.lower() not in HOP_BY_HOP}
            length = response.getheader("Content-Length")
            content = response.read()
            connection.close()
            if what == "damage" and content:
                content = bytes([content[0] ^ 1]) + content[1:]
                headers = {k: v for k, v in headers.items() if not k.lower().startswith("x-amz-checksum")}
            return self._answer(response.status, headers, content, length, cut=what == "cut")

        def _answer(
            self, status: int, headers: dict[str, Any], body: bytes, length: str | None = None, *, cut: bool = False
        ) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):
                if self.command != "HEAD":
                    self.wfile.write(body[: len(body) // 2] if cut else body)
            self.close_connection = self.close_connection or cut

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    return Handler
