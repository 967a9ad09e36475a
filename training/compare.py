"""`python -m training compare FILE`: methods on the same data and budget, each with several seeds, judged alike."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.core.conventions import AIR_HU, HU_RANGE
from fmcib_module.core.errors import ConfigError
from fmcib_module.settings import from_plain, read_yaml, to_plain
from training.cache import LesionCache
from training.methods import Method
from training.pretrain import run
from training.quality_data import read_labelled, read_repeats
from training.quality_models import BATCH, Model, calibration_patches, hand_made, random_network
from training.quality_tasks import judge_repeats, read_classes, tell_classes
from training.settings import (
    DataSettings,
    MethodSettings,
    NetworkSettings,
    OptimiserSettings,
    TrainerSettings,
    TrainingSettings,
)
from training.view_settings import ViewSettings

log = logging.getLogger(__name__)

HAND_MADE: Final = "hand-made"
RANDOM: Final = "random weights"


@dataclass(frozen=True, slots=True)
class CompareSettings:
    """What is compared on what; the keys of the YAML file are exactly these fields, paths relative to where it is run.

    Attributes:
        runs: Folder for a run per method and seed; a comparison that was stopped goes on with what is missing.
        report: JSON file to write.
        methods: Each a section `method` of a training run.
        seeds: Of each method, of the random networks, and of nothing else.
        points: Cache with labelled points; the lesions are those of `data`.
        tasks: As in quality.py.
        split: Whose patients are judged, val or test.
        lesions_per_patient: For retrieval, stability and rank.
        data: As in a training run, and so are the sections below: the same for all methods.
        views: See there.
        network: See there.
        optimiser: See there.
        trainer: See there.
    """

    runs: str
    report: str
    methods: tuple[MethodSettings, ...]
    seeds: tuple[int, ...]
    points: str
    tasks: tuple[str, ...]
    split: str = "val"
    lesions_per_patient: int = 40
    data: DataSettings = field(default_factory=DataSettings)
    views: ViewSettings = field(default_factory=ViewSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)

    def __post_init__(self) -> None:
        names = [method.name for method in self.methods]
        if len(set(names)) < len(names) or not self.seeds or not names:
            raise ConfigError("methods or seeds are absent, or a method is there twice", "methods", "give each once")
        if self.trainer.devices > 1:
            raise ConfigError("each run is one process", "trainer: devices", "use 1")

    def training(self, method: MethodSettings, seed: int) -> TrainingSettings:
        """One run."""
        return TrainingSettings(
            run=f"{self.runs}/{method.name.value}-{seed}",
            seed=seed,
            data=self.data,
            views=self.views,
            network=self.network,
            method=method,
            optimiser=self.optimiser,
            trainer=self.trainer,
        )


def compare(settings_path: Path) -> None:
    """The verb.

    Raises:
        ConfigError: The settings are wrong.
        InputError: A cache is absent or has nothing of the split.
        OutputError: A run's folder is another run's, or the report cannot be written.
    """
    settings = from_plain(CompareSettings, read_yaml(settings_path), where=settings_path.name)
    values: dict[str, dict[str, list[float]]] = {}
    for name, model in _models(settings):
        for task, value in _judge(settings, model).items():
            values.setdefault(name, {}).setdefault(task, []).append(value)
        log.info("%s: judged", name)
    report = {"settings": to_plain(settings), "values": values}
    write_bytes(Path(settings.report), (json.dumps(report, indent=1) + "\n").encode())
    for line in as_table(values):
        log.info("%s", line)


def as_table(values: Mapping[str, Mapping[str, list[float]]]) -> list[str]:
    """Lines of a Markdown table: mean over seeds, least and largest in brackets."""
    tasks = list(next(iter(values.values())))
    lines = ["| Method | " + " | ".join(tasks) + " |", "|---" * (len(tasks) + 1) + "|"]
    for name, own in values.items():
        cells = []
        for task in tasks:
            cell = f"{np.mean(own[task]):.2f}"
            cells.append(cell if len(own[task]) == 1 else f"{cell} ({min(own[task]):.2f} to {max(own[task]):.2f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _models(settings: CompareSettings) -> Iterator[tuple[str, Model]]:
    yield HAND_MADE, hand_made
    calibration = calibration_patches(LesionCache(Path(settings.data.path)), 1)
    for seed in settings.seeds:
        yield RANDOM, random_network(settings.network.widen_factor, seed, calibration)
    for method in settings.methods:
        for seed in settings.seeds:
            log.info("%s, seed %d", method.name.value, seed)
            yield method.name.value, _encoder_of(run(settings.training(method, seed)).method)


def _encoder_of(method: Method) -> Model:
    method = method.eval()

    def encode(patches_hu: Tensor) -> NDArray[np.float64]:
        with torch.no_grad():
            parts = [method.encode((part.float() - AIR_HU) / HU_RANGE) for part in torch.split(patches_hu, BATCH)]
        return torch.cat(parts).double().numpy()

    return encode


def _judge(settings: CompareSettings, model: Model) -> dict[str, float]:
    """Task -> value, of one model."""
    points = read_labelled(LesionCache(Path(settings.points)))
    outcomes = [
        tell_classes(points, {"": model}, classes, settings.split, name)
        for name, classes in map(read_classes, settings.tasks)
    ]
    repeats = read_repeats(LesionCache(Path(settings.data.path)), settings.split, settings.lesions_per_patient, 1)
    outcomes += judge_repeats(repeats, {"": model})
    return {outcome.name: outcome.metrics[""](outcome.all_items) for outcome in outcomes}
