"""Settings of a run: one frozen dataclass, read from YAML, an unknown key is an error.

`read_yaml`, `from_plain` and `to_plain` do this for any frozen dataclass (training has its own).
"""

import dataclasses
import hashlib
import json
import re
import typing
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, TypeVar

import yaml

from fmcib_module.core.conventions import Irregular, Mode, SeedKind
from fmcib_module.core.errors import ConfigError
from fmcib_module.core.variants import MOST_JITTERS

T = TypeVar("T")


class Device(StrEnum):
    """Where the network runs."""

    AUTO = "auto"  # CUDA when there is a device, else CPU
    CPU = "cpu"
    CUDA = "cuda"


class Engine(StrEnum):
    """What runs the network."""

    AUTO = "auto"  # OpenVINO on a CPU, eager torch on CUDA
    OPENVINO = "openvino"
    TORCH = "torch"  # eager
    COMPILE = "compile"  # torch.compile: minutes at the first batch, for long runs


class Precision(StrEnum):
    """What the network computes in."""

    FLOAT32 = "float32"  # equal to the published features within 2e-5
    BF16 = "bf16"  # faster; its cosine to float32 is measured and reported


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run does; the keys of config/*.yml are exactly these fields.

    Attributes:
        weights: Registry name (`fmcib weights list`) or the path of a weights file.
        mode: Preprocessing mode.
        device: auto, cpu or cuda.
        engine: What runs the network there.
        precision: float32 or bf16.
        batch_size: Patches per forward pass; 0 chooses by device.
        rois: Only ROIs whose name, number or regular expression (`re:...`, matched anywhere, case-insensitive)
            is listed; empty takes all. Points without a name are never filtered.
        seed_sources: Kinds of seed sources that are used.
        irregular: refuse, or resample and flag, slices that are not one uniform grid.
        stability: Jittered seeds per lesion, whose features are compared with its own; 0 for none.
        compare_modes: Compute each lesion in all preprocessing modes and compare.
        extractors: Other extractors beside the weights (docs/extractors.md), or NAME=FILE for weights from a file.
        heads: Files of heads that `python -m training probe` fitted on features of these weights and this mode.
        sr: Write DICOM SR.
        seg: Write a derived DICOM SEG for seeds that did not come from a SEG.
        pictures: Write a picture of each lesion.
        save_patches: Write each lesion's patch as NRRD.
        report: Write report.html over the whole run.
        identifiers: Put PatientName, PatientID, StudyDate and SeriesDescription on the ledger.
    """

    weights: str = "mini"
    mode: Mode = Mode.PUBLISHED
    device: Device = Device.AUTO
    engine: Engine = Engine.AUTO
    precision: Precision = Precision.FLOAT32
    batch_size: int = 0
    rois: tuple[str, ...] = ()
    seed_sources: tuple[SeedKind, ...] = tuple(SeedKind)
    irregular: Irregular = Irregular.REFUSE
    stability: int = 0
    compare_modes: bool = False
    extractors: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    sr: bool = True
    seg: bool = True
    pictures: bool = True
    save_patches: bool = False
    report: bool = True
    identifiers: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 0:
            raise ConfigError(f"batch_size is {self.batch_size}", "settings", "use 0 (automatic) or a positive number")
        if not 0 <= self.stability <= MOST_JITTERS:
            what = f"stability is {self.stability}"
            raise ConfigError(what, "settings", f"use 0 (none) to {MOST_JITTERS} jittered seeds")
        if len(set(self.extractor_names)) < len(self.extractors):
            raise ConfigError("an extractor is named twice", "extractors", "name each once")
        for roi in self.rois:
            if roi.startswith("re:"):
                try:
                    re.compile(roi[3:])
                except re.error as error:
                    raise ConfigError(f"{roi!r} is not a regular expression: {error}", "rois", "correct it") from error

    @property
    def extractor_names(self) -> list[str]:
        """Names of the extractors, without the files of their weights."""
        return [wanted.partition("=")[0] for wanted in self.extractors]

    def digest(self) -> str:
        """SHA-256 over the fields that change what is computed or written (not where it runs, nor with which files)."""
        left_out = {"device", "engine", "batch_size", "weights", "report", "heads"}
        fields = {k: v for k, v in self.to_dict().items() if k not in left_out}
        if not fields.pop("extractors"):  # as before there were any
            return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
        fields["extractors"] = self.extractor_names
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as YAML or JSON hold them."""
        plain: dict[str, Any] = to_plain(self)
        return plain


def read_settings(path: Path, **overrides: Any) -> Settings:
    """Read settings from a YAML mapping; `overrides` win.

    Raises:
        ConfigError: The file is absent or not YAML, a key is unknown, or a value does not fit.
    """
    return settings_from_dict({**read_yaml(path), **overrides}, where=path.name)


def settings_from_dict(values: dict[str, Any], *, where: str = "settings") -> Settings:
    """Check and convert plain values.

    Raises:
        ConfigError: A key is unknown, or a value does not fit; the message lists what is allowed.
    """
    return from_plain(Settings, values, where=where)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; empty for an empty file.

    Raises:
        ConfigError: The file is absent, not YAML, or not a mapping.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = type(error).__name__
        raise ConfigError(f"settings cannot be read: {reason}", path.name, "give a readable YAML file") from error
    if not isinstance(loaded, dict | None):
        raise ConfigError("settings are not a mapping", path.name, "write one `key: value` per line")
    return loaded or {}


def from_plain(kind: type[T], values: dict[str, Any], *, where: str) -> T:
    """Make a dataclass of plain values; its fields may be dataclasses, enums, tuples, str, bool, int and float.

    Args:
        kind: The dataclass.
        values: Field name -> value, as YAML gives them; what is absent keeps its default.
        where: The file's name, for messages.

    Raises:
        ConfigError: A key is unknown or missing, or a value does not fit; the message lists what is allowed.
    """
    hints = typing.get_type_hints(kind)
    unknown = sorted(str(key) for key in values if key not in hints)
    if unknown:
        raise ConfigError(f"unknown key(s) {', '.join(unknown)}", where, f"known keys: {', '.join(hints)}")
    try:
        return kind(**{key: _convert(key, value, hints[key], where) for key, value in values.items()})
    except TypeError as error:  # the dataclass names the fields that have no default
        raise ConfigError(str(error).rpartition("() ")[2], where, "add them") from error


def to_plain(value: Any) -> Any:
    """The opposite of `from_plain`: dataclasses become mappings, tuples lists, enums their values."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value


def _convert(key: str, value: Any, hint: Any, where: str) -> Any:
    if typing.get_origin(hint) is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_convert(key, item, typing.get_args(hint)[0], where) for item in items)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_plain(typing.cast("type[Any]", hint), value, where=f"{where}: {key}")
    if issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError as error:
            allowed = ", ".join(str(member.value) for member in hint)
            raise ConfigError(f"{key} is {value!r}", where, f"use one of: {allowed}") from error
    if hint is str and isinstance(value, int | str | Path) and not isinstance(value, bool):
        return str(value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"{key} is {value!r}", where, f"give a value of type {hint.__name__}")
    return value
