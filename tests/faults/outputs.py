"""What a run wrote, in a form that two runs can be compared by: everything but dates, times and how long it took."""

import json
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import pydicom
from PIL import Image

CLOCK_VRS: Final = frozenset({"DA", "TM", "DT"})
CLOCK_KEYS: Final = frozenset({"timings_s", "started", "finished", "load_encoder_s"})


def comparable(output: Path) -> dict[str, Any]:
    """Path under OUTPUT -> content without clock."""
    paths = sorted(path for path in output.rglob("*") if path.is_file())
    return {path.relative_to(output).as_posix(): _content(path) for path in paths}


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Paths that only one of two outputs has, or whose content differs."""
    only_one = found.keys() ^ expected.keys()
    return sorted(only_one | {name for name in found.keys() & expected.keys() if found[name] != expected[name]})


def check_whole(output: Path) -> None:
    """Every file under its final name can be read to its end.

    Raises:
        Exception: One cannot.
    """
    for path in output.rglob("*"):
        if not path.is_file() or path.name.startswith("."):
            continue
        if path.suffix == ".parquet":
            pq.read_table(path)
        elif path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
        elif path.suffix == ".html":
            assert path.read_text(encoding="utf-8").rstrip().endswith("</html>"), path.name
        elif path.suffix == ".csv":
            assert path.read_bytes().endswith(b"\n"), path.name
        else:
            _content(path)


def _content(path: Path) -> Any:
    if path.suffix == ".dcm":
        ds = pydicom.dcmread(path)
        ds.walk(lambda level, element: level.__delitem__(element.tag) if element.VR in CLOCK_VRS else None)
        return ds.to_json_dict()
    if path.suffix == ".json":
        return _without_clock(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".html":
        return "a report"  # the ledger and the tables are what it shows
    return path.read_bytes()


def _without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_clock(item) for key, item in value.items() if key not in CLOCK_KEYS}
        if "files" in kept:  # SHA-256 of objects that hold dates
            kept["files"] = {name: "" if name.endswith(".dcm") else sha256 for name, sha256 in kept["files"].items()}
        return kept
    return [_without_clock(item) for item in value] if isinstance(value, list) else value
