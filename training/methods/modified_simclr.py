"""Modified SimCLR (Pai et al. 2024): random patches of the lesions' own kind of scan are the only negatives."""

from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor

from training.batches import Views
from training.losses import ModifiedNTXent
from training.methods.base import Progress, ResNetMethod, StepOutput, hidden_units
from training.settings import MethodSettings, NetworkSettings


class ModifiedSimCLR(ResNetMethod):
    """The paper's method: two-layer projection head without batch norm, modified NT-Xent."""

    needs_negatives = True

    def __init__(self, network: NetworkSettings, method: MethodSettings) -> None:
        super().__init__(network)
        hidden = hidden_units(network.hidden, self.n_features)
        self.head = SimCLRProjectionHead(self.n_features, hidden, network.projection, batch_norm=False)
        self.loss = ModifiedNTXent(method.temperature)

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Compute this rank's loss; it needs two views of the lesions and two of the random patches."""
        features = self.encode_views((*views.lesions[:2], *views.negatives[:2]))
        lesion_a, lesion_b, random_a, random_b = (self.head(rows) for rows in features)
        loss: Tensor = self.loss(positive=(lesion_a, lesion_b), negative=(random_a, random_b))
        return StepOutput(loss, (features[0].detach(), features[1].detach()))
