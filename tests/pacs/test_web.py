"""Credentials, addresses and errors of peers on the web; nothing secret is ever repeated."""

import ssl
import threading
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from fmcib_module.core.errors import ConfigError, PeerError, PeerUnavailableError
from fmcib_module.pacs.orthanc import Instance, Orthanc
from fmcib_module.pacs.orthanc_state import End, WatchState
from fmcib_module.pacs.web import ATTEMPTS, Access, back_off_s, check_url, open_session, read_access, with_retries
from tests.pacs.test_node_tls import needs_openssl, tls

__all__ = ["tls"]


class _Handler(BaseHTTPRequestHandler):
    """Answers with the status that the path names, and keeps what it was told."""

    told: list[str]

    def do_GET(self) -> None:
        self.told.append(self.headers.get("Authorization", ""))
        kind = self.path.strip("/").split("/")[0]
        status = int(kind) if kind.isdigit() else 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/200")
        body = b'{"Last": 7}' if kind != "garbage" else b"<html>"
        self.send_header("Content-Length", str(len(body) + (100 if kind == "instances" else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A web server of the test's own: its address, and the Authorization headers that it got."""
    told: list[str] = []
    web = HTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"told": told}))
    thread = threading.Thread(target=web.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{web.server_address[1]}", told
    web.shutdown()
    thread.join()
    web.server_close()


def test_credentials_come_from_the_environment_or_from_a_file_that_wins(tmp_path):
    environment = {"FMCIB_PACS_USER": "me", "FMCIB_PACS_PASSWORD": "0123"}
    assert read_access(environment=environment) == Access("me", "0123")
    file = tmp_path / "credentials.yml"
    file.write_text("user: other\npassword: 0123\n")
    assert read_access(file, environment) == Access("other", "0123"), "a password of digits stays as it is written"
    assert read_access(environment={**environment, "FMCIB_PACS_CREDENTIALS": str(file)}).user == "other"


@pytest.mark.parametrize(
    "text", ["user: [s3cret]", "s3cret", "user: me\npasword: s3cret", "user: 'a: s3cret", "a: &s3cret"]
)
def test_credentials_that_cannot_be_read_are_not_repeated(tmp_path, text):
    file = tmp_path / "credentials.yml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"credentials\.yml") as error:
        read_access(file, {})
    assert "s3cret" not in str(error.value)


def test_secrets_are_not_shown_when_access_is_printed(tmp_path):
    assert "s3cret" not in repr(Access("me", "s3cret", "s3cret"))
    with pytest.raises(ConfigError, match="no such certificate"):
        read_access(environment={"FMCIB_PACS_CA": str(tmp_path / "absent.pem")})


@pytest.mark.parametrize("url", ["https://host", "https://host:8443/a/b", "http://127.0.0.1:8042", "http://[::1]:80"])
def test_an_address_that_is_safe_is_taken(url):
    assert check_url(f"{url}/") == url


@pytest.mark.parametrize(
    "url", ["http://host", "https://me:s3cret@host", "https://s3cret@host", "host", "file:///x", ""]
)
def test_an_address_that_is_not_is_refused(url):
    with pytest.raises(ConfigError) as error:
        check_url(url)
    assert "s3cret" not in str(error.value)
    assert check_url("http://host", plain_http=True) == "http://host"


def test_a_user_is_named_in_utf_8_and_a_token_as_bearer(server, monkeypatch, tmp_path):
    url, told = server
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password else\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    for access in (Access("jürgen", "pâss:wörd€"), Access(token="abc")):
        with open_session(access) as session:
            session.get(f"{url}/200", timeout=5)
    assert b64decode(told[0].removeprefix("Basic ")).decode() == "jürgen:pâss:wörd€"
    assert told[1] == "Bearer abc"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, PeerError),
        (403, PeerError),
        (404, PeerError),
        (409, PeerError),
        (429, PeerUnavailableError),
        (500, PeerUnavailableError),
        (503, PeerUnavailableError),
        ("garbage", PeerError),
    ],
)
def test_what_a_server_answers_becomes_an_error_that_says_whether_to_ask_again(server, status, error):
    url, _ = server
    orthanc = Orthanc(f"{url}/{status}", Access("me", "s3cret"))
    with pytest.raises(error, match=r"Orthanc at 127\.0\.0\.1") as raised:
        orthanc.last_change()
    assert type(raised.value) is error
    assert "s3cret" not in str(raised.value)
    orthanc.close()


@needs_openssl
def test_a_certificate_is_checked_and_a_private_authority_can_be_named(tls):
    web = HTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"told": []}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    web.socket = context.wrap_socket(web.socket, server_side=True)
    thread = threading.Thread(target=web.serve_forever, args=(0.02,))
    thread.start()
    url = f"https://127.0.0.1:{web.server_address[1]}"
    try:
        stranger, friend = Orthanc(url, Access()), Orthanc(url, Access(ca=tls.certificate))
        with pytest.raises(PeerError, match="certificate is not trusted") as error:
            stranger.last_change()
        assert not isinstance(error.value, PeerUnavailableError)
        assert friend.last_change() == 7
    finally:
        stranger.close()
        friend.close()
        web.shutdown()
        thread.join()
        web.server_close()


def test_a_file_that_breaks_off_does_not_appear(server, tmp_path):
    url, _ = server
    orthanc = Orthanc(url, Access())
    with pytest.raises(PeerUnavailableError):
        orthanc.download(Instance("name", "version", 100), tmp_path / "one.dcm")
    assert not list(tmp_path.iterdir())
    orthanc.close()


def test_pauses_grow_and_end():
    assert [back_off_s(failures) for failures in (1, 2, 3, 7, 99)] == [1, 2, 4, 60, 60]
    waits: list[float] = []
    calls: list[int] = []

    def action() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise PeerUnavailableError("what", "where", "fix")
        return "done"

    assert with_retries(action, waits.append) == "done"
    assert waits == [1, 2]
    with pytest.raises(PeerUnavailableError):
        with_retries(lambda: (_ for _ in ()).throw(PeerUnavailableError("what", "where", "fix")), waits.append)
    assert len(waits) == 2 + ATTEMPTS - 1


def test_a_study_waits_until_it_is_finished_and_again_when_it_changes(tmp_path: Path):
    state = WatchState(tmp_path / "state.sqlite")
    assert state.place("peer") is None
    state.note("peer", 5, {"study"})
    assert [state.begin("study", "digest") for _ in range(2)] == [1, 2]
    state.close()  # as a kill would
    state = WatchState(tmp_path / "state.sqlite")
    assert state.place("peer") == 5
    [found] = state.waiting(0.0)
    assert (found.started, found.attempts, found.finished) == ("digest", 2, "")
    state.try_again("study", 100.0, "reason")
    assert not state.waiting(99.0)
    assert state.begin("study", "other objects") == 1
    state.finish("study", "other objects", End.FAILED, "reason")
    assert not state.waiting(1e9)
    assert state.count_failed() == 1
    state.note("peer", 6, {"study"})
    assert [found.finished for found in state.waiting(0.0)] == ["other objects"]
    assert state.count_failed() == 0
    state.close()
