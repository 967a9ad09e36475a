"""Mixed SimCLR: other lesions are negatives, features say what hand-made ones say, and do not repeat each other."""

from collections.abc import Callable
from typing import Final

import torch
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor, nn
from torch.nn import functional

from fmcib_module.core.conventions import AIR_HU, HU_RANGE
from training.batches import Views
from training.descriptors import NAMES, describe
from training.fine_descriptors import FINE_NAMES, describe_finely
from training.losses import NTXentLoss, gathered
from training.methods.base import Progress, ResNetMethod, StepOutput, hidden_units
from training.settings import MethodSettings, NetworkSettings
from training.surroundings import N_SURROUNDINGS

FARTHEST: Final = 4.0
"""Standard deviations: what is guessed is clamped to these."""


class MixedSimCLR(ResNetMethod):
    """NT-Xent among lesions, linear guesses of hand-made features, and VICReg's variance and covariance.

    Guessed are the descriptors that features are judged by, finer ones, and what lies around the patch, each as far as
    the settings give it a weight.

    References:
        Chen et al. 2020, arXiv:2002.05709 (NT-Xent); Bardes et al. 2022, arXiv:2105.04906 (VICReg).
    """

    needs_target = True

    def __init__(self, network: NetworkSettings, method: MethodSettings) -> None:
        super().__init__(network)
        hidden = hidden_units(network.hidden, self.n_features)
        self.head = SimCLRProjectionHead(self.n_features, hidden, network.projection, batch_norm=False)
        self.guess = Guess(self.n_features, len(NAMES), describe)
        self.fine_guess = Guess(self.n_features, len(FINE_NAMES), describe_finely) if method.fine_weight else None
        self.needs_surroundings = method.surroundings_weight > 0
        self.surroundings_guess = nn.Linear(self.n_features, N_SURROUNDINGS) if self.needs_surroundings else None
        self.loss = NTXentLoss(temperature=method.temperature, gather_distributed=True)
        self._settings = method

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Compute this rank's loss; what is described is `views.target`, or the first view where there is none."""
        first, second = self.encode_views(views.lesions[:2])
        loss: Tensor = self.loss(self.head(first), self.head(second))
        both, whole = torch.cat([first, second]), views.lesions[0] if views.target is None else views.target
        loss = loss + self._settings.descriptor_weight * self.guess(both, whole)
        if self.fine_guess is not None:
            loss = loss + self._settings.fine_weight * self.fine_guess(both, whole)
        if self.surroundings_guess is not None and views.surroundings is not None:
            guessed = self.surroundings_guess(both)
            loss = loss + self._settings.surroundings_weight * known_error(guessed, views.surroundings.repeat(2, 1))
        spread = (variance_and_covariance(gathered(first)) + variance_and_covariance(gathered(second))) / 2
        loss = loss + self._settings.spread_weight * spread
        loss = loss + self._settings.agreement_weight * disagreement(gathered(first), gathered(second))
        return StepOutput(loss, (first.detach(), second.detach()))


class Guess(nn.Module):
    """A linear guess of standardised hand-made features of the patches, from features of two views of each.

    Args:
        n_features: Of the encoder.
        n_described: Hand-made features.
        describe: (n, 1, 50, 50, 50) HU -> (n, n_described).
    """

    def __init__(self, n_features: int, n_described: int, describe: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, n_described)
        self.standardise = nn.BatchNorm1d(n_described, affine=False, momentum=0.05)
        self._describe = describe

    def forward(self, features: Tensor, patches: Tensor) -> Tensor:
        """Mean error of the guess.

        Args:
            features: (2n, n_features), first all first views.
            patches: (n, 1, 50, 50, 50) scaled.
        """
        with torch.no_grad():
            described = self.standardise(self._describe(patches * HU_RANGE + AIR_HU)).clamp(-FARTHEST, FARTHEST)
        return functional.smooth_l1_loss(self.linear(features), described.repeat(2, 1))


def known_error(guessed: Tensor, described: Tensor) -> Tensor:
    """Mean error of a guess where what is guessed is known; 0 where nothing is.

    Args:
        guessed: (n, d).
        described: (n, d) standardised, NaN where not known.
    """
    known = described.isfinite()
    errors = functional.smooth_l1_loss(guessed, described.nan_to_num().clamp(-FARTHEST, FARTHEST), reduction="none")
    return (errors * known).sum() / known.sum().clamp(min=1)


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
