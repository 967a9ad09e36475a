"""The network on OpenVINO, built straight from the tensors: the fastest CPU engine, and it starts without torch.

Batch norm folds into the convolutions exactly (in float64). A large network is kept folded beside the weights, where
the next start maps it into memory instead of building it (1.5 s for the published one). OpenVINO's own cache of
compiled models gains nothing over that, so it is not used.

The last convolutions see 4 x 4 x 4 and 2 x 2 x 2 voxels. Their kernels work on such short rows one by one and read all
weights for each, up to three times slower than those before; so they get patches side by side in one long row
(`_convolve_side_by_side`).
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset15 as ops

from fmcib_module.adapters.engine import usable_cpus
from fmcib_module.adapters.weights import WeightsInfo, cache_dir
from fmcib_module.core.conventions import PATCH_SIZE
from fmcib_module.core.resnet_layout import Block, ConvLayer, Shape, blocks, check_shapes, stem

BATCH_NORM_EPSILON: Final = 1e-5
"""torch's default, which the published network was trained with."""

HINTS: Final = {"float32": "f32", "bf16": "bf16"}

BATCH: Final = 8
"""Larger batches gain nothing on a CPU."""

KEPT_FROM_FEATURES: Final = 2048
"""Networks with fewer features are built in a moment; keeping them would only fill the disk."""

SIDE_BY_SIDE: Final = {2: 4, 4: 2}
"""Voxels in a row -> patches that share one. A fixed number, filled up with zeros, because kernels sum in another order
for another length: a patch's features must not depend on how many came with it."""

GRAPH_VERSION: Final = 3
"""Part of a kept network's name; raise it when `build_model` changes."""


class OpenVinoForward:
    """A compiled network; features are equal bits for every batch size (measured from 1 to 16)."""

    batch_size = BATCH
    min_rows: int | None = 1

    def __init__(
        self, info: WeightsInfo, tensors: Mapping[str, NDArray[Any]], shapes: Mapping[str, Shape], *, precision: str
    ) -> None:
        """Build or map, and compile.

        Args:
            info: What the weights are.
            tensors: State dict, by torch's names.
            shapes: Their shapes.
            precision: float32 or bf16.

        Raises:
            WeightsError: A tensor is missing, unexpected or has another shape.
        """
        self._threads = usable_cpus()
        options = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self._threads,
            "ENABLE_CPU_PINNING": False,  # beside other jobs, pinned threads wait for cores that are not free
        }
        core = ov.Core()
        model = _kept_model(core, info, tensors, check_shapes(shapes, info.name))
        self._request = core.compile_model(model, "CPU", options).create_infer_request()

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 1, 50, 50, 50) -> (n, n_features)."""
        return np.array(self._request.infer({0: patches})[0], dtype=np.float32)

    def describe(self) -> dict[str, Any]:
        """Engine, version, device and threads, for the ledger."""
        return {"device": "cpu", "engine": "openvino", "openvino": ov.__version__, "threads": self._threads}


def kept_model_path(info: WeightsInfo) -> Path:
    """Where the folded network of these weights is kept, for this version of OpenVINO and of the graph."""
    version = ov.__version__.split("-")[0]
    return cache_dir() / "engines" / f"{info.sha256}-openvino-{version}-{GRAPH_VERSION}.xml"


def _kept_model(core: ov.Core, info: WeightsInfo, tensors: Mapping[str, NDArray[Any]], widen_factor: float) -> ov.Model:
    """The network from the cache if it is there whole, else built, and kept if it is large."""
    path = kept_model_path(info)
    weights = path.with_suffix(".bin")
    if path.is_file() and weights.is_file():
        with suppress(RuntimeError):  # damaged: built again below
            return core.read_model(path, weights)
    model = build_model(tensors, widen_factor)
    if info.n_features >= KEPT_FROM_FEATURES:
        try:
            _keep(model, path)
        except (OSError, RuntimeError):
            return model  # a cache that cannot be written only costs time
        return core.read_model(path, weights)  # mapped: the built one's memory is free again
    return model


def _keep(model: ov.Model, path: Path) -> None:
    """Write both files under other names, then rename; the graph comes last, so it never is without its weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        ov.save_model(model, temporary, compress_to_fp16=False)
        temporary.with_suffix(".bin").replace(path.with_suffix(".bin"))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        temporary.with_suffix(".bin").unlink(missing_ok=True)


