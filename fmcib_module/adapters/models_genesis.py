"""The encoder of Models Genesis's 3D U-Net, and its strict loader.

Four levels of two convolutions each, 64, 128, 256 and 512 channels, pooled between them. A cube of 48 ends as 512 maps
of 6 x 6 x 6; the paper's comparison averages these over windows of 3 at stride 2, which leaves 2 x 2 x 2, and flattens:
512 x 8 = 4,096 features.

The published network normalises by the statistics of the batch at hand even in evaluation, so that a lesion's features
depend on the lesions beside it. Here evaluation uses the running statistics, which the published training kept.

References:
    Zhou et al. 2021, doi:10.1016/j.media.2020.101840; Pai et al. 2024, doi:10.1038/s42256-024-00807-9.
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from fmcib_module.adapters.strict_loading import fill_network
from fmcib_module.core.errors import WeightsError

LEVELS: Final = ("down_tr64", "down_tr128", "down_tr256", "down_tr512")
FIRST_CHANNELS: Final = 32
DECODER: Final = ("up_tr256.", "up_tr128.", "up_tr64.", "out_tr.")
"""How the tensors of the U-Net's other half begin; they are no part of the encoder."""


class _Conv(nn.Module):
    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(into, out, kernel_size=3, padding=1)
        self.bn1 = nn.BatchNorm3d(out)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn1(self.conv1(x)))


class _Level(nn.Module):
    def __init__(self, into: int, inner: int) -> None:
        super().__init__()
        self.ops = nn.Sequential(_Conv(into, inner), _Conv(inner, 2 * inner))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.ops(x)
        return out


class ModelsGenesisEncoder(nn.Module):
    """The encoder and the pooling of the paper's comparison.

    Args:
        first_channels: Of the first convolution; 32 is the published network.

    Attributes:
        n_features: For cubes of 48: 4,096.
    """

    def __init__(self, first_channels: int = FIRST_CHANNELS) -> None:
        super().__init__()
        into, inner = 1, first_channels
        for name in LEVELS:
            self.add_module(name, _Level(into, inner))
            into, inner = 2 * inner, 2 * inner
        self.n_features = 8 * into

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, 48, 48, 48) -> (n, n_features)."""
        for name in LEVELS:
            x = getattr(self, name)(x)
            if name != LEVELS[-1]:
                x = functional.max_pool3d(x, 2)
        return torch.flatten(functional.avg_pool3d(x, kernel_size=3, stride=2), start_dim=1)


def models_genesis_from_tensors(tensors: Mapping[str, Tensor], where: str) -> ModelsGenesisEncoder:
    """Load the encoder strictly.

    Args:
        tensors: State dict of the encoder or of the whole U-Net, whose decoder is left out.
        where: Name of the weights, for messages.

    Returns:
        The network in evaluation mode.

    Raises:
        WeightsError: A tensor is missing, unexpected or has another shape.
    """
    encoder = {name: tensor for name, tensor in tensors.items() if not name.startswith(DECODER)}
    first = encoder.get("down_tr64.ops.0.conv1.weight")
    fix = "give Genesis_Chest_CT.pt or another checkpoint of this U-Net"
    if first is None or first.ndim != 5:
        raise WeightsError("tensor down_tr64.ops.0.conv1.weight is absent or not 5-D", where, fix)
    with torch.device("meta"):
        network = ModelsGenesisEncoder(len(first))
    fill_network(network, encoder, name="encoder of Models Genesis", where=where, fix=fix)
    return network
