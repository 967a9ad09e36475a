"""The image as a processing module of mercure: its folders, its task file, and the result it reads.

mercure (https://mercure-imaging.org) starts a container per series or study. MERCURE_IN_DIR holds the objects as
SERIES_UID#FILE_UID.dcm and task.json, whose `process.settings` are the module's and the rule's settings merged; what
lies in MERCURE_OUT_DIR when the container ends with exit code 0 is sent on, and result.json is kept with the task.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pydicom

from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.core.errors import ConfigError, FmcibError
from fmcib_module.core.ledger import LEDGER_NAME, ExitCode, Ledger
from fmcib_module.core.naming import REPORT_NAME
from fmcib_module.pacs.worker import outcome_of
from fmcib_module.settings import Settings, settings_from_dict

IN_DIR: Final = "MERCURE_IN_DIR"
OUT_DIR: Final = "MERCURE_OUT_DIR"
TASK_NAME: Final = "task.json"
RESULT_NAME: Final = "result.json"

_BESIDE: Final = ("features.csv", "features.parquet", REPORT_NAME, LEDGER_NAME)
"""Files of a run that go along with its DICOM objects."""


def is_called(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether mercure started this process."""
    return bool(environment.get(IN_DIR))


def main(defaults: Settings, environment: Mapping[str, str] = os.environ) -> int:
    """Run a task of mercure.

    Args:
        defaults: What holds where the task says nothing.
        environment: Variables.

    Returns:
        0 some lesion has features: results go on, and result.json asks for a notification where others failed; 2 wrong
        settings or weights, nothing was run; 4 no lesion came through. mercure takes all but 0 for a failed task.
    """
    source, target = Path(environment[IN_DIR]), environment.get(OUT_DIR, "")
    try:
        if not target:
            raise ConfigError("it is not set", OUT_DIR, f"mercure sets it beside {IN_DIR}")
        ledger = _run(source, Path(target), read_task_settings(source / TASK_NAME, defaults))
    except FmcibError as error:
        sys.stderr.write(f"error: {error}\n")
        if target:
            _write_result(Path(target), {"exit_code": int(ExitCode.USAGE), "error": str(error)}, str(error), ask=True)
        return int(ExitCode.USAGE)
    return int(ExitCode.OK if ledger.n_lesions else ExitCode.NOTHING)


def read_task_settings(task: Path, defaults: Settings) -> Settings:
    """The settings of a task over the defaults.

    Args:
        task: task.json; where there is none, the defaults hold.
        defaults: What holds for every other key.

    Raises:
        ConfigError: The file is not a task of mercure, a key of its settings is unknown, or a value does not fit.
    """
    fix = "let mercure write it: a mapping with process.settings"
    try:
        loaded = json.loads(task.read_bytes())
    except FileNotFoundError:
        return defaults
    except (OSError, ValueError) as error:
        raise ConfigError(f"the task cannot be read ({type(error).__name__})", task.name, fix) from error
    process = loaded.get("process") if isinstance(loaded, dict) else None
    if isinstance(process, list) and len(process) == 1:
        process = process[0]
    settings = process.get("settings") or {} if isinstance(process, dict) else None
    if not isinstance(settings, dict):
        raise ConfigError("it holds no process.settings", task.name, fix)
    return settings_from_dict({**defaults.to_dict(), **settings}, where=f"{task.name}: process.settings")


def _run(source: Path, target: Path, settings: Settings) -> Ledger:
    """Run the chain, and lay its results out flat as mercure sends them on."""
    from fmcib_module.pipeline import run

    with tempfile.TemporaryDirectory(prefix="fmcib-") as folder:
        output = Path(folder)
        ledger = run(source, output, settings=settings)
        outcome = outcome_of(ledger)
        for result in outcome.results:
            found = pydicom.dcmread(output / result, specific_tags=["SeriesInstanceUID", "SOPInstanceUID"])
            shutil.copyfile(output / result, target / f"{found.SeriesInstanceUID}#{found.SOPInstanceUID}.dcm")
        for name in _BESIDE:
            if (output / name).is_file():
                shutil.copyfile(output / name, target / name)
    counts = ledger.counts()
    text = f"lesions: {', '.join(f'{n} {name}' for name, n in counts.items())}"
    said = f"{text}; {outcome.reason}" if outcome.reason else text
    sys.stderr.write(f"{said}\n")
    about = {key: ledger.run[key] for key in ("version", "weights", "weights_sha256", "mode")}
    content = {"exit_code": int(ledger.exit_code), "lesions": counts, "reason": outcome.reason, **about}
    _write_result(target, content, said, ask=ledger.exit_code is not ExitCode.OK)
    return ledger


def _write_result(target: Path, content: dict[str, Any], text: str, *, ask: bool) -> None:
    """Write result.json; mercure puts the text into its notifications, and sends one where a rule sends them on ask."""
    notification = {"text": text, "requested": ask}
    document = {**content, "__mercure_notification": notification}
    write_bytes(target / RESULT_NAME, json.dumps(document, indent=1).encode())
