"""`fmcib serve`: the chain as a DICOM node beside a PACS."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fmcib_module.core.errors import ConfigError


def serve_command(
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file, see config/pacs/serve.yml; options below win.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="For received objects, state and results.")] = None,
    ae_title: Annotated[str | None, typer.Option(help="AE title of the node.", show_default="FMCIB")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="DICOM port.", show_default="11112")] = None,
    peer: Annotated[
        list[str] | None, typer.Option(help="Who may send: AETITLE or AETITLE@ADDRESS; may be repeated.")
    ] = None,
    destination: Annotated[
        list[str] | None, typer.Option(help="Where results go: AETITLE@HOST:PORT or a STOW-RS URL; may be repeated.")
    ] = None,
    http_port: Annotated[
        int | None, typer.Option(help="Port of the status page on this machine; -1 for none.", show_default="8080")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Name in `fmcib weights list`, or a file.")] = None,
    identifiers: Annotated[
        bool | None, typer.Option("--identifiers", help="Show PatientID and StudyInstanceUID on the status page.")
    ] = None,
) -> None:
    """Receive CT and what marks lesions by C-STORE, run each study, and send SR and SEG on; ends at SIGTERM.

    Exit codes: 0 stopped; 2 wrong usage, configuration or weights, nothing was started.
    """
    from fmcib_module.pacs.node_settings import read_node_settings
    from fmcib_module.pacs.service import serve
    from fmcib_module.pipeline import check_run
    from fmcib_module.settings import read_yaml

    given: dict[str, Any] = {
        "folder": folder,
        "ae_title": ae_title,
        "host": host,
        "port": port,
        "peers": [_peer(text) for text in peer] if peer else None,
        "destinations": [_destination(text) for text in destination] if destination else None,
        "http_port": http_port,
        "identifiers": identifiers,
    }
    options = {key: value for key, value in given.items() if value is not None}
    if weights is not None:
        run = (read_yaml(config) if config else {}).get("run") or {}
        options["run"] = {**run, "weights": weights}
    settings = read_node_settings(config, **options)
    place = Path(settings.folder)
    check_run(place / "inputs", place / "results", settings.run)
    serve(settings, sys.stderr)


def _peer(text: str) -> dict[str, str]:
    ae_title, _, address = text.partition("@")
    return {"ae_title": ae_title, "address": address}


def _destination(text: str) -> dict[str, Any]:
    """A destination of the command line; its text is its name."""
    if text.startswith(("http://", "https://")):
        return {"name": "stow", "protocol": "stow", "url": text}
    ae_title, _, place = text.partition("@")
    host, _, port = place.rpartition(":")
    if not ae_title or not host or not port.isdigit():
        raise ConfigError(f"{text!r} is no destination", "--destination", "write AETITLE@HOST:PORT or a URL")
    return {"name": ae_title, "ae_title": ae_title, "host": host, "port": int(port)}
