"""A folder of anything -> its files in a fixed order, without loops and without opening what is not a file."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from fmcib_module.core.errors import InputError
from fmcib_module.core.ledger import LEDGER_NAME


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies under a folder.

    Attributes:
        root: The folder; for a single file, the folder that holds it.
        files: Regular files, sorted by their path below `root`.
        broken: Links to nothing and folders that may not be opened.
        others: How many FIFOs, sockets and devices there are; they are never opened.
    """

    root: Path
    files: tuple[Path, ...]
    broken: tuple[Path, ...]
    others: int


def list_files(source: Path, *, exclude: Path | None = None) -> Listing:
    """List every file under a folder, or the one file given.

    Links to folders are followed (cohorts are often built of links), except to a folder that is listed already or
    that contains the one given, so there are no loops. A folder in it that holds the results of an earlier run is left
    out: its SEG would count every lesion of the RTSTRUCT that it was made from again.

    Args:
        source: A folder, or one file.
        exclude: A folder that is left out with all that is in it, such as an output folder inside the input.

    Raises:
        InputError: There is no such file or folder.
    """
    if not source.exists():
        raise InputError("there is no such file or folder", source.name, "check the path of the input")
    if source.is_file():
        return Listing(root=source.parent, files=(source,), broken=(), others=0)
    if not source.is_dir():
        raise InputError("the input is neither a file nor a folder", source.name, "give a folder of images")
    files: list[Path] = []
    broken: list[Path] = []
    closed: list[OSError] = []
    others = 0
    seen = set() if exclude is None else {exclude.resolve()}
    enclosing = source.resolve()
    waiting = [source]
    while waiting:
        folder = waiting.pop(0)
        real = folder.resolve()
        if real in seen or (real != enclosing and enclosing.is_relative_to(real)):
            continue
        links: list[Path] = []
        for parent, folders, names in os.walk(folder, onerror=closed.append):
            seen.add(Path(parent).resolve())
            if LEDGER_NAME in names and Path(parent) != source:  # results of an earlier run: no input
                folders[:] = []
                continue
            links += [Path(parent) / name for name in folders if (Path(parent) / name).is_symlink()]
            folders[:] = [name for name in folders if (Path(parent) / name).resolve() not in seen]
            for name in names:
                path = Path(parent) / name
                kind = _kind(path)
                files += [path] if kind == "file" else []
                broken += [path] if kind == "broken" else []
                others += kind == "other"
        waiting += sorted(links)  # links come last: what lies in the folder itself keeps its own path
    broken += [Path(error.filename) for error in closed]
    return Listing(root=source, files=tuple(sorted(files)), broken=tuple(sorted(broken)), others=others)


def _kind(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except OSError:
        return "broken"
    return "file" if stat.S_ISREG(mode) else "other"
