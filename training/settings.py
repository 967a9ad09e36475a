"""Settings of a pretraining run: frozen dataclasses, one per section of config/training/*.yml, unknown keys refused."""

import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from fmcib_module.core.conventions import PATCH_SIZE
from fmcib_module.core.errors import ConfigError
from fmcib_module.settings import from_plain, read_yaml, to_plain
from training.view_settings import ViewSettings


class MethodName(StrEnum):
    """The five methods of the paper's Fig. 2, and ours."""

    MODIFIED_SIMCLR = "modified-simclr"  # random patches of the scans are the only negatives: the paper's own
    SIMCLR = "simclr"
    SWAV = "swav"
    NNCLR = "nnclr"
    AUTOENCODER = "autoencoder"
    MIXED = "mixed"  # of the packaged small weights: NT-Xent, hand-made features as targets, decorrelation


class OptimiserName(StrEnum):
    """What moves the weights."""

    LARS = "lars"
    SGD = "sgd"
    ADAM = "adam"
    ADAMW = "adamw"


class Source(StrEnum):
    """Where patches come from."""

    SYNTHETIC = "synthetic"  # ellipsoids in noise: no data needed, for trying the trainer
    CACHE = "cache"  # what `prepare` made of a lesion table


class Randoms(StrEnum):
    """Where the random patches of a lesion's scan are taken."""

    APART = "apart"  # anywhere that does not overlap the lesion's patch
    ANYWHERE = "anywhere"  # as published: the lesion may be in it
    OTHER_LESIONS = "other-lesions"  # another lesion's patch where the scan has one apart, else as apart


class Precision(StrEnum):
    """Arithmetic of the encoder; heads and losses are always float32."""

    FLOAT32 = "float32"
    BF16 = "bf16"  # maps of edge 2 and less stay float32 on a CPU (see encoder_pass.py)


