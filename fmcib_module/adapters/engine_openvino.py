"""The network on OpenVINO, built straight from the tensors: the fastest CPU engine, and it starts without torch.

Batch norm folds into the convolutions exactly (in float64). Building takes about a second for the published network,
less than loading OpenVINO's own model cache (measured), so nothing is cached beside the safetensors file.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset15 as ops

from fmcib_module.adapters.engine import usable_cpus
from fmcib_module.core.conventions import PATCH_SIZE
from fmcib_module.core.resnet_layout import Block, ConvLayer, Shape, blocks, check_shapes, stem

BATCH_NORM_EPSILON: Final = 1e-5
"""torch's default, which the published network was trained with."""

HINTS: Final = {"float32": "f32", "bf16": "bf16"}

BATCH: Final = 8
"""Larger batches gain nothing on a CPU."""


class OpenVinoForward:
    """A compiled network; features are equal bits for every batch size (measured from 1 to 16)."""

    batch_size = BATCH
    min_rows: int | None = 1

    def __init__(
        self, tensors: Mapping[str, NDArray[Any]], shapes: Mapping[str, Shape], where: str, *, precision: str
    ) -> None:
        """Build and compile.

        Args:
            tensors: State dict, by torch's names.
            shapes: Their shapes.
            where: Name of the weights, for messages.
            precision: float32 or bf16.

        Raises:
            WeightsError: A tensor is missing, unexpected or has another shape.
        """
        self._threads = usable_cpus()
        self._precision = precision
        model = build_model(tensors, check_shapes(shapes, where))
        options = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self._threads,
            "ENABLE_CPU_PINNING": False,  # beside other jobs, pinned threads wait for cores that are not free
        }
        self._request = ov.Core().compile_model(model, "CPU", options).create_infer_request()

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 1, 50, 50, 50) -> (n, n_features)."""
        return np.array(self._request.infer({0: patches})[0], dtype=np.float32)

    def describe(self) -> dict[str, Any]:
        """Engine, version, device and threads, for the ledger."""
        return {"device": "cpu", "engine": "openvino", "openvino": ov.__version__, "threads": self._threads}


def build_model(tensors: Mapping[str, NDArray[Any]], widen_factor: float) -> ov.Model:
    """The network as an OpenVINO graph, (n, 1, 50, 50, 50) -> (n, 2048 * widen_factor), any n."""
    patches = ops.parameter([-1, 1, PATCH_SIZE, PATCH_SIZE, PATCH_SIZE], np.float32)
    x = ops.relu(_convolve(patches, tensors, stem(widen_factor)))
    x = ops.max_pool(x, [2] * 3, [1] * 3, [1] * 3, [1] * 3, [3] * 3).output(0)
    for block in blocks(widen_factor):
        x = _bottleneck(x, tensors, block)
    features = ops.reduce_mean(x, np.array([2, 3, 4]), keep_dims=False)
    return ov.Model([features], [patches], "resnet50_3d")


def _bottleneck(x: Any, tensors: Mapping[str, NDArray[Any]], block: Block) -> Any:
    reduce, spatial, expand = block.convs
    out = ops.relu(_convolve(x, tensors, reduce))
    out = ops.relu(_convolve(out, tensors, spatial))
    out = _convolve(out, tensors, expand)
    shortcut = x if block.shortcut is None else _convolve(x, tensors, block.shortcut)
    return ops.relu(ops.add(out, shortcut))


def _convolve(x: Any, tensors: Mapping[str, NDArray[Any]], layer: ConvLayer) -> Any:
    weight, bias = folded(tensors, layer)
    pad = [layer.kernel // 2] * 3
    out = ops.convolution(x, ops.constant(weight), [layer.stride] * 3, pad, pad, [1] * 3)
    return ops.add(out, ops.constant(bias.reshape(1, -1, 1, 1, 1)))


def folded(tensors: Mapping[str, NDArray[Any]], layer: ConvLayer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Convolution and batch norm as one convolution: w g / sqrt(v + eps), and (b - m) g / sqrt(v + eps) + beta.

    Returns:
        Weight (out, in, k, k, k) and bias (out,), computed in float64, rounded once.
    """
    gain, beta, mean, variance = (
        tensors[f"{layer.norm}.{name}"].astype(np.float64) for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / np.sqrt(variance + BATCH_NORM_EPSILON)
    own_bias = tensors[f"{layer.conv}.bias"].astype(np.float64) if layer.bias else 0.0
    weight = tensors[f"{layer.conv}.weight"]
    # float32 x float64 scale in one pass; numpy rounds each product once
    scaled = np.multiply(
        weight, scale.reshape(-1, 1, 1, 1, 1), out=np.empty(weight.shape, np.float32), casting="same_kind"
    )
    return scaled, ((own_bias - mean) * scale + beta).astype(np.float32)
