"""How the encoder runs in training: arithmetic, memory layout, recomputed activations. What it computes stays the same.

On the CPUs that we tried, bf16 weight gradients of 3D convolutions on 2 x 2 x 2 maps came out corrupt (oneDNN), so on
a CPU every stage whose maps are that small or smaller runs in float32: the last stage for patches of 50, the last two
for SwAV's crops of 25.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from fmcib_module.adapters.resnet import ResNet3D
from training.settings import NetworkSettings, Precision

SMALL_MAP: Final = 2
"""Edge up to which maps stay float32 on a CPU."""


class EncoderPass(nn.Module):
    """The encoder, run as the settings say.

    Attributes:
        encoder: The network that is trained and exported.
        n_features: Of the encoder.
    """

    def __init__(self, encoder: ResNet3D, settings: NetworkSettings) -> None:
        super().__init__()
        self.encoder = encoder
        self.n_features = encoder.n_features
        self._bf16 = settings.precision is Precision.BF16
        self._layout = torch.channels_last_3d if settings.channels_last else torch.contiguous_format
        self._recompute = settings.checkpointing
        if settings.channels_last:
            encoder.to(memory_format=torch.channels_last_3d)
        if settings.compile:
            self.compile()

    def forward(self, patches: Tensor) -> Tensor:
        """(n, 1, S, S, S) float32 scaled -> (n, n_features) float32."""
        encoder = self.encoder
        x = patches.contiguous(memory_format=self._layout)
        with self._arithmetic(x):
            x = encoder.maxpool(encoder.act(encoder.bn1(encoder.conv1(x))))
        for stage in (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4):
            stride = 1 if stage is encoder.layer1 else 2
            with self._arithmetic(x, stride) as bf16:
                x = self._run(stage, x if bf16 else _widened(x))
        return torch.flatten(encoder.avgpool(_widened(x)), start_dim=1)

    @contextmanager
    def _arithmetic(self, x: Tensor, stride: int = 2) -> Iterator[bool]:
        """Autocast for what comes next, given its input and stride; yields whether it is bf16."""
        small = x.device.type == "cpu" and -(-x.shape[-1] // stride) <= SMALL_MAP
        bf16 = self._bf16 and not small
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=bf16):
            yield bf16

    def _run(self, stage: nn.Module, x: Tensor) -> Tensor:
        if not (self._recompute and self.training):
            output: Tensor = stage(x)
            return output
        recomputed: Tensor = checkpoint(stage, x, use_reentrant=False, context_fn=_contexts(stage))
        return recomputed


def _widened(x: Tensor) -> Tensor:
    return x.float() if x.dtype is torch.bfloat16 else x


def _contexts(stage: nn.Module) -> Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]:
    """Contexts of a stage's first run and of its second, which must not count batch statistics again."""
    return lambda: (nullcontext(), _statistics_kept(stage))


@contextmanager
def _statistics_kept(stage: nn.Module) -> Iterator[None]:
    """Batch norms normalise by the batch, and leave their running statistics as they are."""
    norms = [module for module in stage.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked -= 1