class Accelerator(StrEnum):
    """Where a run computes."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Section `data`.

    Attributes:
        source: synthetic or cache.
        path: Folder of the cache; unused by synthetic.
        batch_size: Lesions per rank and forward pass.
        n_lesions: Lesions that the synthetic source makes up.
        n_labelled: Labelled patches that the synthetic source adds for the kNN; 0 for none.
        edge: Of the synthetic patches, voxels; small ones make small trials.
        split: Of the cache's lesions, which are learned from: train, val, test, or "" for all.
        labelled_split: Whose labelled lesions the kNN watches; "" for none.
        randoms: apart, anywhere or other-lesions.
        margin: Voxels around the patch of 50 that are read with it, for views that reach further.
        workers: Threads that read ahead from the cache; 0 reads when a batch is wanted.
    """

    source: Source = Source.SYNTHETIC
    path: str = ""
    batch_size: int = 32
    n_lesions: int = 64
    n_labelled: int = 0
    edge: int = PATCH_SIZE
    split: str = "train"
    labelled_split: str = ""
    randoms: Randoms = Randoms.APART
    margin: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.margin < 0 or self.workers < 0:
            raise ConfigError("batch_size, margin or workers is too small", "data", "use positive numbers")


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Section `network`.

    Attributes:
        start_from: Checkpoint of another run of the same method whose weights this one starts with; "" draws them.
        widen_factor: Width of the ResNet50; 2 is the published one (4,096 features).
        projection: Outputs of the projection head.
        hidden: Hidden units of the projection head; 0 for half of the features.
        predictor_hidden: Hidden units of NNCLR's predictor; 0 for half of the features.
        joint_passes: All views of one size in one forward pass, so that batch norm sees lesions and random patches
            together; false is one pass per view, as published.
        precision: float32 or bf16.
        channels_last: Memory layout.
        checkpointing: Recompute activations in the backward pass: less memory, about a third more time.
        compile: torch.compile the encoder.
    """

    start_from: str = ""
    widen_factor: float = 2.0
    projection: int = 128
    hidden: int = 0
    predictor_hidden: int = 0
    joint_passes: bool = False
    precision: Precision = Precision.FLOAT32
    channels_last: bool = True
    checkpointing: bool = False
    compile: bool = False


@dataclass(frozen=True, slots=True)
class MethodSettings:
    """Section `method`; what a method does not know it leaves alone.

    Attributes:
        name: One of the five.
        temperature: Of the softmax (NT-Xent, SwAV).
        n_prototypes: SwAV.
        sinkhorn_epsilon: SwAV: smoothness of the assignment.
        queue_length: SwAV: features of earlier batches, over all ranks; 0 for none.
        queue_from_epoch: SwAV: the first epoch (from 0) that uses the queue.
        prototypes_frozen_steps: SwAV: steps before the prototypes move.
        memory_bank: NNCLR: features in which the nearest neighbour is sought.
        descriptor_weight: Mixed: of guessing the hand-made features.
        fine_weight: Mixed: of guessing finer ones, that features are not judged by (fine_descriptors.py).
        surroundings_weight: Mixed: of guessing what lies around the patch (surroundings.py).
        aligned_weight: Mixed: of single features each being one of the guessed, so that these are of equal weight.
        spread_weight: Mixed: of variance and decorrelation.
        agreement_weight: Mixed: of each feature's agreement between the two views, so that features are stable.
        channels: Auto-encoder: channels of the encoder's layers, each at half the resolution before; empty chooses
            about as many parameters as the ResNet50 of this width has.
    """

    name: MethodName = MethodName.MODIFIED_SIMCLR
    temperature: float = 0.1
    n_prototypes: int = 3000
    sinkhorn_epsilon: float = 0.05
    queue_length: int = 3840
    queue_from_epoch: int = 15
    prototypes_frozen_steps: int = 0
    memory_bank: int = 4096
    descriptor_weight: float = 1.0
    fine_weight: float = 0.0
    surroundings_weight: float = 0.0
    aligned_weight: float = 0.0
    spread_weight: float = 1.0
    agreement_weight: float = 0.0
    channels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ConfigError(f"temperature is {self.temperature}", "method", "use a positive number, e.g. 0.1")


@dataclass(frozen=True, slots=True)
class OptimiserSettings:
    """Section `optimiser`.

    Attributes:
        name: lars, sgd, adam or adamw.
        learning_rate: At a batch of `reference_batch` lesions (after warm-up).
        reference_batch: The rate is multiplied by (lesions per step over all ranks) / this; 0 leaves it alone.
        momentum: lars and sgd.
        weight_decay: Of all weights but those in `decay_norms_and_biases`.
        decay_norms_and_biases: As published: norms and biases decay (and are scaled by LARS) like all others.
            False is SimCLR's way.
        trust_coefficient: lars.
        warmup_epochs: Linear from 0; 0 for none, as published.
        schedule_steps: Steps that the cosine spans; 0 for those of all epochs.
        final_fraction: Of the learning rate, where the cosine ends.
    """

    name: OptimiserName = OptimiserName.LARS
    learning_rate: float = 0.3
    reference_batch: int = 256
    momentum: float = 0.9
    weight_decay: float = 1e-6
    decay_norms_and_biases: bool = False
    trust_coefficient: float = 0.001
    warmup_epochs: int = 10
    schedule_steps: int = 0
    final_fraction: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainerSettings:
    """Section `trainer`.

    Attributes:
        epochs: Passes over the lesions.
        max_steps: Ends the run earlier; 0 for no limit. The schedule still spans all epochs.
        accelerator: auto, cpu or cuda.
        devices: Processes on this machine, one per device.
        nodes: Machines.
        sync_batch_norm: One set of batch statistics over all ranks.
        accumulate: Batches per step of the optimiser.
        checkpoint_steps: Steps between checkpoints in an epoch; 0 only at its end.
        keep_epochs: Keep a copy of every so many epochs' checkpoint; 0 keeps only the last.
        log_steps: Steps between lines of the logs.
        knn_epochs: Epochs between kNN checks, where the data name a labelled table.
        knn_neighbours: k.
        threads: Of torch on a CPU, per process; 0 leaves torch's choice.
    """

    epochs: int = 100
    max_steps: int = 0
    accelerator: Accelerator = Accelerator.AUTO
    devices: int = 1
    nodes: int = 1
    sync_batch_norm: bool = True
    accumulate: int = 1
    checkpoint_steps: int = 200
    keep_epochs: int = 10
    log_steps: int = 10
    knn_epochs: int = 5
    knn_neighbours: int = 20
    threads: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "devices", "nodes", "accumulate", "log_steps", "knn_epochs", "knn_neighbours"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", "trainer", "use 1 or more")


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """A whole run; the keys of config/training/*.yml are exactly these fields.

    Attributes:
        run: Folder of the run, relative to where it is started: settings, logs, checkpoints, exports.
        seed: Of everything random.
        data: What is learned from.
        views: How views are made of it (of a cache: synthetic data have their own).
        network: The encoder and its heads.
        method: What is learned.
        optimiser: How the weights move.
        trainer: How long, where, what is kept.
        note: What every output made with the exported weights says.
    """

    run: str
    seed: int = 1
    data: DataSettings = field(default_factory=DataSettings)
    views: ViewSettings = field(default_factory=ViewSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    method: MethodSettings = field(default_factory=MethodSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    note: str = "trained here, not the published model"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as YAML or JSON hold them."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    def recipe_digest(self) -> str:
        """SHA-256 over what the trained weights depend on: all but folders, notes, and what is logged or kept."""
        recipe = self.to_dict()
        del recipe["note"], recipe["run"], recipe["data"]["path"], recipe["data"]["workers"]
        recipe["network"]["start_from"] = bool(self.network.start_from)
        kept = ("checkpoint_steps", "keep_epochs", "log_steps", "knn_epochs", "knn_neighbours", "max_steps", "threads")
        for key in kept:
            del recipe["trainer"][key]
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def read_training_settings(path: Path) -> TrainingSettings:
    """Read a YAML file.

    Raises:
        ConfigError: The file is absent or not YAML, a key is unknown or missing, or a value does not fit.
    """
    return from_plain(TrainingSettings, read_yaml(path), where=path.name)
