"""The 3D ResNet50 as a table: which tensors it has, their shapes, and whether a file's tensors fit.

The networks in `adapters/resnet.py` (torch) and `adapters/engine_openvino.py` are built after this table, so that one
check serves both, without torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from fmcib_module.core.errors import WeightsError

STAGE_PLANES: Final = (64, 128, 256, 512)
"""Inner channels of the four stages at width 1."""

STAGE_BLOCKS: Final = (3, 4, 6, 3)
"""Bottleneck blocks per stage: the 50-layer network."""

EXPANSION: Final = 4
"""Output channels of a bottleneck per inner channel."""

STEM_KERNEL: Final = 7

FEATURES_PER_STEM_CHANNEL: Final = STAGE_PLANES[-1] * EXPANSION // STAGE_PLANES[0]
"""n_features is 2048 * W and the first convolution has 64 * W channels."""

NAMES_SHOWN: Final = 3
"""How many tensor names an error lists before it only counts."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ConvLayer:
    """A convolution and the batch norm behind it.

    Attributes:
        conv: Name of the convolution.
        norm: Name of the batch norm.
        channels: (in, out).
        kernel: Edge of the cubic kernel; padding is kernel // 2.
        stride: On every axis.
        bias: Whether the convolution has a bias of its own.
    """

    conv: str
    norm: str
    channels: tuple[int, int]
    kernel: int
    stride: int = 1
    bias: bool = False

    def shapes(self) -> dict[str, Shape]:
        """Tensor name -> shape, in the order of a torch state dict."""
        into, out = self.channels
        found: dict[str, Shape] = {f"{self.conv}.weight": (out, into, *(self.kernel,) * 3)}
        if self.bias:
            found[f"{self.conv}.bias"] = (out,)
        for name in ("weight", "bias", "running_mean", "running_var"):
            found[f"{self.norm}.{name}"] = (out,)
        found[f"{self.norm}.num_batches_tracked"] = ()
        return found


@dataclass(frozen=True, slots=True)
class Block:
    """A bottleneck: three convolutions around a shortcut, which is a convolution where the shape changes."""

    convs: tuple[ConvLayer, ConvLayer, ConvLayer]
    shortcut: ConvLayer | None

    def layers(self) -> Iterator[ConvLayer]:
        """Every convolution of the block."""
        yield from self.convs
        if self.shortcut is not None:
            yield self.shortcut


def stem(widen_factor: float) -> ConvLayer:
    """The first convolution."""
    return ConvLayer("conv1", "bn1", (1, int(STAGE_PLANES[0] * widen_factor)), STEM_KERNEL, stride=2)


def blocks(widen_factor: float, *, shortcut_bias: bool = True) -> Iterator[Block]:
    """Every bottleneck, from input to output.

    Args:
        widen_factor: Width of the network.
        shortcut_bias: Whether the convolutions of the shortcuts have a bias: the paper's network has, Med3D has not.
    """
    into = int(STAGE_PLANES[0] * widen_factor)
    for stage, (width, count) in enumerate(zip(STAGE_PLANES, STAGE_BLOCKS, strict=True), start=1):
        planes = int(width * widen_factor)
        for number in range(count):
            name = f"layer{stage}.{number}"
            stride = 2 if stage > 1 and number == 0 else 1
            yield Block(
                convs=(
                    ConvLayer(f"{name}.conv1", f"{name}.bn1", (into, planes), 1),
                    ConvLayer(f"{name}.conv2", f"{name}.bn2", (planes, planes), 3, stride),
                    ConvLayer(f"{name}.conv3", f"{name}.bn3", (planes, planes * EXPANSION), 1),
                ),
                shortcut=ConvLayer(
                    f"{name}.downsample.0", f"{name}.downsample.1", (into, planes * EXPANSION), 1, stride, shortcut_bias
                )
                if number == 0
                else None,
            )
            into = planes * EXPANSION


def tensor_shapes(widen_factor: float, *, shortcut_bias: bool = True) -> dict[str, Shape]:
    """All 322 tensors of the network (318 without biases), in the order of a torch state dict."""
    shapes = stem(widen_factor).shapes()
    for block in blocks(widen_factor, shortcut_bias=shortcut_bias):
        for layer in block.layers():
            shapes |= layer.shapes()
    return shapes


def check_shapes(found: Mapping[str, Shape], where: str, *, shortcut_bias: bool = True) -> float:
    """Whether these tensors are the network's, no fewer and no more.

    Args:
        found: Tensor name -> shape.
        where: Name of the weights, for messages.
        shortcut_bias: As in `blocks`.

    Returns:
        The widen factor, read from the first convolution.

    Raises:
        WeightsError: A tensor is missing, unexpected or has another shape.
    """
    width = _widen_factor(found, where)
    fix = "give a checkpoint of this network's trunk (see `fmcib weights list`)"
    compare_shapes(found, tensor_shapes(width, shortcut_bias=shortcut_bias), "3D ResNet50", where, fix)
    return width


def compare_shapes(
    found: Mapping[str, Shape], expected: Mapping[str, Shape], network: str, where: str, fix: str
) -> None:
    """Whether tensors are exactly those that a network expects.

    Raises:
        WeightsError: A tensor is missing, unexpected or has another shape.
    """
    problems = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": [
            f"{name} {tuple(found[name])} instead of {shape}"
            for name, shape in expected.items()
            if name in found and tuple(found[name]) != shape
        ],
    }
    lines = [f"{len(names)} {kind} ({_shortened(names)})" for kind, names in problems.items() if names]
    if lines:
        raise WeightsError(f"the tensors do not fit the {network}: {'; '.join(lines)}", where, fix)


def _widen_factor(found: Mapping[str, Shape], where: str) -> float:
    """Read the width from the first convolution, (64 * widen_factor, 1, 7, 7, 7)."""
    shape = found.get("conv1.weight")
    if shape is None or len(shape) != 5 or shape[0] == 0:
        what = "absent" if shape is None else f"of shape {tuple(shape)}"
        raise WeightsError(
            f"tensor conv1.weight is {what}, expected (64 * widen_factor, 1, 7, 7, 7)",
            where,
            "give weights of this 3D ResNet50 (see `fmcib weights list`)",
        )
    return shape[0] / STAGE_PLANES[0]


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