def build_model(tensors: Mapping[str, NDArray[Any]], widen_factor: float) -> ov.Model:
    """The network as an OpenVINO graph, (n, 1, 50, 50, 50) -> (n, 2048 * widen_factor), any n."""
    patches = ops.parameter([-1, 1, PATCH_SIZE, PATCH_SIZE, PATCH_SIZE], np.float32)
    x = ops.relu(_convolve(patches, tensors, stem(widen_factor)))
    x = ops.max_pool(x, [2] * 3, [1] * 3, [1] * 3, [1] * 3, [3] * 3).output(0)
    size = _halved(_halved(PATCH_SIZE))
    for block in blocks(widen_factor):
        x = _bottleneck(x, tensors, block, size)
        size = size if block.convs[1].stride == 1 else _halved(size)
    features = ops.reduce_mean(x, np.array([2, 3, 4]), keep_dims=False)
    return ov.Model([features], [patches], "resnet50_3d")


def _halved(size: int) -> int:
    return (size + 1) // 2


def _bottleneck(x: Any, tensors: Mapping[str, NDArray[Any]], block: Block, size: int) -> Any:
    """One block; its input has `size` voxels on each axis."""
    reduce, spatial, expand = block.convs
    out = ops.relu(_convolve(x, tensors, reduce))
    together = SIDE_BY_SIDE.get(size // spatial.stride, 1) if size % spatial.stride == 0 else 1
    if together == 1:
        out = ops.relu(_convolve(out, tensors, spatial))
    else:
        out = ops.relu(_convolve_side_by_side(out, tensors, spatial, size, together))
    out = _convolve(out, tensors, expand)
    shortcut = x if block.shortcut is None else _convolve(x, tensors, block.shortcut)
    return ops.relu(ops.add(out, shortcut))


def _convolve(x: Any, tensors: Mapping[str, NDArray[Any]], layer: ConvLayer) -> Any:
    weight, bias = folded(tensors, layer)
    pad = [layer.kernel // 2] * 3
    out = ops.convolution(x, ops.constant(weight), [layer.stride] * 3, pad, pad, [1] * 3)
    return ops.add(out, ops.constant(bias.reshape(1, -1, 1, 1, 1)))


def _convolve_side_by_side(
    x: Any, tensors: Mapping[str, NDArray[Any]], layer: ConvLayer, size: int, together: int
) -> Any:
    """As `_convolve` for a kernel of 3: several patches (`together`) make one, in a row with zeros between them.

    The zeros are the padding that each patch has for itself. The gap is one voxel; two for stride 2, whose steps must
    meet the first voxel of each patch. What the row holds for the gaps afterwards is cut out.
    """
    channels, planes, row = layer.channels[0], size * size, size + layer.stride
    out_channels, out_size, out_row = layer.channels[1], size // layer.stride, row // layer.stride
    n = ops.gather(ops.shape_of(x), np.array([0]), np.array(0))
    group = np.array([together])
    filled = ops.multiply(ops.divide(ops.add(n, group - 1), group), group)
    x = ops.pad(x, [0] * 5, [together - 1, 0, 0, 0, layer.stride], "constant", np.float32(0))
    x = ops.slice(x, [0], filled, [1], [0])
    x = ops.transpose(ops.reshape(x, [-1, together, channels, planes, row], False), [0, 2, 3, 1, 4])
    x = _convolve(ops.reshape(x, [-1, channels, size, size, together * row], False), tensors, layer)
    x = ops.slice(ops.reshape(x, [-1, out_channels, out_size**2, together, out_row], False), [0], [out_size], [1], [4])
    x = ops.reshape(ops.transpose(x, [0, 3, 1, 2, 4]), [-1, out_channels, *[out_size] * 3], False)
    return ops.slice(x, [0], n, [1], [0])


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
    result = np.empty(weight.shape, np.float32)
    scaled = np.multiply(weight, scale.reshape(-1, 1, 1, 1, 1), out=result, casting="same_kind")
    return scaled, ((own_bias - mean) * scale + beta).astype(np.float32)
