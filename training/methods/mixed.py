"""Mixed SimCLR: other lesions are negatives, features say what hand-made ones say, and do not repeat each other."""

from collections.abc import Callable, Iterator
from typing import Final

import torch
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor, nn
from torch.nn import functional

from fmcib_module.core.conventions import AIR_HU, HU_RANGE
from fmcib_module.core.errors import ConfigError
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
        both, weights = torch.cat([first, second]), self._settings
        loss: Tensor = self.loss(self.head(first), self.head(second))
        targets: list[Tensor] = []
        for guess, target, weight in self._guesses(views):
            targets.append(target.repeat(2, 1))
            loss = loss + weight * known_error(guess(both), targets[-1])
        free = 0
        if weights.aligned_weight:
            error, free = aligned_error(both, torch.cat(targets, dim=1))
            loss = loss + weights.aligned_weight * error
        if free < self.n_features:
            spreads = [variance_and_covariance(gathered(rows[:, free:])) for rows in (first, second)]
            loss = loss + weights.spread_weight * (spreads[0] + spreads[1]) / 2
        loss = loss + weights.agreement_weight * disagreement(gathered(first), gathered(second))
        return StepOutput(loss, (first.detach(), second.detach()))

    def _guesses(self, views: Views) -> Iterator[tuple[nn.Module, Tensor, float]]:
        """What is guessed: the guess, what it should say of each lesion, and its weight."""
        whole = views.lesions[0] if views.target is None else views.target
        yield self.guess.linear, self.guess.describe(whole), self._settings.descriptor_weight
        if self.fine_guess is not None:
            yield self.fine_guess.linear, self.fine_guess.describe(whole), self._settings.fine_weight
        if self.surroundings_guess is not None and views.surroundings is not None:
            yield self.surroundings_guess, views.surroundings, self._settings.surroundings_weight


class Guess(nn.Module):
    """A linear guess of standardised hand-made features of the patches.

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

    @torch.no_grad()
    def describe(self, patches: Tensor) -> Tensor:
        """(n, 1, 50, 50, 50) scaled -> (n, n_described) standardised over the batch."""
        standard: Tensor = self.standardise(self._describe(patches * HU_RANGE + AIR_HU))
        return standard


def aligned_error(features: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    """How far single standardised features are from what they should say; each target has as many as there is room for.

    A linear guess may hide in directions of little variance, which a penalised probe does not see; this one cannot.

    Args:
        features: (n, d), over a batch.
        targets: (n, k) standardised, NaN where not known.

    Returns:
        Mean error, and how many of the features, from the first on, are aligned.

    Raises:
        ConfigError: There are more targets than features.
    """
    copies = features.shape[1] // targets.shape[1]
    if copies == 0:
        found = f"{features.shape[1]} features cannot each say one of {targets.shape[1]} things"
        raise ConfigError(found, "method: aligned_weight", "use a wider network, or 0")
    wanted = targets.repeat(1, copies)
    standard = functional.batch_norm(features[:, : wanted.shape[1]], None, None, training=True)
    return known_error(standard, wanted), wanted.shape[1]


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
