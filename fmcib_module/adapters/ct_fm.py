"""CT-FM's encoder (MONAI's SegResEncoder), and its strict loader.

References:
    Pai et al. 2025, arXiv:2501.09001; MONAI `networks/nets/segresnet_ds.py` (Apache-2.0).
"""

from collections.abc import Mapping
from typing import Any, Final

import torch
from monai.networks.nets.segresnet_ds import SegResEncoder
from torch import Tensor, nn

from fmcib_module.adapters.strict_loading import fill_network
from fmcib_module.core.errors import WeightsError

BLOCKS: Final = (1, 2, 2, 4, 4)
"""Residual blocks of the five levels; channels double from level to level."""

FIRST_CHANNELS: Final = 32
ENCODER_PREFIX: Final = "encoder."
DECODER: Final = ("up_layers.",)
"""How the tensors of the whole SegResNet's other half begin."""


def ct_fm_encoder(first_channels: int = FIRST_CHANNELS) -> Any:
    """The network: (n, 1, S, S, S) -> (n, 16 x first_channels), the last level averaged over space.

    Args:
        first_channels: 32 is the published network: 512 features.
    """
    network: Any = SegResEncoder(init_filters=first_channels, blocks_down=BLOCKS, head_module=_LastLevelMean())
    network.n_features = first_channels << (len(BLOCKS) - 1)
    return network


def ct_fm_from_tensors(tensors: Mapping[str, Tensor], where: str) -> Any:
    """Load the encoder strictly.

    Args:
        tensors: State dict of the encoder (the feature extractor's file), or of the whole SegResNet, whose names begin
            with `encoder.` and whose decoder is left out.
        where: Name of the weights, for messages.

    Returns:
        The network in evaluation mode.

    Raises:
        WeightsError: A tensor is missing, unexpected or has another shape.
    """
    encoder = dict(tensors)
    if any(name.startswith(ENCODER_PREFIX) for name in tensors):
        kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(DECODER)}
        encoder = {name.removeprefix(ENCODER_PREFIX): tensor for name, tensor in kept.items()}
    first = encoder.get("conv_init.weight")
    fix = "give the file of CT-FM's feature extractor"
    if first is None or first.ndim != 5:
        raise WeightsError("tensor conv_init.weight is absent or not 5-D", where, fix)
    with torch.device("meta"):
        network = ct_fm_encoder(len(first))
    fill_network(network, encoder, name="encoder of CT-FM", where=where, fix=fix)
    return network


class _LastLevelMean(nn.Module):
    def forward(self, levels: list[Tensor]) -> Tensor:
        return levels[-1].mean(dim=(2, 3, 4))
