"""What is compared: weights, random networks of the same shape, and hand-made features; each patches -> features."""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fmcib_module.adapters.checkpoint import load_weights
from fmcib_module.adapters.resnet import ResNet3D, resnet50, resnet_from_tensors
from fmcib_module.core.conventions import AIR_HU, HU_RANGE, PATCH_SIZE
from training.cache import LesionCache
from training.descriptors import describe

BATCH: Final = 16

N_CALIBRATION: Final = 64
"""Training lesions whose statistics the random networks' batch norms get."""

Model = Callable[[Tensor], NDArray[np.float64]]
"""(n, 1, 50, 50, 50) HU -> (n, d)."""


def hand_made(patches_hu: Tensor) -> NDArray[np.float64]:
    """The descriptors."""
    return describe(patches_hu).double().numpy()


def trained(weights: str) -> tuple[Model, float]:
    """The network of some weights (a name of the registry or a path), and its width.

    Raises:
        WeightsError: They are absent, damaged, or do not fit.
    """
    info, tensors = load_weights(weights)
    network = resnet_from_tensors(tensors, info.name)
    return network_model(network), network.conv1.out_channels / 64


def calibration_patches(cache: LesionCache, seed: int) -> Tensor:
    """(64, 1, 50, 50, 50) training patches, HU, drawn by a seed."""
    rows = np.random.default_rng(seed).permutation(cache.rows("train"))[:N_CALIBRATION]
    return torch.from_numpy(np.stack([cache.read_crop(int(row), PATCH_SIZE) for row in rows]))[:, None]


def random_network(width: float, seed: int, calibration_hu: Tensor) -> Model:
    """A network of random weights whose batch norms know the statistics of real patches, as a trained one's do."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = resnet50(width).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = 1.0  # running statistics become those of this one batch
    with torch.no_grad():
        network(_scaled(calibration_hu))
    return network_model(network.eval())


def network_model(network: ResNet3D) -> Model:
    """A network in evaluation mode as a model."""
    network = network.to(memory_format=torch.channels_last_3d)

    def encode(patches_hu: Tensor) -> NDArray[np.float64]:
        with torch.no_grad():
            parts = [network(_scaled(part)) for part in torch.split(patches_hu, BATCH)]
        return torch.cat(parts).double().numpy()

    return encode


def _scaled(patches_hu: Tensor) -> Tensor:
    scaled = (patches_hu.float() - AIR_HU) / HU_RANGE
    return scaled.contiguous(memory_format=torch.channels_last_3d)
