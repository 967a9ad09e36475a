"""Weights files -> tensors: torch checkpoints (tensors only, never pickled code) and safetensors."""

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fmcib_module.adapters.tensor_file import write_tensors
from fmcib_module.adapters.weights import WeightsInfo, converted_path, is_conversion, with_n_features
from fmcib_module.adapters.weights import verify as verify_weights
from fmcib_module.core.errors import WeightsError

log = logging.getLogger(__name__)

TRUNK_KEY: Final = "trunk_state_dict"
"""Where the published checkpoint keeps the encoder; its heads lie beside it."""

LIGHTER_PREFIX: Final = "model.trunk."
"""How the encoder's tensors are named in a checkpoint of the paper's training code (Lighter)."""

PARALLEL_PREFIX: Final = "module."
"""What torch's data-parallel wrappers put in front of every name."""


def load_weights(weights: str | Path) -> tuple[WeightsInfo, dict[str, Tensor]]:
    """Locate, verify and load weights.

    Args:
        weights: Registry name, or path of a .safetensors, .torch, .pt or .pth file.

    Returns:
        What they are, and the encoder's tensors by name, on the CPU.

    Raises:
        WeightsError: They are unknown, absent, damaged, or hold no state dict.
    """
    info = verify_weights(weights)
    tensors = _load_file(info)
    stem = tensors.get("conv1.weight")
    return (info if stem is None else with_n_features(info, stem.shape[0])), tensors


def convert(info: WeightsInfo) -> Path:
    """Convert a torch checkpoint to safetensors in the cache, once; a safetensors file stays where it is.

    Returns:
        The safetensors file, named by the checkpoint's SHA-256.

    Raises:
        WeightsError: The checkpoint cannot be loaded.
        OSError: The cache cannot be written.
    """
    if info.path.suffix == ".safetensors":
        return info.path
    target = converted_path(info)
    if not is_conversion(target, info.sha256):
        _write_conversion(target, load_checkpoint(info.path), info)
    return target


def load_checkpoint(path: Path) -> dict[str, Tensor]:
    """The encoder's tensors from a torch checkpoint.

    Accepted: {"trunk_state_dict": ...} (published), {"state_dict": {"model.trunk.*": ...}} (Lighter), a plain state
    dict; `module.` prefixes are stripped.

    Raises:
        WeightsError: Not a torch checkpoint, it holds more than tensors and plain values, or no state dict.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            "the checkpoint is damaged or holds Python objects, which are never loaded",
            path.name,
            "give a checkpoint of tensors only, or safetensors",
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, TypeError, AttributeError) as error:
        reason = type(error).__name__
        raise WeightsError(
            f"not a readable torch checkpoint ({reason})", path.name, "fetch or copy it again"
        ) from error
    return encoder_tensors(loaded, path.name)


def encoder_tensors(checkpoint: Any, where: str) -> dict[str, Tensor]:
    """Pick the encoder's state dict out of a loaded checkpoint (forms as in `load_checkpoint`).

    Raises:
        WeightsError: It holds no state dict.
    """
    state = checkpoint
    if isinstance(checkpoint, Mapping):
        key = next((key for key in (TRUNK_KEY, "state_dict") if key in checkpoint), None)
        if key is not None:
            state = checkpoint[key]
            _log_ignored([str(other) for other in checkpoint if other != key], where)
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            "the checkpoint holds no state dict",
            where,
            f"give {{'{TRUNK_KEY}': ...}}, {{'state_dict': ...}} or a plain state dict of tensors",
        )
    tensors = {_without_prefix(str(name), PARALLEL_PREFIX): value for name, value in state.items()}
    if any(name.startswith(LIGHTER_PREFIX) for name in tensors):
        _log_ignored([name for name in tensors if not name.startswith(LIGHTER_PREFIX)], where)
        trunk = {name: value for name, value in tensors.items() if name.startswith(LIGHTER_PREFIX)}
        tensors = {name.removeprefix(LIGHTER_PREFIX): value for name, value in trunk.items()}
    return {_without_prefix(name, PARALLEL_PREFIX): _plain(name, value, where) for name, value in tensors.items()}


def _plain(name: str, tensor: Tensor, where: str) -> Tensor:
    """Float32, or int64 for whole numbers: what the network holds."""
    if tensor.is_complex():
        raise WeightsError(f"tensor {name} is complex", where, "give weights of this 3D ResNet50")
    return tensor.detach().float() if tensor.is_floating_point() else tensor.detach().long()


def _load_file(info: WeightsInfo) -> dict[str, Tensor]:
    if info.path.suffix == ".safetensors":
        return _load_safetensors(info.path)
    target = converted_path(info)
    if is_conversion(target, info.sha256):
        return _load_safetensors(target)
    tensors = load_checkpoint(info.path)
    try:
        _write_conversion(target, tensors, info)
    except OSError as error:
        log.info("the cache cannot be written (%s): %s is converted anew next time", error.strerror, info.path.name)
    return tensors


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError("not a readable safetensors file", path.name, "fetch or copy it again") from error
    return encoder_tensors(tensors, path.name)


def _write_conversion(target: Path, tensors: Mapping[str, Tensor], info: WeightsInfo) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    write_tensors(target, arrays, {"source": info.path.name, "source_sha256": info.sha256})


def _without_prefix(name: str, prefix: str) -> str:
    while name.startswith(prefix):
        name = name.removeprefix(prefix)
    return name


def _log_ignored(names: list[str], where: str) -> None:
    if names:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        log.info("%s: %d other entries are not part of the encoder and are ignored (%s)", where, len(names), shown)
