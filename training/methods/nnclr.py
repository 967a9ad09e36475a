"""NNCLR (Dwibedi et al. 2021, arXiv:2104.14548): a view is drawn to the other view's nearest neighbour in a memory."""

from lightly.models.modules import NNCLRPredictionHead, NNCLRProjectionHead, NNMemoryBankModule
from torch import Tensor

from training.batches import Views
from training.losses import NTXentLoss
from training.methods.base import Progress, ResNetMethod, StepOutput, hidden_units
from training.methods.memory import make_persistent
from training.settings import MethodSettings, NetworkSettings


class NNCLR(ResNetMethod):
    """Projection head, predictor, memory bank; the neighbour of one view stands for it beside the other's prediction.

    The published code pairs the neighbour with the prediction of the same view; this is the NNCLR paper's form.
    """

    def __init__(self, network: NetworkSettings, method: MethodSettings) -> None:
        super().__init__(network)
        hidden = hidden_units(network.hidden, self.n_features)
        predictor_hidden = hidden_units(network.predictor_hidden, self.n_features)
        self.head = NNCLRProjectionHead(self.n_features, hidden, network.projection)
        self.predictor = NNCLRPredictionHead(network.projection, predictor_hidden, network.projection)
        self.bank = NNMemoryBankModule(size=(method.memory_bank, network.projection))
        make_persistent(self.bank)
        self.loss = NTXentLoss(temperature=method.temperature, gather_distributed=True)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Compute this rank's loss; it needs two views of the lesions."""
        first, second = self.encode_views(views.lesions[:2])
        projected = [self.head(features) for features in (first, second)]
        predicted = [self.predictor(rows) for rows in projected]
        neighbour_of_first = self.bank(projected[0].detach(), update=False)
        neighbour_of_second = self.bank(projected[1].detach(), update=self.training)
        loss: Tensor = self.loss(neighbour_of_first, predicted[1]) + self.loss(neighbour_of_second, predicted[0])
        return StepOutput(loss / 2, (first.detach(), second.detach()))
