"""One fine-tuning as lightning trains it, and the look at the tuning set that tells the best checkpoint."""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import StepLR

from fmcib_module.adapters.atomic import replacing
from fmcib_module.core.extractors import InputForm
from training.adaptation.augment import as_input, augmented
from training.adaptation.finetune_data import Cohort, FinetuneSource, read_batch
from training.adaptation.finetune_settings import FinetuneSettings, Optimiser, Score
from training.adaptation.finetuned import FineTuned, probabilities, write_finetuned
from training.adaptation.lesions import CropReader
from training.bars import Bar
from training.batches import PatchBatch
from training.checkpoints import LAST
from training.evaluation.metrics import CLASS_METRICS, ClassScores, once
from training.loader import EpochLoader, Position

log = logging.getLogger(__name__)

BEST: Final = "best.torch"
METRICS: Final = "metrics.csv"
COLUMNS: Final = ("epoch", "learning_rate", "train_loss", "val_loss", "val_score")


class FinetuneModule(LightningModule):
    """Network, head, loss, optimiser and schedule."""

    def __init__(
        self,
        model: FineTuned,
        settings: FinetuneSettings,
        form: InputForm,
        labels: NDArray[np.int64],
        source: FinetuneSource,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.losses: list[float] = []
        self._settings, self._form, self._source, self._seed = settings, form, source, seed
        self._labels = torch.from_numpy(labels)

    def train_dataloader(self) -> EpochLoader:
        """The training lesions, from where the run stands."""
        return EpochLoader(self._source, 0, 1, self._position)

    def transfer_batch_to_device(self, batch: PatchBatch, device: torch.device, dataloader_idx: int) -> PatchBatch:
        """Raw cubes travel as int16."""
        return batch.to(device)

    def training_step(self, batch: PatchBatch, batch_idx: int) -> Tensor:
        """Loss of one batch; what is done to a lesion depends on seed, epoch and lesion alone."""
        with torch.no_grad():
            cubes = augmented(
                batch.lesions_hu,
                batch.lesion_rows,
                self._form,
                self._settings.augment,
                seed=self._seed,
                epoch=self.current_epoch,
            )
        loss = loss_of(self.model(cubes), self._labels[batch.lesion_rows.cpu()].to(cubes.device))
        self.losses.append(float(loss.detach()))
        return loss

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """SGD with momentum or Adam, and steps down by epoch."""
        options = self._settings.optimiser
        factor = self._settings.trainer.batch_size / options.reference_batch if options.reference_batch else 1.0
        rate, decay = options.learning_rate * factor, options.weight_decay
        parameters = self.model.parameters()
        optimiser: Optimizer
        if options.name is Optimiser.SGD:
            optimiser = SGD(parameters, lr=rate, momentum=options.momentum, weight_decay=decay)
        else:
            optimiser = Adam(parameters, lr=rate, weight_decay=decay)
        schedule = StepLR(optimiser, step_size=options.step_epochs, gamma=options.gamma)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def _position(self) -> Position:
        return Position(self.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready)


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of one output, cross-entropy of more."""
    if logits.shape[1] == 1:
        return nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
    return nn.functional.cross_entropy(logits, labels)


def predict_logits(
    model: FineTuned, rows: Sequence[int] | NDArray[np.int64], read: CropReader, form: InputForm, *, batch_size: int
) -> Tensor:
    """(n, outputs) on the CPU, of lesions as they are; the model's mode is left as it was."""
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), batch_size):
            batch = read_batch(rows[start : start + batch_size], read).to(device)
            parts.append(model(as_input(batch.lesions_hu, form)).float().cpu())
    model.train(was_training)
    return torch.cat(parts)


class TuningWatch(Callback):
    """After every epoch a checkpoint and a line of metrics.csv; every few, a look at the tuning set.

    A better model than any before is written to best.torch in the published form. Best score and looks without a
    better one are in the checkpoint, so that a resumed run goes on with them.
    """

    def __init__(
        self, folder: Path, settings: FinetuneSettings, form: InputForm, cohort: Cohort, read: CropReader, bar: Bar
    ) -> None:
        self._folder, self._settings, self._form, self._read, self._bar = folder, settings, form, read, bar
        self._rows = cohort.rows("val")
        self._labels = cohort.labels[self._rows]
        self._score = _chosen(settings.trainer.score, len(cohort.classes))
        self.best, self.best_epoch, self.without_better = -np.inf, 0, 0
        self._rate = 0.0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"best": self.best, "best_epoch": self.best_epoch, "without_better": self.without_better}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with it."""
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]
        self.without_better = state_dict["without_better"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop lines of metrics.csv beyond the epoch that the run goes on from; one that had stopped stays stopped."""
        patience = self._settings.trainer.patience
        trainer.should_stop = bool(patience) and self.without_better >= patience
        path = self._folder / METRICS
        kept: list[dict[str, str]] = []
        if path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                kept = [row for row in csv.DictReader(file) if int(row["epoch"]) <= trainer.current_epoch]
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the rate of the epoch: at its end the schedule has moved on."""
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look, note, keep."""
        assert isinstance(pl_module, FinetuneModule)
        options, done = self._settings.trainer, trainer.current_epoch + 1
        rate = f"{self._rate:.6g}"
        numbers = {"epoch": done, "learning_rate": rate, "train_loss": f"{np.mean(pl_module.losses):.6g}"}
        pl_module.losses.clear()
        if done % options.validate_epochs == 0 or done == options.epochs:
            numbers |= self._look(pl_module.model, done)
            if options.patience and self.without_better >= options.patience:
                log.info("no better score in %d looks: the run stops at epoch %d", self.without_better, done)
                trainer.should_stop = True
        with (self._folder / METRICS).open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(numbers)
        trainer.save_checkpoint(self._folder / LAST)
        self._bar.told(done, options.epochs)

    def _look(self, model: FineTuned, epoch: int) -> dict[str, Any]:
        options = self._settings.trainer
        logits = predict_logits(model, self._rows, self._read, self._form, batch_size=options.batch_size)
        loss = float(loss_of(logits, torch.from_numpy(self._labels)))
        score = -loss
        if self._score is not Score.LOSS:
            scores = ClassScores(self._labels, probabilities(logits).double().numpy())
            score = float(CLASS_METRICS[self._score.value](scores, once(len(self._labels)))[0])
        if score > self.best:
            self.best, self.best_epoch, self.without_better = score, epoch, 0
            write_finetuned(self._folder / BEST, model)
        else:
            self.without_better += 1
        return {"val_loss": f"{loss:.6g}", "val_score": f"{score:.6g}"}


def _chosen(score: Score, n_classes: int) -> Score:
    if score is not Score.AUTO:
        return score
    return Score.AUC if n_classes == 2 else Score.MEAN_AVERAGE_PRECISION
