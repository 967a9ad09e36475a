"""The networks behind extractors, by the extractor's name: with given weights, or new for training."""

from collections.abc import Mapping
from typing import Final

from torch import Tensor, nn

from fmcib_module.adapters.models_genesis import ModelsGenesisEncoder, models_genesis_from_tensors
from fmcib_module.adapters.resnet import PUBLISHED_WIDEN_FACTOR, resnet50, resnet_from_tensors
from fmcib_module.core.errors import ConfigError

NETWORKS: Final = ("fmcib", "mini", "med3d", "models-genesis", "ct-fm")
"""Extractors that are networks."""


def network_from_tensors(extractor: str, tensors: Mapping[str, Tensor], where: str) -> nn.Module:
    """Build the network that an extractor names, and load it strictly.

    Args:
        extractor: One of `NETWORKS`.
        tensors: State dict, names without prefixes of wrappers.
        where: Name of the weights, for messages.

    Returns:
        The network in evaluation mode, with `n_features`.

    Raises:
        WeightsError: A tensor is missing, unexpected or has another shape.
        ConfigError: There is no such network.
    """
    match extractor:
        case "fmcib" | "mini":
            return resnet_from_tensors(tensors, where)
        case "med3d":
            return resnet_from_tensors(tensors, where, stem_stride=1, shortcut_bias=False)
        case "models-genesis":
            return models_genesis_from_tensors(tensors, where)
        case "ct-fm":
            from fmcib_module.adapters.ct_fm import ct_fm_from_tensors  # MONAI, seconds to import

            loaded: nn.Module = ct_fm_from_tensors(tensors, where)
            return loaded
    raise _unknown(extractor)


def new_network(extractor: str, *, width: float = 1.0) -> nn.Module:
    """A network with random weights from torch's global generator, in training mode.

    Args:
        extractor: One of `NETWORKS`.
        width: Relative to the published network of that name; narrow ones make small trials.

    Raises:
        ConfigError: There is no such network.
    """
    match extractor:
        case "fmcib":
            return resnet50(PUBLISHED_WIDEN_FACTOR * width)
        case "mini":
            return resnet50(width / 4)
        case "med3d":
            return resnet50(width, stem_stride=1, shortcut_bias=False)
        case "models-genesis":
            return ModelsGenesisEncoder(max(1, round(32 * width)))
        case "ct-fm":
            from fmcib_module.adapters.ct_fm import ct_fm_encoder

            network: nn.Module = ct_fm_encoder(max(1, round(32 * width)))
            return network
    raise _unknown(extractor)


def _unknown(extractor: str) -> ConfigError:
    return ConfigError(f"there is no network {extractor!r}", "extractor", f"use one of: {', '.join(NETWORKS)}")
