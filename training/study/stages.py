"""Stages of a study: what each is made of as one digest, so that what has not changed is not done again."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fmcib_module import __version__
from fmcib_module.core.errors import ConfigError, OutputError
from training.verbs import VERBS


@dataclass(frozen=True, slots=True)
class Stage:
    """One verb with its settings.

    Attributes:
        name: Unique.
        verb: Of `python -m training`, but for `reproduce` itself.
        settings: Its YAML file.
        inputs: Files and folders that it reads. It runs again when one of them has changed.
        outputs: Files and folders that it writes. It runs again when one of them is gone or has changed.
        optional: Where an input is not there, leave it out and go on; else that is an error.
        incomplete: Go on where it fails on some lesions (exit code 3) but its outputs are there.
        hint: What to do where an input is not there: how it is downloaded.
    """

    name: str
    verb: str
    settings: str
    outputs: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    optional: bool = False
    incomplete: bool = False
    hint: str = ""

    def __post_init__(self) -> None:
        if self.verb not in VERBS or self.verb == "reproduce":
            known = ", ".join(verb for verb in VERBS if verb != "reproduce")
            raise ConfigError(f"no such verb: {self.verb}", f"stage {self.name}", f"use one of: {known}")
        if not self.outputs:
            raise ConfigError("it writes nothing", f"stage {self.name}", "name its outputs")

    def missing(self) -> list[str]:
        """Inputs that are not there."""
        return [path for path in self.inputs if not _is_there(Path(path))]

    def unwritten(self) -> list[str]:
        """Outputs that are not there."""
        return [path for path in self.outputs if not _is_there(Path(path))]

    def source_digest(self) -> str:
        """SHA-256 over what its outputs depend on: verb, settings, inputs, the software's version."""
        named = json.dumps([self.verb, __version__, *self.inputs, *self.outputs])
        return hashlib.sha256((named + _digest([self.settings, *self.inputs])).encode()).hexdigest()

    def output_digest(self) -> str:
        """SHA-256 over its outputs as they lie there."""
        return _digest(self.outputs)


def check_order(stages: Sequence[Stage]) -> None:
    """Refuse stages whose inputs come only later, or that write what another writes.

    Raises:
        ConfigError: They do.
    """
    if len({stage.name for stage in stages}) < len(stages):
        raise ConfigError("two stages have the same name", "stages", "name each once")
    writer: dict[str, str] = {}
    for place, stage in enumerate(stages):
        later = {path for other in stages[place:] for path in other.outputs}
        if early := [path for path in stage.inputs if path in later]:
            raise ConfigError(f"{early[0]} is not written yet", f"stage {stage.name}", "put its stage before")
        for path in stage.outputs:
            if path in writer:
                raise ConfigError(f"{path} is written by {writer[path]} too", f"stage {stage.name}", "name it once")
            writer[path] = stage.name


def _is_there(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def _digest(paths: Iterable[str]) -> str:
    """Over the contents of files; of a folder over names, sizes and times of its files, which may be a cohort's."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        try:
            digest.update(_folder(path) if path.is_dir() else _file(path))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise OutputError(f"cannot be read: {reason}", path.name, "check permissions") from error
    return digest.hexdigest()


def _file(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _folder(path: Path) -> bytes:
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            status = file.stat()
            digest.update(json.dumps([file.relative_to(path).as_posix(), status.st_size, status.st_mtime_ns]).encode())
    return digest.digest()
