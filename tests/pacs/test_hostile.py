"""Peers that send what they should not: the node answers or hangs up, stays alive, and says so without identifiers."""

import random
import socket
import struct
import threading
import time

import pytest
from pynetdicom import AE, evt

from tests.pacs.node_helpers import events, node_settings, running, send, small_study, wait_for

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, as in the program
FUZZED = 1000


@pytest.fixture
def node(tmp_path):
    settings = node_settings(tmp_path, timeout_s=1.0, quiet_s=60.0, maximum_associations=20, maximum_object_mb=1)
    with running(settings) as (service, log):
        yield service, log


def recorded(port: int) -> list[bytes]:
    """The PDUs of a whole association as a well-behaved peer sends them."""
    pdus: list[bytes] = []
    ct = small_study("fuzz")[0]
    entity = AE("TESTER")
    entity.add_requested_context(ct.SOPClassUID, ct.file_meta.TransferSyntaxUID)
    handlers = [(evt.EVT_DATA_SENT, lambda event: pdus.append(event.data))]
    association = entity.associate("127.0.0.1", port, ae_title="FMCIB", evt_handlers=handlers)
    assert association.send_c_store(ct).Status == 0
    association.release()
    return pdus


def exchange(port: int, pdus: list[bytes], *, wait_s: float = 0.5) -> bytes:
    """Send PDUs on one connection, hang up, and give back what came."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=wait_s) as connection:
        try:
            for number, pdu in enumerate(pdus):
                connection.sendall(pdu)
                if number == 0 and len(pdus) > 1:
                    answer += connection.recv(65536)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                answer += chunk
        except OSError:
            pass
    return answer


def spoil(pdu: bytes, chance: random.Random) -> bytes:
    """A PDU with some bytes changed, removed, repeated, or with another length."""
    spoilt = bytearray(pdu)
    kind = chance.randrange(5)
    if kind == 0:
        for _ in range(chance.randint(1, 8)):
            spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
    elif kind == 1:
        del spoilt[chance.randrange(len(spoilt)) :]
    elif kind == 2:
        spoilt[2:6] = struct.pack(">L", chance.choice([0, 1, 2**31, 2**32 - 1, chance.randrange(2**17)]))
    elif kind == 3:
        at = chance.randrange(6, len(spoilt))
        spoilt[at:at] = chance.randbytes(chance.randint(1, 64))
    else:
        spoilt = bytearray(chance.randbytes(chance.randint(1, 200)))
    return bytes(spoilt)


@pytest.mark.parametrize("count", [20, pytest.param(FUZZED, marks=pytest.mark.slow)])
def test_fuzzed_pdus_are_survived(node, count):
    service, log = node
    request, *messages, _release = recorded(service.port)
    chance = random.Random(7)
    for number in range(count):
        if number % 3 == 0:
            exchange(service.port, [spoil(request, chance)])
        else:
            at = chance.randrange(len(messages))
            exchange(service.port, [request, *messages[:at], spoil(messages[at], chance), *messages[at + 1 :]])
    wait_for(lambda: not [one for one in threading.enumerate() if "AcceptorThread" in one.name])
    assert send(service.port, small_study("after")) == [0] * 4
    assert "SECRET" not in log.getvalue()
    told = {event["event"] for event in events(log)}
    assert told & {"association-aborted", "connection-cut", "object-refused"}
    assert "internal-error" not in told


def test_a_pdu_that_claims_gigabytes_is_cut_off_unread(node):
    service, log = node
    request, *_ = recorded(service.port)
    exchange(service.port, [request, struct.pack(">BBL", 4, 0, 2**32 - 1) + bytes(1000)])
    wait_for(lambda: "PDU too long" in [event.get("reason") for event in events(log)])


def test_an_object_that_never_ends_is_cut_off(node):
    service, log = node
    request, command, *_ = recorded(service.port)
    context = command[10]
    fragment = struct.pack(">BBLLBB", 4, 0, 60_006, 60_002, context, 0) + bytes(60_000)
    exchange(service.port, [request, command, *[fragment] * 40])
    wait_for(lambda: "object too large" in [event.get("reason") for event in events(log)])


@pytest.mark.slow
def test_silent_and_slow_peers_are_cut_off_while_others_are_served(node):
    service, _ = node
    request, *_ = recorded(service.port)
    silent = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(5)]
    slow = socket.create_connection(("127.0.0.1", service.port))
    slow.sendall(request[:5])
    assert send(service.port, small_study("beside")) == [0] * 4
    until = time.monotonic() + 10
    for connection in (*silent, slow):
        connection.settimeout(max(0.1, until - time.monotonic()))
        assert connection.recv(1) in (b"", b"\x07")  # closed, or aborted first
        connection.close()


@pytest.mark.slow
def test_a_flood_of_connections_is_refused_and_others_are_served_afterwards(node):
    service, log = node
    flood = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(60)]
    wait_for(lambda: "connection-refused" in {event["event"] for event in events(log)})
    assert service.associations < 55  # 40, and those that the last look did not see yet
    for connection in flood:
        connection.close()
    wait_for(lambda: service.associations == 0)
    assert send(service.port, small_study("later")) == [0] * 4


@pytest.mark.slow
def test_a_peer_that_stopped_in_the_middle_of_a_message_does_not_hold_up_the_end(tmp_path):
    settings = node_settings(tmp_path, timeout_s=300.0, quiet_s=60.0)
    with running(settings) as (service, _):
        request, command, *_ = recorded(service.port)
        stopped = socket.create_connection(("127.0.0.1", service.port))
        stopped.sendall(request)
        assert stopped.recv(65536)[0] == 2  # accepted
        stopped.sendall(command[:20])
        wait_for(lambda: service.associations == 1)
        before = time.monotonic()
    assert time.monotonic() - before < 60
    assert not [one for one in threading.enumerate() if "AcceptorThread" in one.name]
    stopped.close()
