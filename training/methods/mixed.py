"""Mixed SimCLR: other lesions are negatives, features say what hand-made ones say, and do not repeat each other."""

import torch
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor, nn
from torch.nn import functional

from fmcib_module.core.conventions import AIR_HU, HU_RANGE
from training.batches import Views
from training.descriptors import NAMES, describe
from training.losses import NTXentLoss, gathered
from training.methods.base import Progress, ResNetMethod, StepOutput, hidden_units
from training.settings import MethodSettings, NetworkSettings


class MixedSimCLR(ResNetMethod):
    """NT-Xent among lesions, a linear guess of the patch's descriptors, and VICReg's variance and covariance.

    References:
        Chen et al. 2020, arXiv:2002.05709 (NT-Xent); Bardes et al. 2022, arXiv:2105.04906 (VICReg).
    """

    needs_target = True

    def __init__(self, network: NetworkSettings, method: MethodSettings) -> None:
        super().__init__(network)
        hidden = hidden_units(network.hidden, self.n_features)
        self.head = SimCLRProjectionHead(self.n_features, hidden, network.projection, batch_norm=False)
        self.guess = nn.Linear(self.n_features, len(NAMES))
        self.standardise = nn.BatchNorm1d(len(NAMES), affine=False, momentum=0.05)
        self.loss = NTXentLoss(temperature=method.temperature, gather_distributed=True)
        self._settings = method

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Compute this rank's loss; what is described is `views.target`, or the first view where there is none."""
        first, second = self.encode_views(views.lesions[:2])
        loss: Tensor = self.loss(self.head(first), self.head(second))
        with torch.no_grad():
            whole = views.lesions[0] if views.target is None else views.target
            described = self.standardise(describe(whole * HU_RANGE + AIR_HU)).clamp(-4, 4)
        guesses = functional.smooth_l1_loss(self.guess(torch.cat([first, second])), described.repeat(2, 1))
        spread = (variance_and_covariance(gathered(first)) + variance_and_covariance(gathered(second))) / 2
        loss = loss + self._settings.descriptor_weight * guesses + self._settings.spread_weight * spread
        loss = loss + self._settings.agreement_weight * disagreement(gathered(first), gathered(second))
        return StepOutput(loss, (first.detach(), second.detach()))


def variance_and_covariance(rows: Tensor) -> Tensor:
    """VICReg's two terms: how far standard deviations fall short of 1, plus the off-diagonal correlations' squares.

    The second is of correlations rather than of covariances, and a mean over features, so that neither width nor
    scale of the features changes its weight.

    Args:
        rows: (n, d).
    """
    centred = rows - rows.mean(dim=0)
    deviations = (centred.square().mean(dim=0) + 1e-4).sqrt()
    unit = centred / deviations
    correlations = unit.T @ unit / len(rows)
    off_diagonal = correlations.square().sum() - correlations.diagonal().square().sum()
    return functional.relu(1 - deviations).mean() + off_diagonal / rows.shape[1] ** 2


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """One minus the correlation of each feature between two views, mean over the features: 0 where all agree.

    Args:
        first: (n, d).
        second: (n, d), row i of the same lesion.

    References:
        Zbontar et al. 2021, arXiv:2103.03230 (Barlow Twins), the diagonal.
    """
    units = []
    for rows in (first, second):
        centred = rows - rows.mean(dim=0)
        units.append(centred / (centred.square().mean(dim=0) + 1e-4).sqrt())
    return 1 - (units[0] * units[1]).mean()
