"""Settings of `fmcib serve`: one YAML file, whose keys are exactly these fields; an unknown key is an error."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from fmcib_module.core.errors import ConfigError
from fmcib_module.settings import Settings, from_plain, read_yaml


class Protocol(StrEnum):
    """How results go to a destination."""

    CSTORE = "cstore"
    STOW = "stow"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who may send to the node.

    Attributes:
        ae_title: Calling AE title.
        address: Address or network ("192.0.2.7", "192.0.2.0/24") that it calls from; empty for any.
    """

    ae_title: str
    address: str = ""

    def __post_init__(self) -> None:
        _check_ae_title(self.ae_title)
        if self.address:
            try:
                ip_network(self.address)
            except ValueError as error:
                what = f"{self.address!r} is no address or network"
                raise ConfigError(what, f"peer {self.ae_title}", "write 192.0.2.7 or 192.0.2.0/24") from error

    def admits(self, ae_title: str, address: str) -> bool:
        """Whether a caller is this peer."""
        if ae_title.strip() != self.ae_title.strip():
            return False
        return not self.address or ip_address(address) in ip_network(self.address)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where results go.

    Attributes:
        name: For the log and the status page.
        protocol: cstore or stow.
        ae_title: C-STORE: called AE title.
        host: C-STORE: name or address.
        port: C-STORE: TCP port.
        tls: C-STORE: speak TLS, checked with `tls.authorities`.
        url: STOW-RS: the DICOMweb service, without credentials.
        credentials: STOW-RS: YAML file with user and password or token; empty for the environment.
    """

    name: str
    protocol: Protocol = Protocol.CSTORE
    ae_title: str = ""
    host: str = ""
    port: int = 104
    tls: bool = False
    url: str = ""
    credentials: str = ""

    def __post_init__(self) -> None:
        where = f"destination {self.name}"
        if self.protocol is Protocol.STOW:
            if not self.url:
                raise ConfigError("stow without a url", where, "give the address of the DICOMweb service")
        elif not self.host:
            raise ConfigError("cstore without a host", where, "give ae_title, host and port")
        else:
            _check_ae_title(self.ae_title)


@dataclass(frozen=True, slots=True)
class Tls:
    """Files for TLS, in PEM form.

    Attributes:
        certificate: Of the node; empty for no TLS.
        key: Its private key.
        authorities: Who signs the certificates of peers; if given, a peer without one is refused.
    """

    certificate: str = ""
    key: str = ""
    authorities: str = ""

    def server_context(self) -> ssl.SSLContext | None:
        """What the node listens with; None without TLS.

        Raises:
            ConfigError: A file cannot be read.
        """
        if not self.certificate:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        return self._load(context, require_peer=bool(self.authorities))

    def client_context(self) -> ssl.SSLContext:
        """What results are sent with; peers are checked with `authorities`, or with those of the system.

        Raises:
            ConfigError: A file cannot be read.
        """
        return self._load(ssl.create_default_context(), require_peer=True)

    def _load(self, context: ssl.SSLContext, *, require_peer: bool) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key or None)
            if self.authorities:
                context.load_verify_locations(self.authorities)
        except (OSError, ssl.SSLError) as error:
            fix = "give PEM files that the node may read"
            raise ConfigError(f"TLS files cannot be used ({type(error).__name__})", "tls", fix) from error
        context.verify_mode = ssl.CERT_REQUIRED if require_peer else ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What `fmcib serve` does.

    Attributes:
        folder: Spool, state, results and dead letters; on one file system.
        ae_title: Of the node; a caller must name it.
        host: Address that it listens on.
        port: TCP port; 0 takes a free one.
        peers: Who may send; at least one.
        destinations: Where results go; without any they stay in `folder`.
        tls: Files for TLS.
        maximum_associations: More at once are rejected.
        maximum_pdu_bytes: Longest PDU that is accepted.
        maximum_object_mb: Largest object that is accepted.
        free_disk_gb: Objects are refused and no work is started with less free disk than this.
        timeout_s: A peer that is silent for so long is cut off.
        quiet_s: A study is ready when nothing arrived for so long, and CT and ROI are there.
        patience_h: A study without CT or ROI becomes a dead letter after so long.
        workers: Studies that are worked on at once.
        attempts: A study that fails so often becomes a dead letter.
        back_off_s: Wait after the first failure; it doubles with each.
        job_timeout_s: A study that takes longer has failed.
        keep_h: Objects and results of a study are deleted so long after all is delivered.
        stop_s: At SIGTERM, how long running work may go on.
        http_host: Address of the status page.
        http_port: Its TCP port; 0 takes a free one, -1 serves none.
        identifiers: Show PatientID and StudyInstanceUID on the status page.
        run: What `fmcib run` does, with the keys of config/default.yml.
    """

    folder: str
    ae_title: str = "FMCIB"
    host: str = "127.0.0.1"
    port: int = 11112
    peers: tuple[Peer, ...] = ()
    destinations: tuple[Destination, ...] = ()
    tls: Tls = field(default_factory=Tls)
    maximum_associations: int = 10
    maximum_pdu_bytes: int = 131072
    maximum_object_mb: int = 1024
    free_disk_gb: float = 5.0
    timeout_s: float = 60.0
    quiet_s: float = 30.0
    patience_h: float = 24.0
    workers: int = 1
    attempts: int = 3
    back_off_s: float = 60.0
    job_timeout_s: float = 3600.0
    keep_h: float = 24.0
    stop_s: float = 20.0
    http_host: str = "127.0.0.1"
    http_port: int = 8080
    identifiers: bool = False
    run: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        _check_ae_title(self.ae_title)
        positive = ("maximum_associations", "maximum_object_mb", "timeout_s", "workers", "attempts", "job_timeout_s")
        for name in positive:
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", "serve", "give a positive number")
        for name in ("free_disk_gb", "quiet_s", "patience_h", "back_off_s", "keep_h", "stop_s"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", "serve", "give 0 or more")
        if not 4096 <= self.maximum_pdu_bytes <= 2**24:
            raise ConfigError(f"maximum_pdu_bytes is {self.maximum_pdu_bytes}", "serve", "use 4096 to 16777216")
        if not self.peers:
            raise ConfigError("nobody may send: peers is empty", "serve", "list the AE titles that may call")
        _check_unique([destination.name for destination in self.destinations])
        if self.tls.certificate == "" and any(one.tls for one in self.destinations) and not self.tls.authorities:
            raise ConfigError("a destination with tls", "tls", "give authorities that its certificate is checked with")


def read_node_settings(path: Path | None, **overrides: Any) -> NodeSettings:
    """Read the settings of a node from YAML; `overrides` win.

    Raises:
        ConfigError: The file cannot be read, a key is unknown or missing, or a value does not fit.
    """
    values = {**(read_yaml(path) if path else {}), **overrides}
    run = values.get("run")
    if run is not None and not isinstance(run, dict):
        known = ", ".join(one.name for one in fields(Settings))
        raise ConfigError(f"run is {run!r}", "serve", f"write the keys of a run below it: {known}")
    return from_plain(NodeSettings, values, where=path.name if path else "options")


def _check_ae_title(title: str) -> None:
    """PS3.5 6.2, VR AE: 1 to 16 characters of the default repertoire, no backslash, not only spaces."""
    allowed = title.isascii() and title.isprintable() and "\\" not in title
    if not allowed or not title.strip() or len(title) > 16:
        raise ConfigError(f"{title!r} is no AE title", "serve", "use 1 to 16 ASCII characters without backslash")


def _check_unique(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two destinations are named {name!r}", "serve", "give each its own name")
