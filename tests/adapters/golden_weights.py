"""The `portable` weights of the reference features: made from a formula, so that any language can make them.

The formula is in the reference data's README ("Feature goldens"); nothing here uses our network.
"""

import numpy as np
from numpy.typing import NDArray

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # (planes at width 1, blocks) of the 3D ResNet50
WIDTH = 2


def state_shapes() -> dict[str, tuple[int, ...]]:
    """Tensor names and shapes in state-dict order, written out from the architecture."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64 * WIDTH, 1, 7, 7, 7)}
    shapes |= _norm("bn1", 64 * WIDTH)
    channels = 64 * WIDTH
    for stage, (base, n_blocks) in enumerate(STAGES, start=1):
        planes = base * WIDTH
        for block in range(n_blocks):
            at = f"layer{stage}.{block}"
            shapes[f"{at}.conv1.weight"] = (planes, channels, 1, 1, 1)
            shapes |= _norm(f"{at}.bn1", planes)
            shapes[f"{at}.conv2.weight"] = (planes, planes, 3, 3, 3)
            shapes |= _norm(f"{at}.bn2", planes)
            shapes[f"{at}.conv3.weight"] = (4 * planes, planes, 1, 1, 1)
            shapes |= _norm(f"{at}.bn3", 4 * planes)
            if block == 0:
                shapes[f"{at}.downsample.0.weight"] = (4 * planes, channels, 1, 1, 1)
                shapes[f"{at}.downsample.0.bias"] = (4 * planes,)
                shapes |= _norm(f"{at}.downsample.1", 4 * planes)
            channels = 4 * planes
    return shapes


def portable_tensor(index: int, name: str, shape: tuple[int, ...]) -> NDArray[np.float32] | NDArray[np.int64]:
    """Tensor number `index` (0-based, state-dict order) of the formula."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, dtype=np.int64)
    u = _unit_hash(index, int(np.prod(shape))).reshape(shape)
    if len(shape) == 5:
        fan_in = int(np.prod(shape[1:]))
        return ((2 * u - 1) * np.sqrt(6 / fan_in)).astype(np.float32)
    if name.endswith("downsample.0.bias"):
        return (0.1 * (2 * u - 1)).astype(np.float32)
    if name.endswith("running_var"):
        return (0.5 + u).astype(np.float32)
    if name.endswith("weight"):
        return ((0.5 + u) * (0.25 if ".bn3." in name else 1.0)).astype(np.float32)
    return (0.2 * (2 * u - 1)).astype(np.float32)  # bias and running_mean of batch norm


def _unit_hash(index: int, count: int) -> NDArray[np.float64]:
    """The top 24 bits of splitmix64's finaliser of (index * 2^32 + element + golden ratio), divided by 2^24."""
    z = np.arange(count, dtype=np.uint64)
    z += np.uint64((index << 32) + 0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) / 2**24


def _norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    per_channel = {f"{name}.{key}": (channels,) for key in ("weight", "bias", "running_mean", "running_var")}
    return {**per_channel, f"{name}.num_batches_tracked": ()}
