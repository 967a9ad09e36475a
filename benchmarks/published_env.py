"""The published package in an environment of its own, installed once from the package index.

The folder is $FMCIB_PUBLISHED_ENV, else .venv-published in the repository (about 6 GB: torch and what it needs).
"""

import os
import subprocess
import sys
import venv
from hashlib import sha256
from pathlib import Path
from typing import Final

from benchmarks.bench import ROOT

LOCK: Final = Path(__file__).with_name("published.lock")
CHECK: Final = "from fmcib.models import fmcib_model; from fmcib.run import get_features"


def published_python() -> Path:
    """The interpreter of the published package's environment; installs it where it is absent or the lock changed.

    Raises:
        CalledProcessError: pip failed, or the package does not import; what they say is on the terminal.
    """
    folder = Path(os.environ.get("FMCIB_PUBLISHED_ENV", "") or ROOT / ".venv-published")
    python = folder / "bin" / "python"
    marker = folder / "installed.sha256"
    digest = sha256(LOCK.read_bytes()).hexdigest()
    if marker.is_file() and marker.read_text() == digest:
        return python
    if sys.version_info[:2] != (3, 11):
        sys.exit("the published package needs Python 3.8 to 3.11, and its lock is for 3.11: use python3.11")
    print("[published_env] installing the published package, once (some minutes)", flush=True)
    venv.create(folder, clear=True, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--requirement", str(LOCK)], check=True)
    subprocess.run([str(python), "-W", "ignore", "-c", CHECK], check=True, cwd=folder)
    marker.write_text(digest)
    return python


if __name__ == "__main__":
    published_python()
    print("[published_env] ready")
