"""Outside programs that tests check our DICOM with: absent ones skip a test, except in CI, where they are an error."""

import os
import shutil
import sys
from pathlib import Path

import pytest


def tool(name: str) -> str:
    """Where a program is: beside this Python, as packages install theirs, or on the PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.is_file() else shutil.which(name) or name


def needs_tool(name: str) -> pytest.MarkDecorator:
    """Skip a test with a reason where program `name` is not installed; under CI=true run it, so that it fails."""
    absent = shutil.which(tool(name)) is None and os.environ.get("CI") != "true"
    return pytest.mark.skipif(absent, reason=f"{name} is not installed (apt install dcmtk dicom3tools)")


needs_dciodvfy = needs_tool("dciodvfy")
