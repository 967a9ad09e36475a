"""Paths and URLs -> objects with sizes and checksums, read and written through fsspec."""

import base64
import os
import re
from dataclasses import dataclass
from functools import cache
from hashlib import md5
from pathlib import Path
from typing import Any, Final

from fmcib_module.batch.extra import need
from fmcib_module.batch.retry import DamagedError, StoreError, retried
from fmcib_module.core.errors import ConfigError

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*)://")
_PLAIN_ETAG: Final = re.compile(r"[0-9a-f]{32}")

OTHER_MD5: Final = "its MD5 is not the one that the store states"

MODULES: Final = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}


@dataclass(frozen=True, slots=True)
class RemoteObject:
    """One object of a store.

    Attributes:
        path: As fsspec names it, without a scheme.
        name: Relative to the prefix that it was listed under.
        size: Bytes.
        md5: Hexadecimal; empty where the store does not tell (a multipart upload).
    """

    path: str
    name: str
    size: int
    md5: str


def scheme_of(location: str) -> str:
    """The scheme of a URL; empty for a path, also for one written as file://."""
    match = _SCHEME.match(location)
    return "" if match is None or match[1] in {"file", "local"} else match[1]


def local_path(location: str) -> Path:
    """The path that a location without a scheme means."""
    return Path(re.sub(r"^(?:file|local)://", "", location))


@cache
def file_system(scheme: str, *, anonymous: bool) -> Any:
    """The fsspec file system of a scheme; one per process.

    Args:
        scheme: s3, gs, or another that fsspec knows.
        anonymous: Send no credentials: for public buckets.

    Raises:
        ConfigError: There is no such scheme, or its library is not installed.
    """
    fsspec = need("fsspec")
    if scheme in MODULES:
        need(MODULES[scheme])
    options: dict[str, Any] = {"use_listings_cache": False}
    if MODULES.get(scheme) == "s3fs":
        options |= {"anon": anonymous, "endpoint_url": endpoint_url()}
    elif MODULES.get(scheme) == "gcsfs" and anonymous:
        options["token"] = "anon"
    try:
        return fsspec.filesystem(scheme, **options)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"{scheme}:// cannot be used", "manifest", "use a path, s3:// or gs://") from error


def endpoint_url() -> str | None:
    """Another store than Amazon's that speaks S3, as its own tools are told of it."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def list_objects(url: str, *, anonymous: bool) -> list[RemoteObject]:
    """Everything under a prefix, or the one object of that name, sorted by name.

    Raises:
        StoreError: There is nothing, it may not be listed, or the store keeps failing.
    """
    fs = file_system(scheme_of(url), anonymous=anonymous)
    root = str(fs._strip_protocol(url.rstrip("/")))
    found: dict[str, dict[str, Any]] = retried(lambda: fs.find(root, detail=True), short_name(url))
    if not found:
        raise StoreError("there is nothing at this location", short_name(url), "check the URL")
    return [
        RemoteObject(path, _relative(path, root), int(about["size"]), _md5_of(about))
        for path, about in sorted(found.items())
    ]


def fetch_object(source: RemoteObject, target: Path, *, scheme: str, anonymous: bool) -> None:
    """Download one object; `target` appears only whole, with the size and MD5 that the store states.

    Raises:
        StoreError: It cannot be had, or keeps arriving damaged.
    """
    fs = file_system(scheme, anonymous=anonymous)
    partial = target.with_name(f".{target.name}.partial")

    def attempt() -> None:
        fs.get_file(source.path, str(partial))
        problem = difference(partial, source)
        if problem and not (problem == OTHER_MD5 and _is_encrypted(fs, source.path)):
            raise DamagedError(problem)
        partial.replace(target)

    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        retried(attempt, short_name(source.path))
    finally:
        partial.unlink(missing_ok=True)


def difference(path: Path, expected: RemoteObject) -> str:
    """How a local file differs from an object; empty where it does not."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return "it did not arrive"
    if size != expected.size:
        return f"{size} of {expected.size} bytes arrived"
    if expected.md5:
        with path.open("rb") as file:
            if _digest(file.read()) != expected.md5:
                return OTHER_MD5
    return ""


def short_name(location: str) -> str:
    """The last two parts of a location, for messages."""
    return "/".join(location.rstrip("/").split("/")[-2:])


def is_as_stored(fs: Any, path: str, content: bytes) -> bool:
    """Whether bytes that were sent to a store, or came from it, are what it holds, by its size and MD5."""
    about = fs.info(path)
    stated = _md5_of(about)
    return int(about["size"]) == len(content) and (stated in ("", _digest(content)) or _is_encrypted(fs, path))


def checked_upload(scheme: str, content: bytes) -> dict[str, str]:
    """What to send along so that S3 refuses a body that arrives damaged."""
    if MODULES.get(scheme) != "s3fs":
        return {}
    return {"ContentMD5": base64.b64encode(md5(content, usedforsecurity=False).digest()).decode()}


def _relative(path: str, root: str) -> str:
    return path.removeprefix(root).lstrip("/") or path.rpartition("/")[2]


def _md5_of(about: dict[str, Any]) -> str:
    """MD5 from a listing: GCS's md5Hash, S3's ETag where it looks like one."""
    if "md5Hash" in about:
        return base64.b64decode(about["md5Hash"]).hex()
    etag = str(about.get("ETag", "")).strip('"')
    return etag if _PLAIN_ETAG.fullmatch(etag) else ""


def _is_encrypted(fs: Any, path: str) -> bool:
    """Whether S3 keeps an object under keys that make its ETag something else than its MD5."""
    if not hasattr(fs, "call_s3"):
        return False
    bucket, _, key = path.partition("/")
    head = fs.call_s3("head_object", Bucket=bucket, Key=key)
    return head.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in head


def _digest(content: bytes) -> str:
    return md5(content, usedforsecurity=False).hexdigest()
