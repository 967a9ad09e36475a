"""Make `untrained.safetensors`: a narrow 3D ResNet50 with seeded random weights, for trying the chain.

Run ``python -m fmcib_module.weights.make_untrained``: it writes the same bytes on every machine. Convolutions are
uniform with the variance of He et al. 2015 (doi:10.1109/ICCV.2015.123, fan-out), drawn from NumPy's PCG64; batch
norm's statistics are those of procedural patches (ellipsoids in noise) passed through the network in float64 and
rounded to 12 bits, so that neither the machine's rounding nor its thread count reaches the file.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fmcib_module.adapters.resnet import resnet50
from fmcib_module.adapters.tensor_file import write_tensors
from fmcib_module.core.conventions import PATCH_SIZE

WIDEN_FACTOR: Final = 0.25
"""512 features, 2.9 million parameters, 11.7 MB."""

SEED: Final = 20240315
N_PATCHES: Final = 16
ROUNDING_BITS: Final = 12
NOTE: Final = "random untrained weights: for trying the chain only, not the published model"


def main() -> None:
    """Write the file beside this script."""
    write_untrained(Path(__file__).with_name("untrained.safetensors"))


def write_untrained(path: Path) -> None:
    """Draw the weights, calibrate batch norm, and write both to `path`."""
    rng = np.random.default_rng(SEED)
    network = resnet50(WIDEN_FACTOR).double().train()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv3d):
                fan_out = module.weight.shape[0] * module.weight[0, 0].numel()
                uniform = 2 * rng.random(tuple(module.weight.shape)) - 1
                module.weight.copy_(torch.from_numpy(np.sqrt(6 / fan_out) * uniform))
                if module.bias is not None:
                    module.bias.zero_()
            if isinstance(module, nn.BatchNorm3d):
                module.momentum = 1.0  # running statistics become those of this one batch
        network(torch.from_numpy(procedural_patches(rng))[:, None])
    arrays = {name: _stored(name, tensor.numpy()) for name, tensor in network.state_dict().items()}
    metadata = {"method": "random", "seed": str(SEED), "note": NOTE, "licence": "MIT"}
    write_tensors(path, arrays, metadata)


def procedural_patches(rng: np.random.Generator) -> NDArray[np.float64]:
    """(N_PATCHES, 50, 50, 50) scaled patches: a soft-tissue ellipsoid in darker noise, each of its own size."""
    axis = np.arange(PATCH_SIZE) - PATCH_SIZE / 2
    z, y, x = axis[:, None, None], axis[None, :, None], axis[None, None, :]
    patches = np.empty((N_PATCHES, PATCH_SIZE, PATCH_SIZE, PATCH_SIZE))
    for patch in patches:
        a, b, c = 4 + 16 * rng.random(3)  # semi-axes, voxels
        outside, inside = 0.05 + 0.25 * rng.random(), 0.30 + 0.10 * rng.random()  # about -870..-100 and -100..205 HU
        lesion = (z / a) ** 2 + (y / b) ** 2 + (x / c) ** 2 <= 1
        patch[:] = np.where(lesion, inside, outside) + 0.02 * (rng.random(patch.shape) - 0.5)
    return patches


def _stored(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if name.endswith("num_batches_tracked"):
        return np.zeros_like(array)
    if "running" in name:
        array = _rounded(array)
    return array.astype(np.float32)


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep `ROUNDING_BITS` bits of each value."""
    mantissa, exponent = np.frexp(values)
    rounded: NDArray[np.float64] = np.ldexp(np.rint(np.ldexp(mantissa, ROUNDING_BITS)), exponent - ROUNDING_BITS)
    return rounded


if __name__ == "__main__":
    main()
