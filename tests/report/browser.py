"""A page in headless Chromium: a script acts as a reader does and leaves what it saw in an element of the page."""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true", reason="no Chromium on this machine"
)

SETTLE = "--virtual-time-budget=5000"
"""Lets pictures appear before the page is taken; not for timings, since it replaces the page's clock."""

PRESS = "const press = (on, key) => on.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));"


def chromium(folder: Path, *arguments: str) -> str:
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={folder / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def hooked(report: Path, folder: Path, script: str) -> str:
    """Address of a copy of the page that ends with a script."""
    page, _, end = report.read_text(encoding="utf-8").rpartition("</body>")
    path = folder / "hooked.html"
    path.write_text(f"{page}<script>{script}</script></body>{end}", encoding="utf-8")
    return path.as_uri()


def see(report: Path, folder: Path, script: str, *arguments: str):
    """What `script`, the body of a function, returns in the browser."""
    probe = (
        "window.addEventListener('error', (e) => { document.title = `error: ${e.message}`; });"
        f"const seen = (() => {{ {script} }})();"
        "document.body.append(element('pre', { id: 'seen' }, JSON.stringify(seen)));"
    )
    dom = chromium(folder, *arguments, "--dump-dom", hooked(report, folder, probe))
    found = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL)
    assert found, re.findall(r"<title>.*?</title>", dom)
    return json.loads(html.unescape(found[1]))
