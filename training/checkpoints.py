"""Checkpoints that appear whole or not at all, in the middle of epochs and at their ends."""

import shutil
from pathlib import Path
from typing import Any, Final

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from fmcib_module.adapters.atomic import replacing
from fmcib_module.core.errors import ConfigError
from training.settings import TrainerSettings

LAST: Final = "last.ckpt"
"""The newest checkpoint: what a killed run goes on from."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to disk, renames: a kill leaves the earlier checkpoint."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write one checkpoint.

        Raises:
            OutputError: The folder cannot be written or is full.
        """
        with replacing(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


class SteppedCheckpoints(Checkpoint):
    """Keeps `last.ckpt`, renewed every so many steps and after each epoch, and copies of some epochs.

    A checkpoint is written only where an optimiser step ended, so no accumulated gradient is lost.
    """

    def __init__(self, folder: Path, settings: TrainerSettings) -> None:
        self._folder = folder
        self._settings = settings

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """In the middle of an epoch; its last batch is left to the end of the epoch."""
        every = self._settings.checkpoint_steps
        stepped = (batch_idx + 1) % self._settings.accumulate == 0
        is_last = batch_idx + 1 >= trainer.num_training_batches
        is_due = (every and trainer.global_step % every == 0) or trainer.global_step == trainer.max_steps
        if stepped and is_due and not is_last:
            trainer.save_checkpoint(self._folder / LAST)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """At the end of an epoch, but not of one that `max_steps` cut short: lightning would take it for done."""
        if trainer.fit_loop.epoch_loop.batch_progress.current.ready < trainer.num_training_batches:
            return
        trainer.save_checkpoint(self._folder / LAST)
        done, every = trainer.current_epoch + 1, self._settings.keep_epochs
        if trainer.is_global_zero and every and done % every == 0:
            with replacing(self._folder / f"epoch-{done:04d}.ckpt") as temporary:
                shutil.copyfile(self._folder / LAST, temporary)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's contents, on the CPU; tensors and plain values only.

    Raises:
        ConfigError: The file is absent, damaged, or not one of ours.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, TypeError, AttributeError) as error:
        reason = type(error).__name__
        raise ConfigError(f"not a readable checkpoint ({reason})", path.name, "give a run's checkpoint") from error
    if not isinstance(loaded, dict) or "settings" not in loaded:
        raise ConfigError("the checkpoint says nothing of its settings", path.name, "give a checkpoint of `pretrain`")
    return loaded
