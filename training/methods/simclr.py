"""SimCLR (Chen et al. 2020, arXiv:2002.05709): the other lesions of the batch are the negatives."""

from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor

from training.batches import Views
from training.losses import NTXentLoss
from training.methods.base import Progress, ResNetMethod, StepOutput, hidden_units
from training.settings import MethodSettings, NetworkSettings


class SimCLR(ResNetMethod):
    """Two-layer projection head without batch norm, as the modified form has it; NT-Xent over all ranks."""

    def __init__(self, network: NetworkSettings, method: MethodSettings) -> None:
        super().__init__(network)
        hidden = hidden_units(network.hidden, self.n_features)
        self.head = SimCLRProjectionHead(self.n_features, hidden, network.projection, batch_norm=False)
        self.loss = NTXentLoss(temperature=method.temperature, gather_distributed=True)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Compute this rank's loss; it needs two views of the lesions."""
        first, second = self.encode_views(views.lesions[:2])
        loss: Tensor = self.loss(self.head(first), self.head(second))
        return StepOutput(loss, (first.detach(), second.detach()))
