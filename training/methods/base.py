"""What every method offers to the trainer."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fmcib_module.adapters.resnet import resnet50
from training.batches import Views
from training.encoder_pass import EncoderPass
from training.settings import NetworkSettings


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
        epoch: From 0.
        step: Steps of the optimiser so far.
    """

    epoch: int
    step: int


class StepOutput(NamedTuple):
    """What a batch gives.

    Attributes:
        loss: Scalar.
        features: Encoder outputs of one or two views of the lesions, each (n, n_features), detached: for watching.
    """

    loss: Tensor
    features: tuple[Tensor, ...]


class Method(nn.Module):
    """An encoder, heads and a loss.

    Attributes:
        needs_negatives: The loss uses random patches of the scans.
        needs_target: The loss uses the patches before augmentation, and noise and pasted lesions in the views.
        needs_surroundings: The loss uses what lies around the patches.
        n_small_crops: Small crops (edge 25) per lesion that the loss uses beside two full views.
        exportable: The encoder is the ResNet50 that the chain runs.
    """

    needs_negatives = False
    needs_target = False
    needs_surroundings = False
    n_small_crops = 0
    exportable = True

    def forward(self, views: Views, progress: Progress) -> StepOutput:
        """Compute this rank's loss of a batch."""
        raise NotImplementedError

    def encode(self, patches: Tensor) -> Tensor:
        """(n, 1, 50, 50, 50) float32 scaled -> (n, n_features) float32."""
        raise NotImplementedError

    def before_step(self, progress: Progress) -> None:
        """Change gradients before the optimiser uses them; most methods leave them."""


class ResNetMethod(Method):
    """A method around the ResNet50.

    Attributes:
        encoder_pass: The encoder and how it runs.
    """

    def __init__(self, network: NetworkSettings) -> None:
        super().__init__()
        self.encoder_pass = EncoderPass(resnet50(network.widen_factor), network)
        self._joint = network.joint_passes

    @property
    def n_features(self) -> int:
        """Of the encoder."""
        return self.encoder_pass.n_features

    def encode(self, patches: Tensor) -> Tensor:
        """(n, 1, 50, 50, 50) float32 scaled -> (n, n_features) float32."""
        features: Tensor = self.encoder_pass(patches)
        return features

    def encode_views(self, views: tuple[Tensor, ...], *, joint: bool | None = None) -> tuple[Tensor, ...]:
        """Features of views of one size, each (n, n_features).

        Args:
            views: Each (n, 1, S, S, S).
            joint: One pass of all, or one per view (they differ in batch norm's statistics); None as in the settings.
        """
        if self._joint if joint is None else joint:
            return self.encode(torch.cat(views)).chunk(len(views))
        return tuple(self.encode(view) for view in views)


def hidden_units(settings_value: int, n_features: int) -> int:
    """Of a head: as the settings say, or half of the features, as published."""
    return settings_value or n_features // 2
