"""Auto-encoder (MONAI's): the features are what a patch can be rebuilt from."""

from typing import Final

from torch import Tensor
from torch.nn import functional

from training.batches import Views
from training.methods.base import Method, Progress, StepOutput
from training.settings import MethodSettings, NetworkSettings

CHANNELS: Final = (71, 142, 284, 568, 1136)
"""Of five layers at width 1, each halving the resolution: at width 2, 185.1 M parameters; the ResNet50 has 184.5 M."""


class AutoEncoderMethod(Method):
    """Strided convolutions down, transposed ones up, mean absolute error as published.

    Its encoder is another network than the ResNet50, so it stays outside the chain: use `encode`.
    """

    exportable = False

    def __init__(self, network: NetworkSettings, method: MethodSettings) -> None:
        from monai.networks.nets.autoencoder import AutoEncoder  # monai takes seconds, and no other method needs it

        super().__init__()
        channels = method.channels or tuple(int(n * network.widen_factor) for n in CHANNELS)
        self.network = AutoEncoder(
            spatial_dims=3, in_channels=1, out_channels=1, channels=channels, strides=(2,) * len(channels)
        )

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Compute this rank's loss of rebuilding `views.target` (or the view itself) from one view of the lesions."""
        view = views.lesions[0]
        encoded = self.network.intermediate(self.network.encode(view))
        rebuilt = self.network.decode(encoded)
        start = [(ours - theirs) // 2 for ours, theirs in zip(rebuilt.shape[2:], view.shape[2:], strict=True)]
        for axis, (first, length) in enumerate(zip(start, view.shape[2:], strict=True), start=2):
            rebuilt = rebuilt.narrow(axis, first, length)  # 64 voxels come out where 50 went in
        loss = functional.l1_loss(rebuilt, view if views.target is None else views.target)
        return StepOutput(loss, (_pooled(encoded).detach(),))

    def encode(self, patches: Tensor) -> Tensor:
        """(n, 1, 50, 50, 50) float32 scaled -> (n, channels of the last layer) float32."""
        return _pooled(self.network.intermediate(self.network.encode(patches)))


def _pooled(maps: Tensor) -> Tensor:
    return maps.flatten(2).mean(dim=2)
