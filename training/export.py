"""`python -m training export FILE`: the trained encoder as weights that the chain and the published package load.

Two files in the run's folder: encoder.safetensors for `fmcib_module` (`fmcib run --weights PATH`), and
encoder.torch, {"trunk_state_dict": ...}, the form of the published checkpoint.
"""

import logging
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from fmcib_module.adapters.atomic import replacing, translated_errors
from fmcib_module.adapters.checkpoint import TRUNK_KEY
from fmcib_module.adapters.resnet import resnet_from_tensors
from fmcib_module.adapters.tensor_file import write_tensors
from fmcib_module.core.errors import ConfigError
from fmcib_module.settings import from_plain
from training.checkpoints import read_checkpoint
from training.run_folder import RunFolder, git_revision
from training.settings import TrainingSettings, read_training_settings

log = logging.getLogger(__name__)

ENCODER_PREFIX: Final = "method.encoder_pass.encoder."
"""In front of the encoder's tensors in our checkpoints."""


def export(settings_path: Path) -> None:
    """The verb.

    Raises:
        ConfigError: The settings are wrong, or the run has no checkpoint.
        OutputError: The folder cannot be written.
    """
    settings = read_training_settings(settings_path)
    for path in export_run(settings):
        log.info("wrote %s", path.name)


def export_run(settings: TrainingSettings) -> tuple[Path, Path]:
    """Export the newest checkpoint of a run.

    Returns:
        The safetensors file and the torch file.

    Raises:
        ConfigError: The run has no checkpoint, another recipe's, or one of an auto-encoder.
        OutputError: The folder cannot be written.
    """
    folder = RunFolder(Path(settings.run))
    checkpoint = read_checkpoint(folder.last)
    trained = from_plain(TrainingSettings, checkpoint["settings"], where=folder.last.name)
    if trained.recipe_digest() != settings.recipe_digest():
        raise ConfigError("the run was trained by another recipe", folder.path.name, "give the settings.yml in it")
    tensors = encoder_tensors(checkpoint, folder.last.name)
    safetensors, published = folder.path / "encoder.safetensors", folder.path / "encoder.torch"
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    with translated_errors(safetensors):
        write_tensors(safetensors, arrays, _metadata(settings, checkpoint))
    with replacing(published) as temporary:
        torch.save({TRUNK_KEY: tensors}, temporary)
    return safetensors, published


def encoder_tensors(checkpoint: dict[str, Any], where: str) -> dict[str, Tensor]:
    """The encoder's state dict in a checkpoint, checked by building the network of it.

    Raises:
        ConfigError: The checkpoint holds another kind of encoder.
        WeightsError: The tensors do not fit the ResNet50.
    """
    state: dict[str, Tensor] = checkpoint["state_dict"]
    tensors = {
        name.removeprefix(ENCODER_PREFIX): tensor.contiguous()
        for name, tensor in state.items()
        if name.startswith(ENCODER_PREFIX)
    }
    if not tensors:
        raise ConfigError(
            "the run trained an auto-encoder, whose encoder is not the network of the chain",
            where,
            "compute its features with `training.methods.make_method(...).encode`",
        )
    resnet_from_tensors(tensors, where)
    return tensors


def _metadata(settings: TrainingSettings, checkpoint: dict[str, Any]) -> dict[str, str]:
    return {
        "method": settings.method.name.value,
        "note": settings.note,
        "recipe_sha256": settings.recipe_digest(),
        "table_sha256": str(checkpoint["data"]["table_sha256"]),
        "data_licence": str(checkpoint["data"]["licence"]),
        "steps": str(checkpoint["global_step"]),
        "widen_factor": str(settings.network.widen_factor),
        "git_revision": git_revision(),
    }
