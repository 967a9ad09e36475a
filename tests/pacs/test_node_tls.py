"""TLS in both directions: who has no certificate of a known authority is not served."""

import gc
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE

from fmcib_module.core.errors import ConfigError
from fmcib_module.pacs.node_settings import Destination, Tls
from tests.pacs.node_helpers import events, free_port, node_settings, running, small_study, wait_for
from tests.pacs.receiver import Receiver

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

A_RELEASE_RQ = b"\x05\0\0\0\0\x04\0\0\0\0"
ALERT = b"\x15"
"""First byte of what TLS says to a peer that does not speak it."""


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """A certificate of localhost that is its own authority."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost", "-addext", names]
    subprocess.run(command, check=True, capture_output=True)
    return Tls(str(certificate), str(key), str(certificate))


def is_cut_off(port: int, context: ssl.SSLContext | None) -> bool:
    """Whether the node hangs up on a peer instead of answering its request."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            peer = context.wrap_socket(plain, server_hostname="localhost") if context else plain
            peer.sendall(A_RELEASE_RQ)
            return peer.recv(1) in (b"", ALERT)
        except ssl.SSLError:
            return True
        finally:
            peer.close()


@pytest.mark.slow
@needs_openssl
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_only_peers_with_a_certificate_are_served_and_results_go_out_encrypted(tmp_path, tls):
    receiver = Receiver(free_port())
    receiver.start(tls.server_context())
    to = {"name": "archive", "ae_title": "ARCHIVE", "host": "localhost", "port": receiver.port, "tls": True}
    files = {"certificate": tls.certificate, "key": tls.key, "authorities": tls.authorities}
    with running(node_settings(tmp_path, tls=files, destinations=[to], timeout_s=3.0)) as (service, log):
        silent = socket.create_connection(("127.0.0.1", service.port))  # never says hello; must not hold up others
        assert not is_cut_off(service.port, tls.client_context())  # it answers
        assert is_cut_off(service.port, None)
        assert is_cut_off(service.port, ssl.create_default_context(cafile=tls.authorities))
        entity = AE("TESTER")
        datasets = small_study("tls")
        for uids in {(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in datasets}:
            entity.add_requested_context(*uids)
        tls_args: Any = (tls.client_context(), "localhost")
        association = entity.associate("127.0.0.1", service.port, ae_title="FMCIB", tls_args=tls_args)
        assert [association.send_c_store(ds).Status for ds in datasets] == [0] * len(datasets)
        association.release()
        wait_for(lambda: "delivered" in {event["event"] for event in events(log)})
        silent.close()
    receiver.stop()
    assert len(receiver.contents) == 1
    gc.collect()


def test_files_that_are_no_certificates_are_refused(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no")
    with pytest.raises(ConfigError, match="TLS files cannot be used"):
        Tls(str(tmp_path / "no.pem")).server_context()
    with pytest.raises(ConfigError, match="authorities"):
        node_settings(tmp_path, destinations=[{"name": "a", "ae_title": "A", "host": "h", "tls": True}])
    with pytest.raises(ConfigError, match="without a host"):
        Destination("a", ae_title="A")
