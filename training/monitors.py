"""Numbers that tell whether features are worth something while they are trained: spread, agreement, neighbours."""

import logging
from typing import Final

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn import functional

from training.batches import LabelledPatches
from training.methods import Method
from training.module import PretrainModule
from training.settings import TrainerSettings

log = logging.getLogger(__name__)

WINDOW: Final = 512
"""Newest lesions over which the effective rank is taken."""

MIN_ROWS: Final = 32
"""Fewer lesions say nothing about rank."""

COLLAPSED_RANK: Final = 3.0
"""Effective rank below which features say almost one thing (a random network of width 0.25 has about 9)."""

ENCODE_BATCH: Final = 16

COLLAPSE_FIX: Final = (
    "try a milder random crop, more lesions per step, a lower learning rate or a longer warm-up; with modified-simclr, "
    "negatives from other places of the same scans, or a part of plain SimCLR's loss, push lesions apart"
)


def alignment(first: Tensor, second: Tensor) -> float:
    """Mean squared distance of two views of the same lesions on the unit sphere: 0 is agreement, 2 is chance.

    Args:
        first: (n, d).
        second: (n, d), row i of the same lesion.

    References:
        Wang and Isola 2020, arXiv:2005.10242, equation 1 (alpha = 2).
    """
    difference = functional.normalize(first.float(), dim=1) - functional.normalize(second.float(), dim=1)
    return float(difference.square().sum(dim=1).mean())


def uniformity(rows: Tensor) -> float:
    """Log of the mean Gaussian potential of pairs on the unit sphere: 0 is collapse, -4 the best there is.

    Args:
        rows: (n, d), n >= 2.

    References:
        Wang and Isola 2020, arXiv:2005.10242, equation 2 (t = 2).
    """
    squared = torch.pdist(functional.normalize(rows.float(), dim=1)).square()
    return float(squared.mul(-2).exp().mean().log())


def effective_rank(rows: Tensor) -> float:
    """How many directions features really use: exp of the entropy of the singular values' shares, 1 to min(n, d).

    Args:
        rows: (n, d); their mean is taken off.

    References:
        Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality".
    """
    values = torch.linalg.svdvals((rows - rows.mean(dim=0)).double())
    total = values.sum()
    if total == 0:
        return 1.0
    shares = values / total
    return float(torch.special.entr(shares).sum().exp())


def knn_balanced_accuracy(features: Tensor, labels: Tensor, groups: Tensor, neighbours: int) -> float:
    """Mean recall over classes of a vote of the nearest others by cosine; the own patient has no vote.

    Args:
        features: (m, d).
        labels: (m,) int64.
        groups: (m,) int64, patients.
        neighbours: k; all others vote where there are fewer.
    """
    unit = functional.normalize(features.float(), dim=1)
    similarity = (unit @ unit.T).masked_fill(groups[:, None] == groups[None, :], -torch.inf)
    nearest = similarity.topk(min(neighbours, len(labels) - 1), dim=1)
    one_hot = functional.one_hot(labels).double()
    weights = torch.where(nearest.values.isfinite(), nearest.values.double().exp(), 0.0)
    votes = (one_hot[nearest.indices] * weights[..., None]).sum(dim=1)
    right = votes.argmax(dim=1) == labels
    return float(torch.stack([right[labels == label].double().mean() for label in sorted(set(labels.tolist()))]).mean())


class FeatureMonitor(Callback):
    """Logs alignment, uniformity and effective rank with the loss, and warns of collapse once per epoch."""

    def __init__(self, settings: TrainerSettings) -> None:
        self._every = settings.log_steps
        self._window: list[Tensor] = []
        self._warned_in_epoch = -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Add a batch to the window; compute now and then."""
        if not isinstance(pl_module, PretrainModule):
            return
        features = pl_module.last_features
        self._window.append(features[0].float().cpu())
        while sum(map(len, self._window[1:])) >= WINDOW:
            self._window.pop(0)
        if (batch_idx + 1) % (self._every * pl_module.settings.trainer.accumulate):
            return
        if len(features) > 1:
            pl_module.log("alignment", alignment(features[0], features[1]), batch_size=1)
        if len(features[0]) > 1:
            pl_module.log("uniformity", uniformity(features[0]), batch_size=1)
        rows = torch.cat(self._window)
        if len(rows) >= MIN_ROWS:
            rank = effective_rank(rows)
            pl_module.log("effective_rank", rank, batch_size=1, prog_bar=True)
            self._warn(rank, trainer.current_epoch)

    def _warn(self, rank: float, epoch: int) -> None:
        if rank < COLLAPSED_RANK and epoch != self._warned_in_epoch:
            self._warned_in_epoch = epoch
            log.warning("features collapse: effective rank %.1f in epoch %d: %s", rank, epoch, COLLAPSE_FIX)


class KnnMonitor(Callback):
    """Logs the kNN's balanced accuracy on a labelled table every few epochs."""

    def __init__(self, labelled: LabelledPatches, settings: TrainerSettings) -> None:
        self._labelled = labelled
        self._settings = settings

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Encode the table with batch norm's running statistics, and vote; on the first rank."""
        due = (trainer.current_epoch + 1) % self._settings.knn_epochs == 0
        if not due or not trainer.is_global_zero or not isinstance(pl_module, PretrainModule):
            return
        features = encode_all(pl_module.method, self._labelled.patches, pl_module.device)
        accuracy = knn_balanced_accuracy(
            features, self._labelled.labels, self._labelled.groups, self._settings.knn_neighbours
        )
        pl_module.log("knn_balanced_accuracy", accuracy, rank_zero_only=True, prog_bar=True)


def encode_all(method: Method, patches: Tensor, device: torch.device) -> Tensor:
    """(m, 1, 50, 50, 50) scaled, on the CPU -> (m, n_features) float32 there; the method's mode is left as it was."""
    was_training = method.training
    method.eval()
    try:
        with torch.no_grad():
            return torch.cat(
                [method.encode(part.to(device)).float().cpu() for part in torch.split(patches, ENCODE_BATCH)]
            )
    finally:
        method.train(was_training)
