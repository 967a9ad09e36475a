"""An image's /app, for a test: the folders of the repository where the image has them, mounted in a view of its own.

mhubio's runner has /app fixed in its code. Here a process gets a root that shows everything of this machine, plus /app;
nothing is written outside the test's folder.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mhub.chain import ROOT

_ENTER = r"""
set -e
root=$1 app=$2; shift 2
mount -t tmpfs tmpfs "$root"
for entry in /*; do
  name=$(basename "$entry")
  if [ "$name" = app ]; then continue
  elif [ -L "$entry" ]; then cp -d "$entry" "$root/$name"
  elif [ -d "$entry" ]; then mkdir "$root/$name"; mount --rbind "$entry" "$root/$name"
  fi
done
mkdir "$root/app"
mount --rbind "$app" "$root/app"
PATH="$PATH:/usr/sbin:/sbin" exec chroot "$root" "$@"
"""
_UNSHARE = ["unshare", "--map-root-user", "--mount", "sh", "-c", _ENTER, "sh"]


def lay_out(app: Path) -> Path:
    """Copy model, workflows and modules to where the image has them; returns the empty input folder."""
    model = app / "models" / "fmcib"
    shutil.copytree(ROOT / "mhub", model, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "config", model / "config")
    source = app / "data" / "input_data"
    source.mkdir(parents=True)
    return source


def run_in_app(app: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python in /app with `app` mounted there, standard input open and never answered.

    Skips where this user may not mount, but never in CI.
    """
    root = app.parent / "root"
    root.mkdir(exist_ok=True)
    if not _may_mount(root, app) and not os.environ.get("CI"):
        pytest.skip("needs a mount namespace (unshare --map-root-user --mount)")
    environment = {**os.environ, "PYTHONPATH": f"/app:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1", "PWD": "/app"}
    arguments = [*_UNSHARE, str(root), str(app), "env", "--chdir=/app", sys.executable, "-m", *command]
    reader, writer = os.pipe()
    try:
        return subprocess.run(
            arguments, stdin=reader, capture_output=True, text=True, env=environment, check=False, timeout=300
        )
    finally:
        os.close(reader)
        os.close(writer)


def _may_mount(root: Path, app: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*_UNSHARE, str(root), str(app), "true"], capture_output=True, check=False).returncode == 0
