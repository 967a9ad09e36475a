"""Commands that are killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from fmcib_module.adapters.salt import SALT_VARIABLE

SALT = "the same in all outputs that are compared"


def start(command: str, source: Path, output: Path, *options: str) -> "subprocess.Popen[bytes]":
    """A command of `fmcib` in a process group of its own; what it says goes to a file beside OUTPUT."""
    words = [sys.executable, "-m", "fmcib_module.cli", command, str(source), str(output), *options]
    environment = {**os.environ, SALT_VARIABLE: SALT}
    with output.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True, env=environment)


def end(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL the whole group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
