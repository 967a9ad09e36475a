"""Batch norm with one set of statistics over all ranks, on a CPU too (torch's own SyncBatchNorm is CUDA only)."""

import torch
from lightly.utils import dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from training.losses import gathered


class SyncedBatchNorm(_BatchNorm):
    """Batch norm over the samples of all ranks, which must have equally many; differentiable across them."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, ...) -> the same shape."""
        if not self.training or dist.world_size() == 1:
            normalised: Tensor = super().forward(x)
            return normalised
        axes = [0, *range(2, x.ndim)]
        mean = _mean_over_ranks(x.mean(dim=axes))
        per_channel = (1, -1, *[1] * (x.ndim - 2))
        centred = x - mean.view(per_channel)
        variance = _mean_over_ranks(centred.square().mean(dim=axes))
        self._track(mean.detach(), variance.detach(), x.numel() // x.shape[1] * dist.world_size())
        output = centred * torch.rsqrt(variance + self.eps).view(per_channel)
        return output * self.weight.view(per_channel) + self.bias.view(per_channel) if self.affine else output

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes will do."""

    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * count / (count - 1), momentum)


def with_synced_norms(module: nn.Module) -> nn.Module:
    """Replace every batch norm by a synced one, which takes over its parameters, statistics and name."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            synced = SyncedBatchNorm(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            synced.load_state_dict(child.state_dict())
            module.add_module(name, synced.to(child.running_mean))
        else:
            with_synced_norms(child)
    return module


def _mean_over_ranks(values: Tensor) -> Tensor:
    return gathered(values[None]).mean(dim=0)
