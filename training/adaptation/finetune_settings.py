"""Settings of a fine-tuning: frozen dataclasses, one per section of the YAML file, unknown keys refused."""

import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fmcib_module.core.errors import ConfigError
from fmcib_module.settings import to_plain
from training.adaptation.augment import AugmentSettings
from training.adaptation.lesions import LesionSettings
from training.settings import Accelerator


class Task(StrEnum):
    """What is predicted."""

    CLASSES = "classes"  # the table's label
    SURVIVAL = "survival"  # whether the event comes within a horizon, from time and event


class Start(StrEnum):
    """Where the network's weights come from."""

    PRETRAINED = "pretrained"  # the extractor's, or those of `weights`: a file of another fine-tuning transfers it
    RANDOM = "random"  # drawn: supervised training


class Optimiser(StrEnum):
    """What moves the weights."""

    SGD = "sgd"  # with momentum: the paper
    ADAM = "adam"  # the published configuration


class Score(StrEnum):
    """By what the best checkpoint is told, on the tuning set."""

    AUTO = "auto"  # auc of two classes, else mean_average_precision
    LOSS = "loss"
    AUC = "auc"
    MEAN_AVERAGE_PRECISION = "mean_average_precision"
    BALANCED_ACCURACY = "balanced_accuracy"


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Section `model`.

    Attributes:
        extractor: fmcib, mini, med3d, models-genesis or ct-fm: network, input size and scaling.
        start: pretrained or random.
        weights: Of a pretrained start: a name of `fmcib weights list` or a file; "" for the extractor's own.
        width: Of a random start, relative to the published network; narrow ones make small trials.
        hidden: Hidden units of the head: [2048] is the paper's for eight classes and for malignancy, [512, 256] behind
            2048 for survival.
        finetuned: A finished fine-tuned model (`trunk_state_dict`, `head_state_dict`) that only predicts.
    """

    extractor: str = "fmcib"
    start: Start = Start.PRETRAINED
    weights: str = ""
    width: float = 1.0
    hidden: tuple[int, ...] = (2048,)
    finetuned: str = ""

    def __post_init__(self) -> None:
        if self.start is Start.RANDOM and (self.weights or self.finetuned):
            raise ConfigError("a random start has no weights", "model", "leave out weights and finetuned")
        if self.width <= 0 or (self.width != 1 and self.start is not Start.RANDOM):
            raise ConfigError(f"width is {self.width}", "model: width", "use another width only with start: random")


@dataclass(frozen=True, slots=True)
class FinetuneOptimiser:
    """Section `optimiser`.

    Attributes:
        name: sgd or adam.
        learning_rate: At a batch of `reference_batch` lesions.
        reference_batch: The rate is multiplied by batch size / this; 0 leaves it alone (Adam's 0.001 as published).
        momentum: Of sgd.
        weight_decay: Of all weights.
        step_epochs: The rate falls every so many epochs.
        gamma: By this factor.
    """

    name: Optimiser = Optimiser.SGD
    learning_rate: float = 0.1
    reference_batch: int = 256
    momentum: float = 0.9
    weight_decay: float = 0.0
    step_epochs: int = 30
    gamma: float = 0.1


@dataclass(frozen=True, slots=True)
class FinetuneTrainer:
    """Section `trainer`.

    Attributes:
        epochs: Passes over the training lesions.
        batch_size: Lesions per step.
        validate_epochs: Epochs between looks at the tuning set.
        score: auto, loss, auc, mean_average_precision or balanced_accuracy.
        patience: Looks without a better score before the run stops; 0 never stops early.
        accelerator: auto, cpu or cuda.
        threads: Of torch on a CPU; 0 leaves torch's choice.
    """

    epochs: int = 100
    batch_size: int = 32
    validate_epochs: int = 5
    score: Score = Score.AUTO
    patience: int = 0
    accelerator: Accelerator = Accelerator.AUTO
    threads: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("validate_epochs", 1), ("patience", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}", "trainer", f"use {least} or more")


@dataclass(frozen=True, slots=True)
class FinetuneSettings:
    """A whole fine-tuning; the keys of the YAML file are exactly these fields, paths relative to where it is run.

    Attributes:
        run: Folder: predictions.csv, and a folder for every share and seed.
        data: Lesions.
        task: classes or survival.
        horizon_years: Of survival.
        model: Network and head.
        augment: Of the training lesions.
        optimiser: How the weights move.
        trainer: How long, where, what is kept.
        method: In the predictions; empty says what it is.
        shares: Of the training data; the tuning set stays whole.
        seeds: Of subsets and training; all of the data is trained on once, with the first.
        predict: Splits to predict.
    """

    run: str
    data: LesionSettings
    task: Task = Task.CLASSES
    horizon_years: float = 2.0
    model: ModelSettings = field(default_factory=ModelSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    optimiser: FinetuneOptimiser = field(default_factory=FinetuneOptimiser)
    trainer: FinetuneTrainer = field(default_factory=FinetuneTrainer)
    method: str = ""
    shares: tuple[float, ...] = (1.0,)
    seeds: tuple[int, ...] = (1,)
    predict: tuple[str, ...] = ("val", "test")

    def __post_init__(self) -> None:
        if not self.shares or not all(0 < share <= 1 for share in self.shares) or not self.seeds:
            raise ConfigError(f"shares are {self.shares}", "shares", "give shares above 0 and up to 1, and a seed")
        if strange := set(self.predict) - {"train", "val", "test"}:
            raise ConfigError(f"no such split: {', '.join(sorted(strange))}", "predict", "use train, val, test")

    @property
    def method_name(self) -> str:
        """As the predictions call it."""
        if self.method:
            return self.method
        if self.model.start is Start.RANDOM:
            return f"{self.model.extractor}, supervised from random weights"
        return f"{self.model.extractor} fine-tuned"

    @property
    def fits(self) -> list[tuple[float, int]]:
        """(share, seed) of every training."""
        return [(share, seed) for share in self.shares for seed in (self.seeds[:1] if share == 1 else self.seeds)]

    def recipe_digest(self) -> str:
        """SHA-256 over what a trained model depends on, but for its share and seed: no folders, names, devices."""
        recipe: dict[str, Any] = to_plain(self)
        for key in ("run", "method", "shares", "seeds", "predict"):
            del recipe[key]
        for key in ("table", "images", "cache"):
            del recipe["data"][key]
        for key in ("weights", "finetuned"):
            del recipe["model"][key]
        for key in ("accelerator", "threads"):
            del recipe["trainer"][key]
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
