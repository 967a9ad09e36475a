"""What the entrypoint refuses before anything runs, each with exit code 2 and a message that says what to write."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fmcib_module.core.errors import ConfigError
from mhub import entrypoint
from tests.mhub.chain import MODULES, ROOT, WORKFLOWS

IMPORT_PATHS = {module.__name__: module.__module__ for module in MODULES}


def _default() -> dict[str, Any]:
    workflow: dict[str, Any] = yaml.safe_load((WORKFLOWS / "default.yml").read_text())
    return workflow


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.stem)
def test_our_own_workflows_pass_every_check(path: Path) -> None:
    workflow = entrypoint.load_workflow(path)
    entrypoint.check_modules(workflow, IMPORT_PATHS)
    entrypoint.check_sections(workflow)


@pytest.mark.parametrize(
    ("execute", "message"),
    [
        (["DicomImporter", "CentroidFindr"], "no module 'CentroidFindr'"),
        (["DicomImporter", "handover"], "'handover' is not an mhubio module"),
        (["DicomImporter", "Broken"], "'Broken' cannot be imported"),
        (["DicomImporter", {"name": "StatusGate"}], "is not a module"),
        ([], "nothing to execute"),
        (None, "nothing to execute"),
        ("DicomImporter", "nothing to execute"),
    ],
)
def test_a_wrong_name_under_execute_is_an_error(execute: Any, message: str) -> None:
    paths = {**IMPORT_PATHS, "handover": "mhub.utils.handover", "Broken": "mhub.utils.no_such_file"}
    with pytest.raises(ConfigError, match=message):
        entrypoint.check_modules({"execute": execute}, paths)


def test_a_section_of_a_module_that_is_not_executed_is_an_error() -> None:
    workflow = _default()
    workflow["modules"]["PatchExtractr"] = {"mode": "centred"}
    with pytest.raises(ConfigError, match="'PatchExtractr' is not executed"):
        entrypoint.check_sections(workflow)


def test_sections_of_other_modules_are_their_own_affair() -> None:
    workflow = _default()
    workflow["execute"].append("DataOrganizer")
    workflow["modules"]["DataOrganizer"] = {"targets": ["json-->[i:sid]/[basename]"]}
    entrypoint.check_sections(workflow)


def test_a_misspelt_key_is_an_error() -> None:
    workflow = _default()
    workflow["modules"]["PatchExtractor"]["moed"] = "centred"
    with pytest.raises(ConfigError, match=r"'moed' \[modules.PatchExtractor\]"):
        entrypoint.check_sections(workflow)


def test_an_absent_workflow_is_an_error_that_lists_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"'from_nothing'.*default, from_centroids"):
        entrypoint.find_workflow("from_nothing", WORKFLOWS)


@pytest.mark.parametrize(
    "text", ["general: [", "- a list", "", "general: {version: 1.0}"], ids=["no YAML", "list", "empty", "no base"]
)
def test_a_file_that_is_no_workflow_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "own.yml").write_text(text)
    with pytest.raises(ConfigError, match=r"own\.yml"):
        entrypoint.load_workflow(tmp_path / "own.yml")


def test_an_override_reaches_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["mhubio.run", "--config:modules.PatchExtractor.mode=centred"])
    assert entrypoint.load_workflow(WORKFLOWS / "default.yml")["modules"]["PatchExtractor"]["mode"] == "centred"


def test_an_override_of_a_whole_section_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["mhubio.run", "--config:general=centred"])
    with pytest.raises(ConfigError, match="--config:"):
        entrypoint.load_workflow(WORKFLOWS / "default.yml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workflw", "default"], "unrecognized arguments"),
        (["--config:modules.PatchExtractor.mode"], "write --config:modules.MODULE.KEY=VALUE"),
        (["--workflow", "default", "--config", "own.yml"], "not allowed with"),
        (["--workflow", "from_nothing"], "there is no workflow 'from_nothing'"),
        (["--config", "absent.yml"], r"absent\.yml"),
    ],
)
def test_wrong_usage_exits_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrypoint, "WORKFLOWS", WORKFLOWS)
    monkeypatch.setattr(sys, "argv", ["fmcib"])
    with pytest.raises(SystemExit) as end:
        entrypoint.main(arguments)
    assert end.value.code == 2
    assert re.search(f"error: .*{message}", capsys.readouterr().err)


def test_standard_input_is_empty_for_every_reader() -> None:
    script = "from mhub.entrypoint import close_stdin; close_stdin(); import os, sys; "
    script += "print(repr(sys.stdin.read()), os.read(0, 1), os.system('cat'))"
    reader, writer = os.pipe()  # nobody writes or closes the other end
    try:
        ended = subprocess.run(
            [sys.executable, "-c", script],
            stdin=reader,
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
            check=True,
        )
    finally:
        os.close(reader)
        os.close(writer)
    assert ended.stdout.strip() == "'' b'' 0"
