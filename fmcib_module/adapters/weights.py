"""Weights by name or path: where they lie, whether they are what they should be, and how to get them.

No torch here: `fmcib weights list` and `verify` start without it. Packaged weights lie in `fmcib_module/weights` and
need no writable home. Others lie in the cache folder: $FMCIB_CACHE, else $XDG_CACHE_HOME/fmcib, else ~/.cache/fmcib.
"""

import dataclasses
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fmcib_module.adapters.file_hash import sha256_of
from fmcib_module.adapters.tensor_file import read_header, read_metadata
from fmcib_module.adapters.weights_registry import REGISTRY, WeightsEntry
from fmcib_module.core.errors import ConfigError, WeightsError
from fmcib_module.core.resnet_layout import FEATURES_PER_STEM_CHANNEL

log = logging.getLogger(__name__)

WEIGHTS_SUFFIXES: Final = (".safetensors", ".torch", ".pt", ".pth")
"""Files that are taken as weights by path."""

SIZE_MARGIN: Final = 1.25
"""A download may exceed the registry's size by this factor before it is cut off (some sizes are rounded)."""

UNKNOWN_NOTE: Final = "weights from a file that is not in the registry"
OTHER_CHECKSUM_NOTE: Final = "fetched with a checksum given by the user: not the registry's file"


@dataclass(frozen=True, slots=True)
class WeightsInfo:
    """Weights that are here and verified.

    Attributes:
        name: Registry name, or the file's stem.
        path: The file.
        sha256: Of the file, just computed.
        n_features: Features per patch; 0 while unknown (a torch checkpoint that is not loaded yet).
        note: What a reader of the results should know; empty for the published weights.
        licence: SPDX identifier; empty where unknown.
        citation: What to cite; empty where unknown.
    """

    name: str
    path: Path
    sha256: str
    n_features: int
    note: str
    licence: str
    citation: str


def list_weights() -> tuple[WeightsEntry, ...]:
    """Every entry of the registry."""
    return REGISTRY


def cache_dir() -> Path:
    """Where fetched and converted weights lie; it need not exist."""
    own = os.environ.get("FMCIB_CACHE", "")
    if own:
        return Path(own)
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(xdg) if Path(xdg).is_absolute() else Path("~/.cache").expanduser()  # XDG: relative paths are ignored
    return base / "fmcib"


def locate(name_or_path: str | Path) -> Path:
    """The file of registry weights or of a path; nothing is fetched.

    Raises:
        WeightsError: The name is unknown, or the file is not there; the message says how to get it.
    """
    entry = _entry(name_or_path)
    if entry is None:
        return _locate_file(name_or_path)
    path = entry_path(entry)
    if path.is_file():
        return path
    if not entry.url:
        raise WeightsError("the packaged weights are missing", entry.name, "install the package again")
    raise WeightsError(
        f"weights {entry.name!r} are not on this machine",
        entry.name,
        f"run `fmcib weights fetch {entry.name}`, or put {entry.file_name} in the folder {entry.name} of the cache "
        "($FMCIB_CACHE, else ~/.cache/fmcib), or give a file's path",
    )


def verify(name_or_path: str | Path, *, again: bool = False) -> WeightsInfo:
    """Hash weights, compare with what is known of them, and say what they are.

    Args:
        name_or_path: Registry name, or a file.
        again: Read the whole file even if its hash is remembered.

    Raises:
        WeightsError: They are unknown or absent, or their SHA-256 is not the expected one.
    """
    path = locate(name_or_path)
    entry = _entry(name_or_path)
    sha256 = file_sha256(path, again=again)
    if entry is None:
        return _file_info(path, sha256)
    expected = _recorded_sha256(path) or entry.sha256
    if not expected:
        raise WeightsError(
            "no SHA-256 of these weights is known, so they cannot be verified", entry.name, _no_sum(entry)
        )
    if sha256 != expected:
        raise WeightsError(
            f"SHA-256 is {sha256}, expected {expected}",
            f"{entry.name}: {path.name}",
            f"delete the file and run `fmcib weights fetch {entry.name}`" if entry.url else "install the package again",
        )
    return _entry_info(entry, path, sha256)


