"""The files under deploy/ say what the command line takes."""

import json
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml

from fmcib_module.cli import app
from fmcib_module.pacs.mercure import is_called

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def parse(words: list[str]) -> dict[str, object]:
    """What the command line makes of the words after `fmcib`; an unknown option or a wrong value is an error."""
    command = typer.main.get_command(app)
    name, *arguments = words
    sub = command.get_command(None, name)  # type: ignore[attr-defined]
    return dict(sub.make_context(name, arguments).params)


def test_the_compose_file_watches_its_orthanc_with_nothing_secret_in_it():
    compose = yaml.safe_load((DEPLOY / "orthanc" / "compose.yml").read_text())
    service = compose["services"]["fmcib"]
    program, *words = service["command"]
    given = parse(words)
    assert program == "fmcib"
    assert given["orthanc"] == "http://orthanc:8042"
    assert given["plain_http"]
    assert compose["networks"]["inside"]["internal"], "plain http stays between the two"
    assert service["networks"] == ["inside"]
    assert service["read_only"]
    mounted = [volume.split(":")[1] for volume in service["volumes"]]
    assert service["environment"] == {"FMCIB_PACS_CREDENTIALS": "/run/secrets/credentials.yml"}
    assert service["environment"]["FMCIB_PACS_CREDENTIALS"] in mounted
    assert str(given["folder"]).startswith("/app/data/output_data/"), "a folder of its own in the mounted one"
    json.loads((DEPLOY / "orthanc" / "orthanc.json").read_text())


def test_xnats_command_parses_with_its_defaults():
    command = json.loads((DEPLOY / "xnat" / "command.json").read_text())
    line = command["command-line"]
    for one in command["inputs"]:
        assert one["replacement-key"] in line
        line = line.replace(one["replacement-key"], one["default-value"])
    program, *words = shlex.split(line)
    given = parse(words)
    assert program == "fmcib"
    mounts = {one["name"]: one["path"] for one in command["mounts"]}
    assert (given["source"], str(given["output"])) == (mounts["in"], mounts["out"])
    outputs = {one["name"] for one in command["outputs"]}
    for wrapper in command["xnat"]:
        assert {one["accepts-command-output"] for one in wrapper["output-handlers"]} <= outputs
        assert {one["provides-files-for-command-mount"] for one in wrapper["external-inputs"]} <= set(mounts)


@pytest.mark.parametrize(("environment", "called"), [({"MERCURE_IN_DIR": "/input"}, True), ({}, False)])
def test_the_image_knows_who_started_it(environment, called):
    assert is_called(environment) is called
