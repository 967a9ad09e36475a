"""A file arrives whole and verified, or not at all, whatever the server does."""

import errno
import hashlib
import multiprocessing
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from fmcib_module.adapters import download as download_module
from fmcib_module.adapters.download import MAX_REDIRECTS, download
from fmcib_module.core.errors import WeightsError
from tests.adapters.file_server import Faults, serving

BODY = np.random.default_rng(0).bytes(3_000_001)
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server():
    with serving(Faults(BODY)) as faults:
        yield faults


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "cache" / "weights.bin"


def fetch(url: str, target: Path, **options) -> None:
    settings = {"sha256": SHA256, "max_bytes": 4_000_000, "retry_delays_s": (0.0, 0.0), "timeout_s": 5.0} | options
    download(url, target, **settings)


def left_over(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()} - {"weights.bin", "weights.bin.lock"}


def test_a_file_arrives_whole_and_progress_ends_at_its_size(server, target):
    steps: list[tuple[int, int]] = []
    fetch(server.url, target, progress=lambda done, total: steps.append((done, total)))
    assert target.read_bytes() == BODY
    assert steps[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    assert left_over(target) == set()


def test_a_file_without_a_stated_length_arrives(server, target):
    server.hides_length = True
    fetch(server.url, target)
    assert target.read_bytes() == BODY


def test_a_cut_connection_goes_on_where_it_stopped(server, target):
    server.cuts = [1_000_000, 500_000]
    fetch(server.url, target)
    assert target.read_bytes() == BODY
    assert server.ranges == ["", "bytes=1000000-", "bytes=1500000-"]


def test_another_run_goes_on_where_the_last_one_stopped(server, target):
    server.cuts = [700_000]
    with pytest.raises(WeightsError, match="ended after 700000 of 3000001 bytes"):
        fetch(server.url, target, retry_delays_s=())
    assert not target.exists()
    fetch(server.url, target)
    assert target.read_bytes() == BODY
    assert server.ranges == ["", "bytes=700000-"]


def test_a_server_that_ignores_ranges_is_read_from_the_start(server, target):
    server.cuts, server.ignores_range = [700_000], True
    fetch(server.url, target)
    assert target.read_bytes() == BODY
    assert server.ranges == ["", "bytes=700000-"]


def test_a_server_that_sends_another_range_is_asked_from_the_start(server, target):
    server.cuts, server.wrong_range = [700_000], True
    fetch(server.url, target)
    assert target.read_bytes() == BODY
    assert server.ranges == ["", "bytes=700000-", ""]


def test_a_file_that_changed_on_the_server_is_not_glued_to_an_old_beginning(server, target):
    server.body, server.etag, server.cuts = b"old" * 1_000_000, '"old"', [700_000]
    with pytest.raises(WeightsError, match="ended after"):
        fetch(server.url, target, retry_delays_s=())
    server.body, server.etag = BODY, '"new"'
    fetch(server.url, target)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_validator_nothing_is_resumed(server, target, etag):
    server.etag, server.cuts = etag, [700_000]
    fetch(server.url, target)
    assert target.read_bytes() == BODY
    assert server.ranges == ["", ""]


def test_a_partial_file_longer_than_the_servers_is_dropped(server, target):
    server.cuts = [700_000]
    with pytest.raises(WeightsError):
        fetch(server.url, target, retry_delays_s=())
    with target.with_name("weights.bin.part").open("ab") as part:
        part.write(bytes(3_000_000))
    fetch(server.url, target)
    assert target.read_bytes() == BODY


def test_bounded_attempts_on_a_server_that_always_cuts(server, target):
    server.etag, server.cuts = "", [10, 10, 10, 10]
    with pytest.raises(WeightsError, match=r"failed 3 times.* after 10 of 3000001 bytes"):
        fetch(server.url, target)
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(server, target, status):
    server.statuses = [status, status]
    fetch(server.url, target)
    assert target.read_bytes() == BODY


def test_the_wait_that_a_busy_server_asks_for_is_kept_within_bounds(server, target, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    server.statuses, server.retry_after = [503, 503, 503], "7"
    with pytest.raises(WeightsError, match="answered 503"):
        fetch(server.url, target, retry_delays_s=(1.0, 9.0))
    assert waits == [7.0, 9.0]


def test_a_missing_file_is_not_asked_for_again(server, target):
    server.statuses = [404, 404]
    with pytest.raises(WeightsError, match="answered 404"):
        fetch(server.url, target)
    assert len(server.requests) == 1


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(server, target):
    with pytest.raises(WeightsError, match=f"SHA-256 {SHA256}, expected {'0' * 64}"):
        fetch(server.url, target, sha256="0" * 64)
    assert not target.exists()
    assert left_over(target) == set()


@pytest.mark.parametrize("hides_length", [False, True], ids=["stated", "unstated"])
def test_a_file_over_the_limit_is_cut_off(server, target, hides_length):
    server.hides_length = hides_length
    with pytest.raises(WeightsError, match="larger than the 1500000 bytes"):
        fetch(server.url, target, max_bytes=1_500_000)
    assert left_over(target) == set()


def test_a_redirect_is_followed(server, target):
    with serving(Faults(b"", redirect=server.url)) as front:
        fetch(front.url, target)
    assert target.read_bytes() == BODY


def test_a_redirect_loop_ends(server, target):
    server.redirect = "/weights.bin"
    with pytest.raises(WeightsError, match="redirects more than 5 times"):
        fetch(server.url, target)
    assert len(server.requests) <= MAX_REDIRECTS + 1


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://127.0.0.1/weights.bin"])
def test_a_redirect_to_another_scheme_is_refused(server, target, location):
    server.redirect = location
    with pytest.raises(WeightsError, match="redirects"):
        fetch(server.url, target)
    assert not target.exists()


def test_a_redirect_from_https_to_http_is_refused():
    request = urllib.request.Request("https://example.org/weights.bin")
    with pytest.raises(WeightsError, match="from https to http"):
        download_module._Redirects().redirect_request(request, None, 302, "", {}, "http://example.org/weights.bin")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://example.org/weights.bin", "weights.bin"])
def test_only_http_is_fetched(url, target):
    with pytest.raises(WeightsError, match="only http and https"):
        fetch(url, target)


def test_a_server_that_is_not_there_is_an_error_after_bounded_attempts(target):
    with pytest.raises(WeightsError, match=r"failed 3 times.*no connection"):
        fetch("http://127.0.0.1:9/weights.bin", target)


def test_a_full_disk_is_said_so(server, target, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download_module, "_copy", full)
    with pytest.raises(WeightsError, match=r"disk is full.*FMCIB_CACHE"):
        fetch(server.url, target)


def test_a_folder_that_cannot_be_made_is_said_so(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match=r"cannot be written.*FMCIB_CACHE"):
        fetch(server.url, tmp_path / "file" / "weights.bin")


def test_two_processes_at_once_fetch_it_once(server, target):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=fetch, args=(server.url, target)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert target.read_bytes() == BODY
    assert len(server.requests) == 1


def test_no_message_names_a_folder(server, target):
    server.statuses = [404]
    with pytest.raises(WeightsError) as caught:
        fetch(server.url, target)
    assert str(target.parent) not in str(caught.value)
