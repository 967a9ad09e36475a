"""HTTP(S) download of one large file: resumed, bounded, verified, and safe when two processes ask at once.

The partial file lies beside the target as `<name>.part`, with the server's validator (ETag or Last-Modified) in
`<name>.part.json`: a range is only ever asked for with If-Range, so that a file which changed on the server is never
glued to an old beginning (RFC 9110, sections 13.1.5 and 14).
"""

import errno
import fcntl
import hashlib
import http.client
import json
import logging
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from fmcib_module.core.errors import WeightsError

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""(bytes so far, total bytes or 0 where unknown)."""

CHUNK_BYTES: Final = 1 << 20
MAX_REDIRECTS: Final = 5
RETRY_DELAYS_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Waits between attempts; one attempt more than waits."""

MAX_RETRY_AFTER_S: Final = 60.0
"""A server's Retry-After is followed up to this."""

RETRIED_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP answers that may be gone in a moment."""

USER_AGENT: Final = "fmcib-module"


class _TransientError(Exception):
    """An attempt failed in a way that another may not; the server may have said how long to wait."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class _Job:
    url: str
    target: Path
    sha256: str
    max_bytes: int
    progress: Progress | None
    timeout_s: float

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def validator_file(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part.json")


def download(
    url: str,
    target: Path,
    *,
    sha256: str,
    max_bytes: int,
    progress: Progress | None = None,
    retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
    timeout_s: float = 30.0,
) -> None:
    """Download `url` to `target`; `target` appears only whole and verified.

    Args:
        url: http or https; a redirect may not leave https.
        target: Its folder is made where absent.
        sha256: Expected, hexadecimal.
        max_bytes: A larger file is refused, before or while it arrives.
        progress: Called after each chunk.
        retry_delays_s: Seconds between attempts.
        timeout_s: Longest silence of the server.

    Raises:
        WeightsError: The server refuses, the attempts are used up, the file is too large or not the expected one, or
            it cannot be written.
    """
    if urlsplit(url).scheme not in {"http", "https"}:
        raise WeightsError("only http and https can be fetched", target.name, "give another URL")
    job = _Job(url, target, sha256, max_bytes, progress, timeout_s)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(target.with_name(f"{target.name}.lock")):
            if target.is_file() and _sha256(target) == sha256:
                return  # another process has fetched it meanwhile
            _attempt_until_whole(job, retry_delays_s)
            _check_sha256(job)
            job.part.replace(target)
            job.validator_file.unlink(missing_ok=True)
    except OSError as error:
        raise _write_error(error, target) from error


def _attempt_until_whole(job: _Job, retry_delays_s: Sequence[float]) -> None:
    for delay_s in (*retry_delays_s, None):
        try:
            return _attempt(job)
        except _TransientError as error:
            if delay_s is None:
                raise WeightsError(
                    f"the download failed {len(retry_delays_s) + 1} times, at last: {error}",
                    job.target.name,
                    "run the command again, it goes on where it stopped",
                ) from error
            wait_s = max(delay_s, min(error.wait_s, MAX_RETRY_AFTER_S))
            log.info("%s: %s; trying again in %.0f s", job.target.name, error, wait_s)
            time.sleep(wait_s)
    return None


def _attempt(job: _Job) -> None:
    """One request; returns when the partial file is whole."""
    start, validator = _resume_point(job)
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    request = urllib.request.Request(job.url, headers=headers)
    try:
        with _opener().open(request, timeout=job.timeout_s) as response:
            _receive(job, response, start)
    except urllib.error.HTTPError as error:
        with error:
            _raise_status(job, error.code, error.headers.get("Retry-After", ""))
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
        raise _TransientError(f"no connection ({getattr(error, 'reason', None) or type(error).__name__})") from error


def _receive(job: _Job, response: Any, start: int) -> None:
    """Append a range, or write the whole body, and see that all of it came."""
    offset = start if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
    if response.status == http.HTTPStatus.PARTIAL_CONTENT and _range_start(response) != start:
        _drop_partial(job)
        raise _TransientError("the server sent another range than asked for")
    length = response.headers.get("Content-Length", "")
    total = offset + int(length) if length.isdigit() else 0
    _check_size(job, total)
    _keep_validator(job, response)
    with job.part.open("ab" if offset else "wb") as file:
        received = _copy(job, response, file, offset, total)
    if total and received != total:
        raise _TransientError(f"the connection ended after {received} of {total} bytes")


def _copy(job: _Job, response: Any, file: IO[bytes], offset: int, total: int) -> int:
    done = offset
    while chunk := response.read(CHUNK_BYTES):
        done += len(chunk)
        _check_size(job, done)
        file.write(chunk)
        if job.progress is not None:
            job.progress(done, total)
    return done


def _check_size(job: _Job, n_bytes: int) -> None:
    if n_bytes > job.max_bytes:
        _drop_partial(job)
        raise WeightsError(
            f"the file on the server is larger than the {job.max_bytes} bytes allowed",
            job.target.name,
            "check the URL",
        )


def _check_sha256(job: _Job) -> None:
    found = _sha256(job.part)
    if found != job.sha256:
        _drop_partial(job)
        raise WeightsError(
            f"the downloaded file has SHA-256 {found}, expected {job.sha256}; it was deleted",
            job.target.name,
            "check the URL; if the publisher changed the file on purpose, state its SHA-256 or give the file's path",
        )


def _raise_status(job: _Job, status: int, retry_after: str) -> None:
    if status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        _drop_partial(job)
        raise _TransientError("the partial file does not fit the server's file")
    if status in RETRIED_STATUS:
        raise _TransientError(f"the server answered {status}", float(retry_after) if retry_after.isdigit() else 0.0)
    if 300 <= status < 400:
        raise WeightsError(
            f"the server redirects more than {MAX_REDIRECTS} times, or to what is not http",
            job.target.name,
            "check the URL",
        )
    raise WeightsError(f"the server answered {status}", job.target.name, "check the URL, or fetch from a mirror")


def _resume_point(job: _Job) -> tuple[int, str]:
    """(bytes that are here, validator); (0, "") where a range cannot be asked for safely."""
    try:
        kept = json.loads(job.validator_file.read_text(encoding="utf-8"))
        size = job.part.stat().st_size
    except (FileNotFoundError, ValueError):
        return 0, ""
    if kept.get("url") != job.url or not kept.get("validator"):
        return 0, ""
    return size, str(kept["validator"])


def _keep_validator(job: _Job, response: Any) -> None:
    etag = response.headers.get("ETag", "")
    strong = "" if etag.startswith("W/") else etag  # If-Range takes no weak ETag
    validator = strong or response.headers.get("Last-Modified", "")
    job.validator_file.write_text(json.dumps({"url": job.url, "validator": validator}), encoding="utf-8")


def _range_start(response: Any) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _drop_partial(job: _Job) -> None:
    job.part.unlink(missing_ok=True)
    job.validator_file.unlink(missing_ok=True)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Few redirects, within http and https, and never from https down to http."""

    max_redirections = MAX_REDIRECTS
    max_repeats = MAX_REDIRECTS

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new != "https" and new != old:
            raise WeightsError(f"the server redirects from {old} to {new}", "download", "check the URL")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Only http and https (and the proxies of the environment): no file, ftp or data URLs."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


@contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    """Hold a lock between processes; a second one waits until the first has fetched the file."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_error(error: OSError, target: Path) -> WeightsError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return WeightsError("the disk is full", target.name, "free space, or set FMCIB_CACHE to a folder that has it")
    return WeightsError(
        f"the weights cannot be written: {error.strerror or type(error).__name__}",
        target.name,
        "set FMCIB_CACHE to a folder that can be written",
    )
