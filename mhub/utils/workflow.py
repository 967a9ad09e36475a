"""A workflow's `modules:` sections -> the folders and settings of a run."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mhubio.core import Config

from fmcib_module.core.errors import ConfigError, FmcibError
from fmcib_module.core.ledger import ExitCode
from fmcib_module.settings import Settings, settings_from_dict

SETTINGS_OF: Final[dict[str, tuple[str, ...]]] = {
    "DicomImporter": (),
    "CentroidFinder": ("rois", "seed_sources"),
    "PatchExtractor": ("mode", "irregular", "stability", "compare_modes"),
    "EncoderRunner": ("weights", "device", "engine", "precision", "batch_size"),
    "ReportWriter": ("extractors", "heads", "sr", "seg", "pictures", "save_patches", "report", "identifiers"),
    "StatusGate": (),
}
"""Our modules, and the fields of `Settings` that each one's section holds."""

FOLDERS_OF: Final[dict[str, dict[str, str]]] = {
    "DicomImporter": {"source_dir": "input_data"},
    "ReportWriter": {"target_dir": "output_data"},
}
"""Keys as mhubio's own modules call them, with their defaults; relative to general.data_base_dir."""


def settings_of(workflow: Mapping[str, Any]) -> Settings:
    """Merge the sections of our modules into one `Settings`.

    Args:
        workflow: The whole configuration, as YAML and command line give it (`config_of` in a module).

    Raises:
        ConfigError: A key is unknown or stands in the wrong section, or a value does not fit.
    """
    merged: dict[str, Any] = {}
    for module, values in _sections(workflow).items():
        if module not in SETTINGS_OF:
            continue
        fields = SETTINGS_OF[module]
        known = (*FOLDERS_OF.get(module, ()), *fields)
        for key in values:
            if key not in known:
                raise ConfigError(f"unknown key {key!r}", f"modules.{module}", _where_to_put(str(key), known))
        merged |= {key: values[key] for key in fields if key in values}
    return settings_from_dict(merged, where="modules")


def source_dir(workflow: Mapping[str, Any]) -> Path:
    """INPUT."""
    return _folder(workflow, "DicomImporter", "source_dir")


def target_dir(workflow: Mapping[str, Any]) -> Path:
    """OUTPUT."""
    return _folder(workflow, "ReportWriter", "target_dir")


def config_of(config: Config) -> dict[str, Any]:
    """The whole configuration; mhubio itself reads `execute` from the same attribute."""
    whole: dict[str, Any] = config._config
    return whole


def steps_of(workflow: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The names under `execute:`, each with the settings that stand beside it (`- module: NAME`).

    Raises:
        ConfigError: There are none, or one is neither a name nor a mapping with `module`.
    """
    steps = workflow.get("execute")
    if not isinstance(steps, list) or not steps:
        raise ConfigError("there is nothing to execute", "execute", "list the modules, one `- NAME` per line")
    found: list[tuple[str, dict[str, Any]]] = []
    for step in steps:
        name = step.get("module") if isinstance(step, dict) else step
        if not isinstance(name, str):
            raise ConfigError(f"{step!r} is not a module", "execute", "write `- NAME` or `- module: NAME`")
        found.append((name, {k: v for k, v in step.items() if k != "module"} if isinstance(step, dict) else {}))
    return found


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Inside a module: end the process as the command line does, with one message and exit code 2."""
    try:
        yield
    except FmcibError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(int(ExitCode.USAGE)) from error


def _sections(workflow: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """`modules:`, with what stands beside the name under `execute:`."""
    modules = workflow.get("modules") or {}
    if not isinstance(modules, dict):
        raise ConfigError("`modules` is not a mapping", "modules", "write one `NAME:` per module")
    sections = {str(name): {} if values is None else values for name, values in modules.items()}
    for name, values in sections.items():
        if not isinstance(values, dict):
            raise ConfigError(f"{values!r} is not a mapping", f"modules.{name}", "write one `key: value` per line")
    if "execute" in workflow:
        for name, beside in steps_of(workflow):
            sections[name] = {**sections.get(name, {}), **beside}
    return sections


def _where_to_put(key: str, known: tuple[str, ...]) -> str:
    for module, fields in SETTINGS_OF.items():
        if key in fields or key in FOLDERS_OF.get(module, ()):
            return f"it belongs under modules.{module}"
    return f"known keys: {', '.join(known) or 'none'}"


def _folder(workflow: Mapping[str, Any], module: str, key: str) -> Path:
    folder = _sections(workflow).get(module, {}).get(key, FOLDERS_OF[module][key])
    return Path(str(workflow["general"]["data_base_dir"])) / str(folder)
