"""Small random weights of the right shape, and a checkpoint of them in the published form."""

import hashlib
from functools import cache
from pathlib import Path

import torch

from fmcib_module.adapters.resnet import resnet50


@cache
def small_tensors() -> dict[str, torch.Tensor]:
    """The state dict of a network with 512 features."""
    torch.manual_seed(0)
    return dict(resnet50(0.25).state_dict())


def write_checkpoint(folder: Path) -> Path:
    """A checkpoint with trunk and heads, as the paper's authors published theirs."""
    path = folder / "mine.torch"
    torch.save({"trunk_state_dict": small_tensors(), "heads_state_dict": {"fc.weight": torch.zeros(1)}}, path)
    return path


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
