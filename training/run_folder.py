"""The folder of a run: what it was started with, so that it can be repeated, continued and told from others."""

import json
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
import yaml

from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.core.errors import OutputError
from training.checkpoints import LAST
from training.settings import TrainingSettings, read_training_settings

PACKAGES: Final = ("torch", "lightning", "lightly", "monai", "numpy")
"""Whose versions are recorded."""


class RunFolder:
    """Paths in a run's folder.

    Attributes:
        path: The folder.
        checkpoints: Folder of the checkpoints.
        last: The newest checkpoint; need not exist.
        metrics: The CSV log.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.last = self.checkpoints / LAST
        self.metrics = path / "metrics.csv"

    def open(self, settings: TrainingSettings, table_sha256: str) -> Path | None:
        """Record what the run is made of, or check that it is the run that the folder holds.

        Args:
            settings: Of the run.
            table_sha256: Of the lesion table.

        Returns:
            The checkpoint to go on from; None for a new run.

        Raises:
            OutputError: The folder holds another recipe's run, or one of another lesion table, or cannot be written.
        """
        record = self.path / "run.json"
        if record.exists():
            found = read_training_settings(self.path / "settings.yml")  # settings that are newer have their defaults
            table = json.loads(record.read_text(encoding="utf-8"))["table_sha256"]
            if (found.recipe_digest(), table) != (settings.recipe_digest(), table_sha256):
                raise OutputError(
                    "the folder holds a run of another recipe or lesion table",
                    self.path.name,
                    "give another `run` folder, or the settings that are in it (settings.yml)",
                )
        else:
            write_bytes(self.path / "settings.yml", yaml.safe_dump(settings.to_dict(), sort_keys=False).encode())
            identity = {"recipe_digest": settings.recipe_digest(), "table_sha256": table_sha256}
            write_bytes(record, (json.dumps({**identity, **environment()}, indent=2) + "\n").encode())
        return self.last if self.last.exists() else None


def environment() -> dict[str, Any]:
    """Git revision of the code and versions of what computes."""
    versions = {package: version(package) for package in PACKAGES}
    return {"git_revision": git_revision(), "versions": versions, "cuda": torch.version.cuda or ""}


def git_revision() -> str:
    """Commit of the code, "-dirty" behind it where tracked files differ; empty outside a git checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ""
    return described.stdout.strip()
