"""The container's entrypoint: check the workflow, then run it with mhubio, and pass the exit code on.

`python -m models.fmcib.entrypoint [--workflow NAME | --config FILE] [--config:modules.MODULE.KEY=VALUE ...]`

mhubio takes an unknown module, an unknown key or an absent workflow for a warning and exits with 0; here each ends with
exit code 2 and a message before anything runs.

Started by mercure (MERCURE_IN_DIR is set) it runs mercure's task instead, with the default workflow's settings where
the task has none.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from mhubio.core import Config, Module

from fmcib_module.core.errors import ConfigError
from fmcib_module.pacs import mercure
from fmcib_module.settings import read_yaml

from .utils.workflow import SETTINGS_OF, config_of, exit_on_error, settings_of, steps_of

WORKFLOWS = Path(__file__).parent / "config"


def main(arguments: list[str] | None = None) -> None:
    """Run one workflow; the exit code is StatusGate's, or 2 if the workflow is wrong."""
    if mercure.is_called():
        with exit_on_error():
            defaults = settings_of(read_yaml(find_workflow("default", WORKFLOWS)))
        sys.exit(mercure.main(defaults))
    arguments = sys.argv[1:] if arguments is None else arguments
    options, overrides = _parse(arguments)
    with exit_on_error():
        config_file = options.config or find_workflow(options.workflow or "default", WORKFLOWS)
        passed_on = ["--config", str(config_file), *overrides, *_flags(options)]
        sys.argv = ["mhubio.run", *passed_on]  # mhubio's runner and its Config read it
        workflow = load_workflow(config_file)
        close_stdin()
        from mhubio import run as runner  # parses sys.argv when it is imported

        check_modules(workflow, {**runner.import_paths, **runner.scan_local_modules()})
        check_sections(workflow)
    if options.cleanup:
        runner.cleanup()
    runner.run(str(config_file))


def find_workflow(name: str, folder: Path) -> Path:
    """The YAML file of a workflow.

    Raises:
        ConfigError: There is none of this name.
    """
    names = sorted(path.stem for path in folder.glob("*.yml"))
    if name not in names:
        raise ConfigError(f"there is no workflow {name!r}", "--workflow", f"use one of: {', '.join(names)}")
    return folder / f"{name}.yml"


def load_workflow(config_file: Path) -> dict[str, Any]:
    """Read a workflow with mhubio, which adds what `sys.argv` overrides.

    Raises:
        ConfigError: The file is absent, or it or an override cannot be read.
    """
    try:
        workflow = yaml.safe_load(config_file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = type(error).__name__
        raise ConfigError(f"the workflow cannot be read: {reason}", config_file.name, "give a YAML file") from error
    general = workflow.get("general") if isinstance(workflow, dict) else None
    if not isinstance(general, dict) or "data_base_dir" not in general:
        raise ConfigError("general.data_base_dir is absent", config_file.name, "write it as in the default workflow")
    try:
        return config_of(Config(config_file=str(config_file)))
    except (TypeError, AttributeError, KeyError) as error:
        fix = "give the full path, as in --config:modules.PatchExtractor.mode=centred"
        raise ConfigError("an override takes the place of a whole section", "--config:", fix) from error


def check_modules(workflow: Mapping[str, Any], import_paths: Mapping[str, str]) -> None:
    """Check that every name under `execute:` is a module.

    Args:
        workflow: The whole configuration.
        import_paths: Name -> Python module, as mhubio's runner knows them.

    Raises:
        ConfigError: One is not.
    """
    for name, _ in steps_of(workflow):
        known = ", ".join(SETTINGS_OF)
        if name not in import_paths:
            raise ConfigError(f"there is no module {name!r}", "execute", f"modules of this model: {known}")
        try:
            module = getattr(importlib.import_module(import_paths[name]), name, None)
        except ImportError as error:
            raise ConfigError(f"module {name!r} cannot be imported: {error}", "execute", "leave it out") from error
        if not (isinstance(module, type) and issubclass(module, Module)):
            raise ConfigError(f"{name!r} is not an mhubio module", "execute", f"modules of this model: {known}")


def check_sections(workflow: Mapping[str, Any]) -> None:
    """Check that every section under `modules:` belongs to an executed module, and every key to its section.

    Keys of modules that are not ours are not checked.

    Raises:
        ConfigError: One does not, or a value does not fit.
    """
    executed = [name for name, _ in steps_of(workflow)]
    for name in workflow.get("modules") or {}:
        if name not in executed:
            raise ConfigError(
                f"{name!r} is not executed", "modules", f"modules of this workflow: {', '.join(executed)}"
            )
    settings_of(workflow)


def close_stdin() -> None:
    """Give every reader an empty standard input: mhubio and what it calls may ask questions that nobody answers."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 (stays open as long as the process)


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Options of mhubio's runner, and the overrides; anything else ends with exit code 2."""
    parser = argparse.ArgumentParser(
        prog="fmcib",
        description="Run a workflow on /app/data/input_data; results go to /app/data/output_data.",
        epilog="Any setting: --config:modules.MODULE.KEY=VALUE",
        allow_abbrev=False,
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--workflow", help="name of a file in config/ (default: default)")
    chosen.add_argument("--config", type=Path, help="a workflow file of your own")
    parser.add_argument("--model", help="accepted as mhubio does; there is one model here")
    parser.add_argument("--cleanup", action="store_true", help="empty mhubio's folders and the output first")
    parser.add_argument("--non-interactive", action="store_true", help="always so")
    parser.add_argument("--debug", action="store_true", help="show mhubio's instances after every step")
    parser.add_argument("--print", action="store_true", help="print messages instead of a progress bar")
    overrides = [argument for argument in arguments if argument.startswith("--config:")]
    for override in overrides:
        if "=" not in override:
            parser.error(f"{override}: write --config:modules.MODULE.KEY=VALUE")
    return parser.parse_args([argument for argument in arguments if argument not in overrides]), overrides


def _flags(options: argparse.Namespace) -> list[str]:
    return [f"--{flag}" for flag in ("debug", "print") if getattr(options, flag)]


if __name__ == "__main__":
    main()
