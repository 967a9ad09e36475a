"""The 3D ResNet50 of the paper, one definition for inference and training, and its strict loader.

Parameter names, shapes, initialisation and arithmetic are those of MONAI's
``resnet50(spatial_dims=3, n_input_channels=1, widen_factor=W, conv1_t_stride=2, feed_forward=False,
bias_downsample=True)``, so checkpoints fit both. It stands here because ``import monai`` takes 2.7 s more than torch
alone (measured on two cores), which every start would pay.

References:
    He et al. 2016, doi:10.1109/CVPR.2016.90; Hara et al. 2018, arXiv:1711.09577;
    Pai et al. 2024, doi:10.1038/s42256-024-00807-9; MONAI ``monai/networks/nets/resnet.py`` (Apache-2.0).
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from fmcib_module.core.resnet_layout import EXPANSION, STAGE_BLOCKS, STAGE_PLANES, STEM_KERNEL, check_shapes

PUBLISHED_WIDEN_FACTOR: Final = 2.0
"""Width of the published network: 4,096 features."""


class Bottleneck(nn.Module):
    """1x1x1, 3x3x3 (strided), 1x1x1 convolutions around a shortcut.

    Args:
        in_channels: Channels of the input.
        planes: Inner channels; the output has `EXPANSION` times as many.
        stride: Of the 3x3x3 convolution, on every axis.
        downsample: Brings the shortcut to the output's shape; None where it has that shape already.
    """

    def __init__(self, in_channels: int, planes: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, planes, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = nn.Conv3d(planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(planes)
        self.conv3 = nn.Conv3d(planes, planes * EXPANSION, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm3d(planes * EXPANSION)
        self.act = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, D, H, W) -> (n, planes * EXPANSION, D', H', W')."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.act(self.bn1(self.conv1(x)))
        out = self.act(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += shortcut
        activated: Tensor = self.act(out)
        return activated


class ResNet3D(nn.Module):
    """A 50-layer 3D ResNet without a classifier.

    Args:
        widen_factor: Multiplies the channels of every layer; 2 is the published network.
        stem_stride: Of the first convolution; Med3D in the paper's comparison has 1.
        shortcut_bias: Whether the convolutions of the shortcuts have a bias; Med3D's have not.

    Attributes:
        n_features: 2048 * widen_factor.
    """

    def __init__(
        self, widen_factor: float = PUBLISHED_WIDEN_FACTOR, *, stem_stride: int = 2, shortcut_bias: bool = True
    ) -> None:
        super().__init__()
        planes = [int(width * widen_factor) for width in STAGE_PLANES]
        self.conv1 = nn.Conv3d(
            1, planes[0], kernel_size=STEM_KERNEL, stride=stem_stride, padding=STEM_KERNEL // 2, bias=False
        )
        self.bn1 = nn.BatchNorm3d(planes[0])
        self.act = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _stage(planes[0], planes[0], STAGE_BLOCKS[0], stride=1, bias=shortcut_bias)
        self.layer2 = _stage(planes[0] * EXPANSION, planes[1], STAGE_BLOCKS[1], stride=2, bias=shortcut_bias)
        self.layer3 = _stage(planes[1] * EXPANSION, planes[2], STAGE_BLOCKS[2], stride=2, bias=shortcut_bias)
        self.layer4 = _stage(planes[2] * EXPANSION, planes[3], STAGE_BLOCKS[3], stride=2, bias=shortcut_bias)
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.n_features = planes[3] * EXPANSION

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, D, H, W) scaled patches -> (n, n_features)."""
        x = self.maxpool(self.act(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return torch.flatten(self.avgpool(x), start_dim=1)


def _stage(in_channels: int, planes: int, n_blocks: int, stride: int, *, bias: bool) -> nn.Sequential:
    """Bottlenecks in a row; the first changes resolution and channels, so its shortcut is a convolution."""
    out_channels = planes * EXPANSION
    downsample = nn.Sequential(
        nn.Conv3d(in_channels, out_channels, kernel_size=1, stride=stride, bias=bias),
        nn.BatchNorm3d(out_channels),
    )
    first = Bottleneck(in_channels, planes, stride, downsample)
    return nn.Sequential(first, *(Bottleneck(out_channels, planes) for _ in range(1, n_blocks)))


def resnet50(
    widen_factor: float = PUBLISHED_WIDEN_FACTOR, *, stem_stride: int = 2, shortcut_bias: bool = True
) -> ResNet3D:
    """A network with random weights (He et al. 2015, fan-out, from torch's global generator), in training mode."""
    network = ResNet3D(widen_factor, stem_stride=stem_stride, shortcut_bias=shortcut_bias)
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def resnet_from_tensors(
    tensors: Mapping[str, Tensor], where: str, *, stem_stride: int = 2, shortcut_bias: bool = True
) -> ResNet3D:
    """Build the network that these tensors fit, and load them strictly.

    Args:
        tensors: State dict; floating-point tensors of any width become float32.
        where: Name of the weights, for messages.
        stem_stride: As in `ResNet3D`; tensors do not tell it.
        shortcut_bias: As in `ResNet3D`.

    Returns:
        The network in evaluation mode, on the tensors' device.

    Raises:
        WeightsError: A tensor is missing, unexpected or has another shape.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    width = check_shapes(shapes, where, shortcut_bias=shortcut_bias)
    with torch.device("meta"):  # no memory and no initialisation for weights that are replaced at once
        network = ResNet3D(width, stem_stride=stem_stride, shortcut_bias=shortcut_bias)
    float32 = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    network.load_state_dict(float32, strict=True, assign=True)
    return network.eval()
