"""Contrastive losses. The modified NT-Xent is ours; NT-Xent and SwAV come from lightly.

All gather across ranks where torch.distributed is initialised, and gradients flow to every rank's embeddings: with
gradients averaged over ranks, as DDP does, a step equals one process's step with the whole batch.
"""

from typing import Final

import torch
from lightly.loss import NTXentLoss, SwaVLoss
from lightly.utils import dist
from torch import Tensor, nn
from torch.nn import functional

from fmcib_module.core.errors import ConfigError

__all__ = ["ModifiedNTXent", "NTXentLoss", "SwaVLoss", "gathered"]

MIN_TEMPERATURE: Final = 0.02
"""Below it e^(1/T) nears the largest float32."""


class ModifiedNTXent(nn.Module):
    """NT-Xent whose only negatives are random patches of the scans (Pai et al. 2024, Methods).

    Each of the 2n views of the lesions is an anchor. Its positive is the other view of the same lesion; its negatives
    are both views of every random patch, on all ranks, except the two cut from the anchor's own scan. Other lesions are
    never negatives. With unit vectors, similarity s and temperature T::

        loss = mean over anchors of -log( e^(s+/T) / (e^(s+/T) + sum of e^(s-/T)) )

    Exponentials, sums and logarithm are taken in the published order, so that float32 values equal the published ones
    (for losses below 0.001 those are off by 3e-6 of their value, as float64 shows).

    Args:
        temperature: T, `MIN_TEMPERATURE` or more.

    References:
        Pai et al. 2024, doi:10.1038/s42256-024-00807-9; Chen et al. 2020, arXiv:2002.05709 (NT-Xent).
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if temperature < MIN_TEMPERATURE:
            raise ConfigError(
                f"temperature is {temperature}", "ModifiedNTXent", f"use {MIN_TEMPERATURE} or more, e.g. 0.1"
            )
        self.temperature = temperature

    def forward(self, positive: tuple[Tensor, Tensor], negative: tuple[Tensor, Tensor]) -> Tensor:
        """Compute this rank's loss.

        Args:
            positive: Two views of the lesions, each (n, d); not normalised.
            negative: Two views of the random patches, each (n, d); row i is from the scan of lesion i.

        Returns:
            Scalar, the mean over this rank's 2n anchors.

        Raises:
            ValueError: The four shapes differ, or there is no negative at all (n = 1 on one rank).
        """
        n = positive[0].shape[0]
        if len({view.shape for view in (*positive, *negative)}) > 1 or n * dist.world_size() < 2:
            msg = f"needs four (n, d) views, n >= 2 over all ranks, got {[(*v.shape,) for v in (*positive, *negative)]}"
            raise ValueError(msg)
        anchors = functional.normalize(torch.cat(positive), dim=1)  # (2n, d)
        randoms = gathered(functional.normalize(torch.cat(negative), dim=1))  # (2N, d), N lesions over all ranks
        exponentials = torch.exp(anchors @ torch.cat([anchors, randoms]).T / self.temperature)
        views = torch.arange(2 * n, device=anchors.device)
        to_positive = exponentials[views, (views + n) % (2 * n)]  # (2n,)
        own_scan = self._own_scan(n, anchors.device)
        to_randoms = exponentials[:, 2 * n :].masked_fill(own_scan, 0.0).sum(dim=1)
        return -torch.log(to_positive / (to_positive + to_randoms)).mean()

    @staticmethod
    def _own_scan(n: int, device: torch.device) -> Tensor:
        """(2n, 2N) bool: which random patches, in gathered order, were cut from the scan of each anchor."""
        first = 2 * n * dist.rank()  # a rank's rows lie together: n first views, then n second views
        mask = torch.zeros(2 * n, 2 * n * dist.world_size(), dtype=torch.bool, device=device)
        mask[:, first : first + 2 * n] = torch.eye(n, dtype=torch.bool, device=device).repeat(2, 2)
        return mask


def gathered(rows: Tensor) -> Tensor:
    """Rows of all ranks, (n * world size, d), in rank order and differentiable; on one rank, the rows themselves."""
    return torch.cat(dist.gather(rows)) if dist.world_size() > 1 else rows
