"""`python -m training quality FILE`: features against random networks and hand-made features."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.core.errors import ConfigError
from fmcib_module.settings import from_plain, read_yaml
from training.cache import LesionCache
from training.evaluation.estimates import Estimate, cluster_bootstrap, estimate
from training.quality_data import read_labelled, read_repeats
from training.quality_models import Model, calibration_patches, hand_made, random_network, trained
from training.quality_tasks import Outcome, judge_repeats, read_classes, tell_classes

log = logging.getLogger(__name__)

HAND_MADE: Final = "hand-made"


@dataclass(frozen=True, slots=True)
class QualitySettings:
    """What is judged on what; the keys of the YAML file are exactly these fields, paths relative to where it is run.

    Attributes:
        weights: Name of the registry, or path.
        lesions: Cache with lesions, as trained on.
        points: Cache with labelled points.
        tasks: Each "name: class, class": two classes give an AUC, more a balanced accuracy.
        split: val while choosing, test once at the end.
        report: JSON file to write.
        lesions_per_patient: For retrieval, stability and rank.
        random_networks: How many.
        n_resamples: Of the intervals.
        seed: Of everything random.
        threads: Of torch.
    """

    weights: str
    lesions: str
    points: str
    tasks: tuple[str, ...]
    split: str = "val"
    report: str = "quality.json"
    lesions_per_patient: int = 50
    random_networks: int = 3
    n_resamples: int = 1000
    seed: int = 1
    threads: int = 0

    def __post_init__(self) -> None:
        if self.split not in ("val", "test"):
            raise ConfigError(f"split is {self.split!r}", "split", "use val or test")
        for task in self.tasks:
            if len(read_classes(task)[1]) < 2:
                raise ConfigError(f"a task is {task!r}", "tasks", "write a name, a colon and two classes or more")
        if self.random_networks < 1 or self.lesions_per_patient < 2 or self.n_resamples < 1:
            raise ConfigError("a number is too small", "quality", "use at least 1 random network and 2 lesions")


def quality(settings_path: Path) -> None:
    """The verb.

    Raises:
        ConfigError: The settings are wrong.
        InputError: A cache is absent or has nothing of the split.
        WeightsError: The weights cannot be used.
        OutputError: The report cannot be written.
    """
    settings = from_plain(QualitySettings, read_yaml(settings_path), where=settings_path.name)
    report = judge(settings)
    write_bytes(Path(settings.report), (json.dumps(report, indent=1) + "\n").encode())
    for line in as_table(report):
        log.info("%s", line)


def judge(settings: QualitySettings) -> dict[str, Any]:
    """Do all tasks with all models.

    Returns:
        Settings, and for each task its measure, each model's estimate and the difference to the hand-made features.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    cache = LesionCache(Path(settings.lesions))
    models = _models(settings, cache)
    points = read_labelled(LesionCache(Path(settings.points)))
    outcomes = [
        tell_classes(points, models, classes, settings.split, name)
        for name, classes in map(read_classes, settings.tasks)
    ]
    outcomes += judge_repeats(read_repeats(cache, settings.split, settings.lesions_per_patient, settings.seed), models)
    return {"settings": asdict(settings), "tasks": {o.name: _judged(o, settings) for o in outcomes}}


def as_table(report: Mapping[str, Any]) -> list[str]:
    """Lines of a Markdown table of a report."""
    tasks = report["tasks"]
    names = list(next(iter(tasks.values()))["models"])
    lines = ["| Task | " + " | ".join(names) + " | weights minus hand-made |", "|---" * (len(names) + 2) + "|"]
    for name, task in tasks.items():
        cells = [str(Estimate(**task["models"][model])) for model in names]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {Estimate(**task['gain'])} |")
    return lines


def _models(settings: QualitySettings, cache: LesionCache) -> dict[str, Model]:
    network, width = trained(settings.weights)
    calibration = calibration_patches(cache, settings.seed)
    randoms = {
        f"random {n + 1}": random_network(width, settings.seed + n, calibration)
        for n in range(settings.random_networks)
    }
    return {"weights": network, HAND_MADE: hand_made, **randoms}


def _judged(outcome: Outcome, settings: QualitySettings) -> dict[str, Any]:
    metrics = list(outcome.metrics.values())
    values = [metric(outcome.all_items) for metric in metrics]
    resamples = cluster_bootstrap(metrics, outcome.clusters, n_resamples=settings.n_resamples, seed=settings.seed)
    estimates = [estimate(value, drawn) for value, drawn in zip(values, resamples, strict=True)]
    ours, theirs = (list(outcome.metrics).index(name) for name in ("weights", HAND_MADE))
    differences = [a - b for a, b in zip(resamples[ours], resamples[theirs], strict=True)]
    return {
        "measure": outcome.what,
        "items": len(outcome.clusters),
        "clusters": len(set(outcome.clusters)),
        "models": {name: asdict(e) for name, e in zip(outcome.metrics, estimates, strict=True)},
        "gain": asdict(estimate(values[ours] - values[theirs], differences)),
    }
