"""A local HTTP server that serves one body and fails on purpose, for download tests."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Faults:
    """What the server does wrong; each list is used up, one item per request.

    Attributes:
        body: What it serves.
        etag: Its validator; empty sends none.
        statuses: Error answers to give first.
        retry_after: Seconds to wait that come with an error answer.
        cuts: Bytes after which a connection is closed too early.
        redirect: Where every request is sent instead of an answer.
        ignores_range: Answers a range request with the whole body.
        wrong_range: Answers a range request with another range.
        hides_length: Sends no Content-Length.
        requests: (path, Range header) of every request, as they came.
    """

    body: bytes
    etag: str = '"one"'
    statuses: list[int] = field(default_factory=list)
    retry_after: str = "0"
    cuts: list[int] = field(default_factory=list)
    redirect: str = ""
    ignores_range: bool = False
    wrong_range: bool = False
    hides_length: bool = False
    requests: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def ranges(self) -> list[str]:
        return [header for _, header in self.requests]


@contextmanager
def serving(faults: Faults) -> Iterator[Faults]:
    """Serve on 127.0.0.1 until the block ends; `faults.url` is the file's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            faults.requests.append((self.path, wanted))
            if faults.redirect:
                return self._answer(302, {"Location": faults.redirect}, b"")
            if faults.statuses:
                return self._answer(faults.statuses.pop(0), {"Retry-After": faults.retry_after}, b"busy")
            fits = self.headers.get("If-Range", "") == faults.etag
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and fits else 0
            if start >= len(faults.body) and start:
                return self._answer(416, {}, b"")
            headers = {"ETag": faults.etag} if faults.etag else {}
            if start and not faults.ignores_range:
                first = start - 1 if faults.wrong_range else start
                headers["Content-Range"] = f"bytes {first}-{len(faults.body) - 1}/{len(faults.body)}"
                return self._answer(206, headers, faults.body[first:])
            return self._answer(200, headers, faults.body)

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if not faults.hides_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):  # the client may hang up, when the file is too large
                self.wfile.write(body[: faults.cuts.pop(0)] if faults.cuts and status in (200, 206) else body)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    faults.url = f"http://127.0.0.1:{server.server_port}/weights.bin"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield faults
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