def fetch(
    name: str,
    *,
    url: str | None = None,
    sha256: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> WeightsInfo:
    """Download registry weights into the cache, verify them, and convert them to safetensors once.

    Weights that are here and verified are not downloaded again; an interrupted download goes on where it stopped.

    Args:
        name: Registry name.
        url: A mirror of the registry's URL.
        sha256: Expected SHA-256 in place of the registry's, for a file that differs on purpose; it is recorded beside
            the weights, and their note says so.
        progress: Called with (bytes so far, total bytes or 0 where unknown).

    Raises:
        ConfigError: The name is not in the registry, `sha256` is not 64 hexadecimal digits, or torch, which reads what
            is fetched, is not installed.
        WeightsError: The download failed, or is not the expected file.
    """
    entry = _entry(name)
    if entry is None:
        raise ConfigError(f"there are no weights named {name!r}", "weights fetch", f"use one of: {_names()}")
    if sha256 is not None and (len(sha256) != 64 or not set(sha256.lower()) <= set("0123456789abcdef")):
        raise ConfigError("sha256 is not 64 hexadecimal digits", entry.name, "give the file's SHA-256")
    if not entry.url:
        return verify(entry.name)
    if not entry.sha256 and sha256 is None:
        raise ConfigError("no SHA-256 of the publisher's file is known", entry.name, _no_sum(entry))
    if find_spec("torch") is None:
        fix = "fetch where torch is, and bring the cache folder here"
        raise ConfigError("torch is not installed, and only it reads the published file", "weights fetch", fix)
    path = entry_path(entry)
    expected = sha256.lower() if sha256 else entry.sha256
    if not path.is_file() or file_sha256(path) != expected:
        from fmcib_module.adapters.download import download

        download(url or entry.url, path, sha256=expected, max_bytes=int(entry.size * SIZE_MARGIN), progress=progress)
    _record_sha256(path, expected, entry)
    info = _entry_info(entry, path, expected)
    _convert(info)
    return info


def converted_path(info: WeightsInfo) -> Path:
    """Where the safetensors form of a torch checkpoint lies, or would lie once converted."""
    return cache_dir() / "converted" / f"{info.sha256}.safetensors"


def is_conversion(path: Path, sha256: str) -> bool:
    """True for a whole file that was made from the checkpoint with this SHA-256."""
    try:
        return path.is_file() and read_metadata(path).get("source_sha256") == sha256
    except WeightsError:
        return False


def with_n_features(info: WeightsInfo, stem_channels: int) -> WeightsInfo:
    """The same, with the feature count that a first convolution of so many channels gives."""
    return dataclasses.replace(info, n_features=stem_channels * FEATURES_PER_STEM_CHANNEL)


def file_sha256(path: Path, *, again: bool = False) -> str:
    """SHA-256 of a weights file, hexadecimal; remembered for large files that are not touched, unless `again`.

    Raises:
        WeightsError: The file cannot be read.
    """
    try:
        return sha256_of(path, memory=cache_dir() / "hashes", again=again)
    except OSError as error:
        raise WeightsError(f"weights cannot be read: {error.strerror}", path.name, "check the file") from error


def _entry(name_or_path: str | Path) -> WeightsEntry | None:
    return next((entry for entry in REGISTRY if entry.name == str(name_or_path)), None)


def _no_sum(entry: WeightsEntry) -> str:
    """What to do where nobody says what the file should be."""
    return (
        f"get {entry.file_name} from its publisher ({entry.url}) and give its path, as in {entry.name}=FILE; or state "
        f"the SHA-256 that you trust: `fmcib weights fetch {entry.name} --sha256 ...`"
    )


def _names() -> str:
    return ", ".join(entry.name for entry in REGISTRY)


def entry_path(entry: WeightsEntry) -> Path:
    """Where the file of registry weights lies, or would lie once fetched."""
    if entry.url:
        return cache_dir() / entry.name / entry.file_name
    return Path(str(files("fmcib_module.weights") / entry.file_name))


def _locate_file(name_or_path: str | Path) -> Path:
    path = Path(name_or_path).expanduser()
    if path.suffix not in WEIGHTS_SUFFIXES:
        raise WeightsError(
            f"there are no weights named {path.name!r}",
            "weights",
            f"use one of: {_names()}; or the path of a {', '.join(WEIGHTS_SUFFIXES)} file",
        )
    if not path.is_file():
        raise WeightsError("the weights file does not exist", path.name, "check the path")
    return path


def _entry_info(entry: WeightsEntry, path: Path, sha256: str) -> WeightsInfo:
    note = entry.note if sha256 == entry.sha256 else OTHER_CHECKSUM_NOTE
    return WeightsInfo(entry.name, path, sha256, entry.n_features, note, entry.licence, entry.citation)


def _file_info(path: Path, sha256: str) -> WeightsInfo:
    """Name a file by its stem; what it is comes from the registry where its SHA-256 is there, else from its header."""
    known = next((entry for entry in REGISTRY if entry.sha256 == sha256), None)
    if known is not None:
        return WeightsInfo(path.stem, path, sha256, known.n_features, known.note, known.licence, known.citation)
    metadata = read_metadata(path) if path.suffix == ".safetensors" else {}
    info = WeightsInfo(
        name=path.stem,
        path=path,
        sha256=sha256,
        n_features=0,
        note=metadata.get("note", UNKNOWN_NOTE),
        licence=metadata.get("licence", ""),
        citation=metadata.get("citation", ""),
    )
    stem = read_header(path).get("conv1.weight") if path.suffix == ".safetensors" else None
    return info if stem is None else with_n_features(info, int(stem["shape"][0]))


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _recorded_sha256(path: Path) -> str:
    """The checksum that `fetch` was told to expect in place of the registry's; empty where there is none."""
    record = _record_path(path)
    words = record.read_text(encoding="utf-8").split() if record.is_file() else []
    return words[0] if words else ""


def _record_sha256(path: Path, sha256: str, entry: WeightsEntry) -> None:
    """Record another checksum than the registry's in the form of `sha256sum`, or drop an old record."""
    if sha256 == entry.sha256:
        _record_path(path).unlink(missing_ok=True)
    else:
        _record_path(path).write_text(f"{sha256}  {path.name}\n", encoding="utf-8")


def _convert(info: WeightsInfo) -> None:
    from fmcib_module.adapters.checkpoint import convert  # imports torch, which only a fetch needs here

    try:
        convert(info)
    except OSError as error:
        log.info("%s is not converted now: %s", info.name, error.strerror)
