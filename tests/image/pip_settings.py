"""Write what pip is told on this machine into one file, and print what that file needs mounted, as FROM:TO lines."""

import subprocess
import sys
from pathlib import Path

CERTIFICATES = "/run/pip-certificates.crt"
"""Not where the image has its own, which a package installs while this is mounted."""


def main() -> None:
    """`pip_settings.py FILE`."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    settings: dict[str, str] = {}
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        key, _, value = line.partition("=")
        settings[key.rpartition(".")[2]] = value.strip("'\"").replace("\\n", " ")
    if certificates := settings.pop("cert", ""):
        sys.stdout.write(f"{certificates}:{CERTIFICATES}\n")
    for folder in sorted(_local_paths(" ".join(settings.values()))):
        sys.stdout.write(f"{folder}:{folder}\n")
    if certificates:
        settings["cert"] = CERTIFICATES
    lines = [f"{key} = {value}" for key, value in sorted(settings.items())]
    Path(sys.argv[1]).write_text("\n".join(["[global]", *lines, ""]))


def _local_paths(values: str) -> set[Path]:
    """Paths in the values; of a package index (file:///.../simple) the whole folder: it links to its neighbours."""
    found = set()
    for word in values.split():
        path = Path(word.removeprefix("file://"))
        if path.is_absolute() and path.exists():
            found.add(path.parent if path.name == "simple" else path)
    return found


if __name__ == "__main__":
    main()
