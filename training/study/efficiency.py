"""`python -m training efficiency FILE`: measured minutes and memory of features with a linear head, and of fine-tuning.

OUTPUT/efficiency.csv   per way and step: minutes, minutes of all cores, peak memory   (and .png, .svg)
OUTPUT/machine.json     on what

Every step is a process of its own, started from nothing; what it writes is thrown away.
"""

import json
import logging
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from subprocess import run
from tempfile import TemporaryDirectory
from typing import Any, Final

import pandas as pd
import yaml

from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.core.errors import ConfigError, InputError
from fmcib_module.settings import from_plain, read_yaml
from training.run_folder import git_revision
from training.study.drawing import Drawing, looks, panels, save_drawing, styled

log = logging.getLogger(__name__)

ROOT: Final = Path(__file__).parents[2]
"""Where `training` is found, wherever the verb is run."""

LINEAR, FINETUNED = "features + linear", "fine-tuning"

MEASURES: Final = {"minutes": "Minutes", "cpu_minutes": "Minutes, all cores together", "peak_mib": "Peak memory, MiB"}


@dataclass(frozen=True, slots=True)
class EfficiencySettings:
    """The keys of the YAML file are exactly these fields; paths relative to where it is run.

    Attributes:
        output: Folder.
        features: Settings of `features`, with one extractor.
        probe: Settings of `probe`; it is given the features just made.
        finetune: Settings of `finetune`, with the same lesions.
    """

    output: str
    features: str
    probe: str
    finetune: str


@dataclass(frozen=True, slots=True)
class Step:
    """A verb to be measured.

    Attributes:
        way: Which of the two ways it belongs to.
        verb: What is run.
        settings: Its own, with folders of a place that is thrown away.
    """

    way: str
    verb: str
    settings: dict[str, Any]


def efficiency(settings_path: Path) -> pd.DataFrame:
    """The verb.

    Returns:
        What each step took.

    Raises:
        ConfigError: The settings are wrong.
        InputError: A step failed; its own message is above.
        OutputError: The folder cannot be written.
    """
    settings = from_plain(EfficiencySettings, read_yaml(settings_path), where=settings_path.name)
    output = Path(settings.output)
    output.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output, prefix=".measured-") as folder:
        took = []
        for step in planned_steps(settings, Path(folder)):
            path = Path(folder) / f"{step.verb}.yml"
            path.write_text(yaml.safe_dump(step.settings), encoding="utf-8")
            command = [sys.executable, "-m", "training", step.verb, str(path)]
            took.append({"way": step.way, "step": step.verb, **measure(command, Path(folder) / "took.json")})
            log.info("%s: %.2f minutes, %.0f MiB", step.verb, took[-1]["minutes"], took[-1]["peak_mib"])
    table = pd.DataFrame(took)
    write_bytes(output / "machine.json", (json.dumps(machine(), indent=1) + "\n").encode())
    with styled():
        save_drawing(output, draw_efficiency(table))
    return table


def planned_steps(settings: EfficiencySettings, folder: Path) -> list[Step]:
    """The steps, writing into a folder.

    Raises:
        ConfigError: There are several extractors, or both ways have different lesions.
    """
    features, probe, finetune = (
        read_yaml(Path(path)) for path in (settings.features, settings.probe, settings.finetune)
    )
    extractors = features.get("extractors", ["fmcib"])
    extractors = [extractors] if isinstance(extractors, str) else extractors
    if len(extractors) != 1:
        raise ConfigError(f"there are {len(extractors)} extractors", Path(settings.features).name, "name one")
    sources = [{key: plain.get("data", {}).get(key) for key in ("table", "cache")} for plain in (features, finetune)]
    if sources[0] != sources[1]:
        where = f"{Path(settings.features).name}, {Path(settings.finetune).name}"
        raise ConfigError("both ways must have the same lesions", where, "name the same table or cache")
    made = folder / "features" / f"{extractors[0].partition('=')[0]}.parquet"
    return [
        Step(LINEAR, "features", features | {"output": str(folder / "features")}),
        Step(LINEAR, "probe", probe | {"features": str(made), "output": str(folder / "probe")}),
        Step(FINETUNED, "finetune", finetune | {"run": str(folder / "finetune")}),
    ]


def measure(command: Sequence[str], report: Path) -> dict[str, float]:
    """Run a command from start to end.

    Args:
        command: Full path of the program, and its arguments.
        report: A file for what it took.

    Returns:
        minutes; cpu_minutes, over all its cores; peak_mib, the resident memory of its largest process, without a GPU's.

    Raises:
        InputError: It failed.
    """
    wrapper = [sys.executable, str(Path(__file__).with_name("measured.py")), str(report)]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    code = run([*wrapper, *command], env={**os.environ, "PYTHONPATH": paths}, check=False).returncode
    if code:
        raise InputError(f"it failed with exit code {code}", " ".join(command[1:-1]), "see its own message")
    found: dict[str, float] = json.loads(report.read_text(encoding="utf-8"))
    return found


def machine() -> dict[str, Any]:
    """What measured."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    facts = {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    return facts | {"gpu": gpu, "torch": version("torch"), "git_revision": git_revision()}


def draw_efficiency(took: pd.DataFrame) -> Drawing:
    """Both ways: minutes add up over steps, memory is that of the largest (as the paper's Extended Data Fig. 2)."""
    ways = list(took["way"].drop_duplicates())
    style = looks(list(took["step"]))
    figure, axes = panels(len(MEASURES), size=(2.6, 2.9))
    for ax, (measure_name, label) in zip(axes, MEASURES.items(), strict=True):
        for place, way in enumerate(ways):
            of, below = took[took["way"] == way], 0.0
            if measure_name == "peak_mib":
                of = of.loc[[of["peak_mib"].idxmax()]]
            for step, value in zip(of["step"], of[measure_name], strict=True):
                ax.bar(place, value, bottom=below, width=0.6, color=style[step]["color"])
                ax.text(
                    place,
                    below + value / 2,
                    f"{step}\n{value:.0f}" if value >= 100 else f"{step}\n{value:.2g}",
                    ha="center",
                    va="center",
                )
                below += value
        ax.set_xticks(range(len(ways)), ways)
        ax.set_ylabel(label)
    caption = "Features with a linear head, and fine-tuning, each from the lesion table to predictions."
    return Drawing("efficiency", "", "Efficiency", caption, figure, took)
