"""`python -m training pretrain FILE`: train an encoder as a YAML file says; the same command goes on after a kill."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, Strategy

from fmcib_module.core.errors import ConfigError
from training.batches import PatchSource, ViewMaker
from training.checkpoints import AtomicCheckpointIO, SteppedCheckpoints, read_checkpoint
from training.data import open_cache
from training.methods import Method, make_method
from training.module import PretrainModule
from training.monitors import FeatureMonitor, KnnMonitor
from training.progress import CsvLog, ProgressBar
from training.run_folder import RunFolder
from training.settings import Accelerator, Source, TrainingSettings, read_training_settings
from training.synced_norm import with_synced_norms
from training.synthetic import SyntheticSource, SyntheticViews

log = logging.getLogger(__name__)


def _open_synthetic(settings: TrainingSettings, method: Method) -> tuple[PatchSource, ViewMaker]:
    return SyntheticSource(settings.data, settings.seed), SyntheticViews(method.n_small_crops)


SOURCES: Final[dict[Source, Callable[[TrainingSettings, Method], tuple[PatchSource, ViewMaker]]]] = {
    Source.SYNTHETIC: _open_synthetic,
    Source.CACHE: open_cache,
}
"""Data source -> function that opens it."""


def pretrain(settings_path: Path) -> None:
    """The verb.

    Raises:
        ConfigError: The settings are wrong; nothing was run.
        OutputError: The run folder is another run's, or cannot be written.
    """
    run(read_training_settings(settings_path))


def run(settings: TrainingSettings) -> PretrainModule:
    """Train from the newest checkpoint in the run's folder, or from the start.

    Returns:
        The trained module, on the CPU or the device that it was trained on.

    Raises:
        ConfigError: Data and settings do not fit together.
        OutputError: The run folder is another run's, or cannot be written.
    """
    if settings.trainer.threads:
        torch.set_num_threads(settings.trainer.threads)
    seed_everything(settings.seed, verbose=False)
    method = make_method(settings.network, settings.method)
    source, view_maker = open_data(settings, method)
    folder = RunFolder(Path(settings.run))
    checkpoint = folder.open(settings, source.table_sha256)
    trainer = make_trainer(settings, folder, source)
    if source.n_batches(trainer.world_size) < 1:
        raise ConfigError("there are fewer lesions than one step needs", "data", "use a smaller batch_size")
    if settings.network.start_from:
        start_from(method, Path(settings.network.start_from))
    if checkpoint is not None:
        log.info("going on from %s", checkpoint.name)
    if _syncs_norms(settings) and _on_cpu(settings):
        with_synced_norms(method)
    module = PretrainModule(settings, method, source, view_maker)
    trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    return module


def start_from(method: Method, checkpoint: Path) -> None:
    """Give a method the weights of another run's checkpoint, heads and running statistics included.

    Raises:
        ConfigError: There is no such checkpoint, or it is another method's or width's.
    """
    state = read_checkpoint(checkpoint)["state_dict"]
    own = {name.removeprefix("method."): tensor for name, tensor in state.items()}
    try:
        method.load_state_dict(own, strict=True)
    except RuntimeError as error:
        raise ConfigError(
            "the checkpoint is another method's or width's", "network: start_from", "give a run of this method"
        ) from error


def open_data(settings: TrainingSettings, method: Method) -> tuple[PatchSource, ViewMaker]:
    """The source of patches and the views that a method wants of them.

    Raises:
        ConfigError: The source cannot be opened.
    """
    opener = SOURCES.get(settings.data.source)
    if opener is None:
        found, known = settings.data.source.value, ", ".join(source.value for source in SOURCES)
        raise ConfigError(f"there is no data source {found!r} here", "data", f"use one of: {known}")
    return opener(settings, method)


def make_trainer(settings: TrainingSettings, folder: RunFolder, source: PatchSource) -> Trainer:
    """Lightning's Trainer as the settings want it, with our checkpoints, logs and monitors."""
    options = settings.trainer
    callbacks: list[Callback] = [FeatureMonitor(options)]
    labelled = source.labelled()
    if labelled is not None:
        callbacks.append(KnnMonitor(labelled, options))
    callbacks += [CsvLog(folder.metrics, options.log_steps), ProgressBar()]
    callbacks.append(SteppedCheckpoints(folder.checkpoints, options))
    return Trainer(
        accelerator="gpu" if options.accelerator is Accelerator.CUDA else options.accelerator.value,
        devices=options.devices,
        num_nodes=options.nodes,
        strategy=_strategy(settings),
        sync_batchnorm=_syncs_norms(settings) and not _on_cpu(settings),
        accumulate_grad_batches=options.accumulate,
        max_epochs=options.epochs,
        max_steps=options.max_steps or -1,
        log_every_n_steps=options.log_steps,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=TensorBoardLogger(folder.path, name="tensorboard", version=""),
        enable_progress_bar=False,
        enable_model_summary=False,
        benchmark=True,
    )


def _strategy(settings: TrainingSettings) -> Strategy | str:
    if settings.trainer.devices * settings.trainer.nodes == 1:
        return "auto"
    return DDPStrategy(process_group_backend="gloo" if _on_cpu(settings) else "nccl")


def _on_cpu(settings: TrainingSettings) -> bool:
    return settings.trainer.accelerator is Accelerator.CPU or not torch.cuda.is_available()


def _syncs_norms(settings: TrainingSettings) -> bool:
    return settings.trainer.sync_batch_norm and settings.trainer.devices * settings.trainer.nodes > 1
