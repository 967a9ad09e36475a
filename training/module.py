"""A method as lightning trains it: views on the device, loss, optimiser, schedule, and nothing random but by seed."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer

from training.batches import PatchBatch, PatchSource, ViewMaker, Views, batch_seed
from training.loader import EpochLoader, Position
from training.methods import Method, Progress, StepOutput
from training.optim import cosine_with_warmup, make_optimiser
from training.settings import TrainingSettings


class PretrainModule(LightningModule):
    """Glue between a method, a source of patches and lightning's Trainer.

    Attributes:
        method: What is trained; its parameters are the module's.
        last_features: Features of the batch just seen, one (n, n_features) per view: for watching.
    """

    def __init__(self, settings: TrainingSettings, method: Method, source: PatchSource, view_maker: ViewMaker) -> None:
        super().__init__()
        self.settings = settings
        self.method = method
        self.last_features: tuple[Tensor, ...] = ()
        self._source = source
        self._view_maker = view_maker

    @property
    def total_steps(self) -> int:
        """Steps of the optimiser in all epochs: what the schedule spans."""
        trainer = self.settings.trainer
        return trainer.epochs * -(-self._source.n_batches(self.trainer.world_size) // trainer.accumulate)

    def train_dataloader(self) -> EpochLoader:
        """The source's batches, from where the run stands."""
        return EpochLoader(self._source, self.global_rank, self.trainer.world_size, self._position)

    def transfer_batch_to_device(self, batch: PatchBatch, device: torch.device, dataloader_idx: int) -> PatchBatch:
        """Raw patches travel as int16."""
        return batch.to(device)

    def training_step(self, batch: PatchBatch, batch_idx: int) -> Tensor:
        """Loss of one batch; the views depend on seed, epoch, number of the batch and rank alone."""
        generator = torch.Generator(self.device)
        generator.manual_seed(batch_seed(self.settings.seed, self.current_epoch, batch_idx, self.global_rank))
        with torch.no_grad():
            views: Views = self._view_maker(batch, generator)
        output: StepOutput = self.method(views, self._progress())
        self.last_features = output.features
        self.log("loss", output.loss.detach(), batch_size=len(batch.lesion_rows))
        return output.loss

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimiser and schedule, as the settings say."""
        trainer, data = self.settings.trainer, self.settings.data
        lesions_per_step = data.batch_size * self.trainer.world_size * trainer.accumulate
        optimiser = make_optimiser(self.method, self.settings.optimiser, lesions_per_step)
        schedule = cosine_with_warmup(
            optimiser,
            warmup_steps=self.settings.optimiser.warmup_epochs * self.total_steps // trainer.epochs,
            total_steps=self.settings.optimiser.schedule_steps or self.total_steps,
            final_fraction=self.settings.optimiser.final_fraction,
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_before_optimizer_step(self, optimizer: Optimizer | LightningOptimizer) -> None:
        """Let the method freeze what it wants frozen."""
        self.method.before_step(self._progress())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say in the checkpoint what made it."""
        checkpoint["settings"] = self.settings.to_dict()
        checkpoint["recipe_digest"] = self.settings.recipe_digest()
        checkpoint["data"] = {"table_sha256": self._source.table_sha256, "licence": self._source.licence}

    def _progress(self) -> Progress:
        return Progress(self.current_epoch, self.global_step)

    def _position(self) -> Position:
        return Position(self.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready)
