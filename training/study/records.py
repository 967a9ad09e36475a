"""What made each predictions table, from the records that `probe` and `finetune` leave beside it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fmcib_module.core.errors import InputError
from fmcib_module.settings import from_plain


@dataclass(frozen=True, slots=True)
class FitRecord:
    """One method of a task.

    Attributes:
        task: Name.
        method: As the predictions call it; empty where nothing is recorded.
        kind: "probe", "finetune", or "" where nothing is recorded.
        settings: Of the verb.
        extractor: Whose features or network.
        weights_sha256: Of its weights; empty where drawn or unknown.
        table_sha256: Of the lesion table.
        version: Of the software.
        git_revision: Likewise.
        lesions: Training lesions of the largest share; 0 where unknown.
        patients: Their patients.
        shared_patients: Patients that the splits share.
    """

    task: str
    method: str
    kind: str
    settings: Mapping[str, Any]
    extractor: str = ""
    weights_sha256: str = ""
    table_sha256: str = ""
    version: str = ""
    git_revision: str = ""
    lesions: int = 0
    patients: int = 0
    shared_patients: int = 0


def read_records(settings: Mapping[str, Any]) -> list[FitRecord]:
    """Of every predictions table that `evaluate` read.

    Args:
        settings: Of `evaluate`, as results.json holds them.

    Raises:
        InputError: A record is damaged.
    """
    return [_read(Path(path).parent, str(task["name"])) for task in settings["tasks"] for path in task["predictions"]]


def _read(folder: Path, task: str) -> FitRecord:
    trained = sorted(folder.glob("*/best.json"))
    try:
        if (folder / "probe.json").is_file():
            return _probe(json.loads((folder / "probe.json").read_text(encoding="utf-8")), task)
        if trained:
            return _finetune(trained, task)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        reason = type(error).__name__
        fix = "run probe or finetune again in another folder"
        raise InputError(f"the record of a fit cannot be read: {reason}", folder.name, fix) from error
    return FitRecord(task, "", "", {})


def _probe(found: Mapping[str, Any], task: str) -> FitRecord:
    fit = max(found["fits"], key=lambda one: one["share"])
    made = found["features"]
    return FitRecord(
        task=task,
        method=found["method"],
        kind="probe",
        settings=found["settings"],
        extractor=made["extractor"],
        weights_sha256=made["weights_sha256"],
        table_sha256=made["table_sha256"],
        version=found["version"],
        git_revision=found["git_revision"],
        lesions=fit["lesions"],
        patients=fit["patients"],
        shared_patients=found["shared_patients"],
    )


def _finetune(trained: list[Path], task: str) -> FitRecord:
    from training.adaptation.finetune_settings import FinetuneSettings  # brings torch

    best = [json.loads(path.read_text(encoding="utf-8")) for path in trained]
    most = max(range(len(best)), key=lambda n: best[n]["lesions"])
    folder = trained[most].parent
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    settings = yaml.safe_load((folder / "settings.yml").read_text(encoding="utf-8"))
    return FitRecord(
        task=task,
        method=from_plain(FinetuneSettings, settings, where=f"{folder.name}/settings.yml").method_name,
        kind="finetune",
        settings=settings,
        extractor=settings["model"]["extractor"],
        weights_sha256=run["weights_sha256"],
        table_sha256=run["table_sha256"],
        version=run["version"],
        git_revision=run["git_revision"],
        lesions=best[most]["lesions"],
        patients=best[most]["patients"],
        shared_patients=best[most]["shared_patients"],
    )
