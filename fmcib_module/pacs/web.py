"""Peers on the web (Orthanc, DICOMweb servers): who we are there, and what went wrong in our own words."""

import os
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import yaml

from fmcib_module.core.errors import ConfigError, PeerError, PeerUnavailableError

if TYPE_CHECKING:
    import requests

T = TypeVar("T")

TIMEOUT_S: Final = (10.0, 120.0)
"""To connect, and between two packets of an answer."""

ATTEMPTS: Final = 4
LONGEST_WAIT_S: Final = 60.0

_LATER: Final = (408, 429, 500, 502, 503, 504)
"""Status codes of a server that may do better later."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who we are at a peer; secrets are not shown when it is printed.

    Attributes:
        user: For HTTP basic authentication; empty for none.
        password: Belongs to the user.
        token: Bearer token; instead of a user.
        ca: PEM file of the authorities that the peer's certificate is checked with; empty for the system's.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    ca: str = ""


def read_access(credentials: Path | None = None, environment: Mapping[str, str] = os.environ) -> Access:
    """Credentials from a file or from the environment; never from a command line, which others can read.

    Args:
        credentials: YAML file with `user` and `password`, or `token`, and optionally `ca`; None takes the file that
            FMCIB_PACS_CREDENTIALS names, or else FMCIB_PACS_USER, _PASSWORD, _TOKEN and _CA.
        environment: Variables.

    Raises:
        ConfigError: The file cannot be read or holds something else, or the certificate file is absent.
    """
    named = environment.get("FMCIB_PACS_CREDENTIALS", "")
    file = credentials or (Path(named) if named else None)
    fields = ("user", "password", "token", "ca")
    given = {name: environment.get(f"FMCIB_PACS_{name.upper()}", "") for name in fields}
    if file is not None:
        given |= _read_credentials(file, fields)
    access = Access(**given)
    if access.ca and not Path(access.ca).is_file():
        raise ConfigError("there is no such certificate file", Path(access.ca).name, "give a PEM file as FMCIB_PACS_CA")
    return access


def _read_credentials(file: Path, fields: tuple[str, ...]) -> dict[str, str]:
    """What the file holds; messages never quote its values."""
    fix = "write one `key: value` per line: user and password, or token; ca if needed"
    try:
        loaded = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # BaseLoader: texts only
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"credentials cannot be read: {type(error).__name__}", file.name, fix) from None
    if not isinstance(loaded, dict) or not all(isinstance(value, str) for value in loaded.values()):
        raise ConfigError("credentials are not a mapping of texts", file.name, fix)
    if unknown := sorted(str(key) for key in loaded if key not in fields):
        raise ConfigError(f"unknown key(s) {', '.join(unknown)}", file.name, fix)
    return loaded


def check_url(url: str, *, plain_http: bool = False) -> str:
    """The address of a peer without what does not belong there.

    Args:
        url: http or https.
        plain_http: Allow http to other machines; to this one it always is.

    Returns:
        Without a trailing slash.

    Raises:
        ConfigError: No address, or one that would send what should stay secret.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.username is not None or parts.password is not None:
        raise ConfigError("the URL holds credentials", host or "URL", "take them out and set FMCIB_PACS_CREDENTIALS")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError("this is no address of a web server", "URL", "write https://HOST[:PORT][/PATH]")
    if parts.scheme == "http" and not plain_http and not _is_loopback(host):
        raise ConfigError("http to another machine is not encrypted", host, "use https")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_session(access: Access) -> "requests.Session":
    """A connection that authenticates itself and checks certificates.

    Raises:
        ConfigError: The package that speaks HTTP is not installed.
    """
    try:
        import requests
    except ImportError as error:
        fix = "pip install 'fmcib-module[pacs]'"
        raise ConfigError("package requests is not installed", "PACS", fix) from error
    session = requests.Session()
    if header := _authorization(access):

        def authorize(request: "requests.PreparedRequest") -> "requests.PreparedRequest":
            request.headers["Authorization"] = header
            return request

        session.auth = authorize  # not a default header: a .netrc would win over it
    if access.ca:  # with each request: REQUESTS_CA_BUNDLE would win over what the session holds
        session.request = partial(session.request, verify=access.ca)  # type: ignore[method-assign]
    return session


def _authorization(access: Access) -> str:
    """The header's value; UTF-8, as RFC 7617 recommends."""
    if access.token:
        return f"Bearer {access.token}"
    if access.user:
        return "Basic " + b64encode(f"{access.user}:{access.password}".encode()).decode()
    return ""


@contextmanager
def translated_errors(where: str) -> Iterator[None]:
    """Turn what `requests` raises into our errors, without addresses that may hold secrets.

    Args:
        where: The peer and what was asked, for messages.

    Raises:
        PeerUnavailableError: It cannot be reached, breaks off, or says that it cannot answer now.
        PeerError: It refuses, or its certificate is not trusted.
    """
    from requests import exceptions

    try:
        yield
    except exceptions.SSLError as error:
        fix = "give the certificate of its authority as FMCIB_PACS_CA"
        raise PeerError("its certificate is not trusted", where, fix) from error
    except (exceptions.ConnectionError, exceptions.Timeout, exceptions.ChunkedEncodingError) as error:
        fix = "check that it runs and that its address is right"
        raise PeerUnavailableError(f"it does not answer ({type(error).__name__})", where, fix) from error
    except exceptions.HTTPError as error:
        status = 0 if error.response is None else error.response.status_code
        raise refusal(status, where) from error
    except exceptions.RequestException as error:
        raise PeerError(f"its answer makes no sense ({type(error).__name__})", where, "check its address") from error


def refusal(status: int, where: str) -> PeerError:
    """The error for an HTTP status code."""
    if status in (401, 403):
        fix = "set FMCIB_PACS_USER and FMCIB_PACS_PASSWORD, or FMCIB_PACS_CREDENTIALS, to who may do this"
        return PeerError(f"it refuses our credentials (HTTP {status})", where, fix)
    if status == 404:
        return PeerError("there is no such thing (HTTP 404)", where, "check the address and the UIDs")
    if status in _LATER:
        return PeerUnavailableError(f"it cannot answer now (HTTP {status})", where, "try again later; look at its log")
    return PeerError(f"it refuses (HTTP {status})", where, "look at its log")


def back_off_s(failures: int) -> float:
    """How long to wait after so many failures in a row: 1, 2, 4 ... 60 seconds."""
    return min(2.0 ** (failures - 1), LONGEST_WAIT_S)


def with_retries(action: Callable[[], T], wait: Callable[[float], object]) -> T:
    """Try again, up to `ATTEMPTS` times, what a peer cannot do now.

    Args:
        action: What to do; may be done twice.
        wait: Sleeps so many seconds.

    Raises:
        PeerUnavailableError: As the last attempt did.
    """
    for failures in range(1, ATTEMPTS):
        try:
            return action()
        except PeerUnavailableError:
            wait(back_off_s(failures))
    return action()
