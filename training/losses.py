"""Contrastive losses. The modified NT-Xent is ours; NT-Xent and SwAV come from lightly.

All gather across ranks where torch.distributed is initialised, and gradients flow to every rank's embeddings: with
gradients averaged over ranks, as DDP does, a step equals one process's step with the whole batch.
"""

import torch
from lightly.loss import NTXentLoss, SwaVLoss
from lightly.utils import dist
from torch import Tensor, nn
from torch.nn import functional

from fmcib_module.core.errors import ConfigError

__all__ = ["ModifiedNTXent", "NTXentLoss", "SwaVLoss", "gathered"]


class ModifiedNTXent(nn.Module):
    """NT-Xent whose only negatives are random patches of the scans (Pai et al. 2024, Methods).

    Each of the 2n views of the lesions is an anchor. Its positive is the other view of the same lesion; its negatives
    are both views of every random patch, on all ranks, except the two cut from the anchor's own scan. Other lesions are
    never negatives. With unit vectors, similarity s and temperature T::

        loss = mean over anchors of -log( e^(s+/T) / (e^(s+/T) + sum of e^(s-/T)) )

    Args:
        temperature: T.

    References:
        Pai et al. 2024, doi:10.1038/s42256-024-00807-9; Chen et al. 2020, arXiv:2002.05709 (NT-Xent).
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f"temperature is {temperature}", "ModifiedNTXent", "use a positive number, e.g. 0.1")
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
        view_a, view_b = (functional.normalize(view, dim=1) for view in positive)
        anchors = torch.cat([view_a, view_b])  # (2n, d)
        randoms = torch.cat([gathered(functional.normalize(view, dim=1)) for view in negative])  # (2N, d), N over ranks
        to_positive = (view_a * view_b).sum(dim=1).repeat(2) / self.temperature  # (2n,)
        to_randoms = anchors @ randoms.T / self.temperature  # (2n, 2N)
        own_scan = dist.eye_rank(n, device=anchors.device).repeat(2, 2)
        to_randoms = to_randoms.masked_fill(own_scan, -torch.inf)
        # -log(e^p / (e^p + sum e^q)) = log(1 + e^(logsumexp(q) - p)), which keeps the digits of small losses
        return functional.softplus(torch.logsumexp(to_randoms, dim=1) - to_positive).mean()


def gathered(rows: Tensor) -> Tensor:
    """Rows of all ranks, (n * world size, d), in rank order and differentiable; on one rank, the rows themselves."""
    return torch.cat(dist.gather(rows)) if dist.world_size() > 1 else rows
