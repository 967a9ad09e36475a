"""`fmcib serve`: options and file become settings; what is wrong ends with 2 before anything is started."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fmcib_module.cli import app
from fmcib_module.core.errors import ConfigError, WeightsError
from fmcib_module.pacs import service
from fmcib_module.pacs.node_settings import Destination, NodeSettings, Peer, Protocol

CONFIG = Path(__file__).resolve().parents[2] / "config" / "pacs" / "serve.yml"


@pytest.fixture
def started(monkeypatch) -> list[NodeSettings]:
    settings: list[NodeSettings] = []
    monkeypatch.setattr(service, "serve", lambda one, _log: settings.append(one))
    return settings


def test_options_win_over_the_file(tmp_path, started):
    options = ["--config", str(CONFIG), "--folder", str(tmp_path), "--peer", "CT1@192.0.2.0/24", "--peer", "CT2"]
    options += ["--destination", "PACS@pacs.example:104", "--destination", "https://pacs.example/dicom-web"]
    result = CliRunner().invoke(app, ["serve", *options, "--weights", "mini", "--identifiers"])
    assert result.exit_code == 0, result.exception
    (settings,) = started
    assert settings.peers == (Peer("CT1", "192.0.2.0/24"), Peer("CT2"))
    assert settings.destinations == (
        Destination("PACS", ae_title="PACS", host="pacs.example", port=104),
        Destination("stow", Protocol.STOW, url="https://pacs.example/dicom-web"),
    )
    assert settings.identifiers
    assert settings.quiet_s == 30.0  # from the file
    assert settings.run.seed_sources == ("RTSTRUCT", "SEG")  # from the file, beside the weights


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folder", "F"], "nobody may send"),
        (["--peer", "A"], "folder"),
        (["--folder", "F", "--peer", "A", "--destination", "PACS"], "is no destination"),
        (["--folder", "F", "--peer", "A@not-an-address"], "is no address"),
        (["--folder", "F", "--peer", "A", "--weights", "no-such"], "no-such"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_started(tmp_path, monkeypatch, started, options, message):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["serve", *options])
    assert isinstance(result.exception, ConfigError | WeightsError)
    assert message in str(result.exception)
    assert started == []
    assert not list(tmp_path.iterdir())
