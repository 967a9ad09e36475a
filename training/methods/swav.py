"""SwAV (Caron et al. 2020, arXiv:2006.09882): each view predicts to which prototype the others are assigned."""

from typing import Final

import torch
from lightly.models.modules import SwaVProjectionHead, SwaVPrototypes
from lightly.models.modules.memory_bank import MemoryBankModule
from lightly.utils import dist
from torch import Tensor, nn
from torch.nn import functional

from training.batches import Views
from training.losses import SwaVLoss
from training.methods.base import Progress, ResNetMethod, StepOutput, hidden_units
from training.methods.memory import make_persistent
from training.settings import MethodSettings, NetworkSettings

N_SMALL_CROPS: Final = 6
N_FULL_CROPS: Final = 2


class SwAV(ResNetMethod):
    """Prototypes, equal-share assignment over all ranks and a queue, two full and six small crops."""

    n_small_crops = N_SMALL_CROPS

    def __init__(self, network: NetworkSettings, method: MethodSettings) -> None:
        super().__init__(network)
        hidden = hidden_units(network.hidden, self.n_features)
        self.head = SwaVProjectionHead(self.n_features, hidden, network.projection)
        self.prototypes = SwaVPrototypes(network.projection, method.n_prototypes)
        for layer in self.prototypes.heads:
            layer.register_parameter("bias", None)  # lightly's have one; the paper's prototypes are directions only
        sizes = [(method.queue_length, network.projection)] * (N_FULL_CROPS if method.queue_length else 0)
        self.queues = nn.ModuleList(MemoryBankModule(size=size, feature_dim_first=False) for size in sizes)
        for queue in self.queues:
            make_persistent(queue)
        self.n_queued: Tensor
        self.register_buffer("n_queued", torch.zeros((), dtype=torch.int64))
        self.loss = SwaVLoss(
            temperature=method.temperature,
            sinkhorn_epsilon=method.sinkhorn_epsilon,
            sinkhorn_gather_distributed=True,
        )
        self._settings = method

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Compute this rank's loss; it needs two full crops of the lesions and six small ones."""
        self.prototypes.normalize()
        full = self.encode_views(views.lesions[:N_FULL_CROPS], joint=True)  # by size, as the SwAV paper's code
        small = self.encode_views(views.lesions[N_FULL_CROPS:], joint=True)
        projected = [functional.normalize(self.head(rows), dim=1) for rows in (torch.cat(full), torch.cat(small))]
        full_projected = projected[0].chunk(len(full))
        full_scores, small_scores = (
            list(self.prototypes(rows).chunk(len(crops))) for rows, crops in zip(projected, (full, small), strict=True)
        )
        loss: Tensor = self.loss(full_scores, small_scores, self._queue_scores(full_projected, progress))
        return StepOutput(loss.squeeze(), (full[0].detach(), full[1].detach()))

    def before_step(self, progress: Progress) -> None:
        """Leave the prototypes where they are during the first steps, as the SwAV paper does."""
        if progress.step < self._settings.prototypes_frozen_steps:
            for parameter in self.prototypes.parameters():
                parameter.grad = None

    @torch.no_grad()
    def _queue_scores(self, projected: tuple[Tensor, ...], progress: Progress) -> list[Tensor] | None:
        """Put features in the queues; scores of this rank's share of each, once they are full and wanted."""
        if not self.queues:
            return None
        queued = [queue(rows, update=self.training)[1] for queue, rows in zip(self.queues, projected, strict=True)]
        is_full = int(self.n_queued) >= self._settings.queue_length
        self.n_queued += projected[0].shape[0] * dist.world_size()
        if not is_full or progress.epoch < self._settings.queue_from_epoch:
            return None
        return [self.prototypes(rows[dist.rank() :: dist.world_size()]) for rows in queued]
