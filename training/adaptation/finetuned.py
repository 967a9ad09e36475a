"""A fine-tuned model: an extractor's network and a head of linear layers, in the form that the paper's authors publish.

{"trunk_state_dict": {...}, "head_state_dict": {"0.0.weight": ..., "0.0.bias": ..., "1.0.weight": ...}}: linear layers
with ReLU between them. One output is the logit of the second of two classes, more are logits of the classes.
"""

import pickle
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from fmcib_module.adapters.atomic import replacing
from fmcib_module.adapters.checkpoint import TRUNK_KEY, encoder_tensors
from fmcib_module.adapters.extractor_networks import network_from_tensors
from fmcib_module.adapters.strict_loading import fill_network
from fmcib_module.core.errors import WeightsError

HEAD_KEY: Final = "head_state_dict"
FIX: Final = "give a file of `finetune`, or one of the paper's fine-tuned models"


class FineTuned(nn.Module):
    """Network and head.

    Attributes:
        trunk: The extractor's network.
        heads: Linear layers, named as in the published files.
    """

    def __init__(self, trunk: nn.Module, heads: nn.Sequential) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, S, S, S) as the extractor takes it -> (n, outputs) logits."""
        logits: Tensor = self.heads(self.trunk(x))
        return logits


def make_head(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers of these sizes, ReLU between them, drawn from torch's global generator.

    Args:
        sizes: Features, hidden units, outputs: (4096, 2048, 8) is the paper's for eight classes.
    """
    layers = []
    for number, (into, out) in enumerate(pairwise(sizes), start=2):
        is_last = number == len(sizes)
        layers.append(nn.Sequential(nn.Linear(into, out), *([] if is_last else [nn.ReLU(inplace=True)])))
    return nn.Sequential(*layers)


def n_features(trunk: nn.Module) -> int:
    """Features that a network gives."""
    return int(trunk.n_features)  # type: ignore[arg-type]  # a module's attribute


def probabilities(logits: Tensor) -> Tensor:
    """(n, outputs) logits -> (n, classes): one output is the second of two classes."""
    if logits.shape[1] > 1:
        return torch.softmax(logits, dim=1)
    second = torch.sigmoid(logits)
    return torch.cat([1 - second, second], dim=1)


def write_finetuned(path: Path, model: FineTuned) -> None:
    """Write the published form, atomically.

    Raises:
        OutputError: It cannot be written.
    """
    parts = {TRUNK_KEY: model.trunk, HEAD_KEY: model.heads}
    with replacing(path) as temporary:
        torch.save(
            {key: {n: t.detach().cpu() for n, t in part.state_dict().items()} for key, part in parts.items()}, temporary
        )


def read_finetuned(path: Path, extractor: str) -> FineTuned:
    """Load a fine-tuned model strictly; tensors only, never pickled code.

    Args:
        path: The file.
        extractor: Whose network it is: one of `extractor_networks.NETWORKS`.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        WeightsError: The file is not of this form, or a tensor of the network or of the head does not fit.
    """
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError("the file is damaged or holds Python objects", path.name, FIX) from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"not a readable torch file ({type(error).__name__})", path.name, FIX) from error
    if not isinstance(loaded, Mapping) or not {TRUNK_KEY, HEAD_KEY} <= set(loaded):
        raise WeightsError(f"there is no {TRUNK_KEY} and {HEAD_KEY}", path.name, FIX)
    trunk = network_from_tensors(extractor, encoder_tensors({TRUNK_KEY: loaded[TRUNK_KEY]}, path.name), path.name)
    heads = head_from_tensors(loaded[HEAD_KEY], path.name)
    features, wanted = n_features(trunk), loaded[HEAD_KEY]["0.0.weight"].shape[1]
    if features != wanted:
        raise WeightsError(f"the head takes {wanted} features, the network gives {features}", path.name, FIX)
    return FineTuned(trunk, heads).eval()


def head_from_tensors(tensors: Any, where: str) -> nn.Sequential:
    """The head that a `head_state_dict` holds, loaded strictly.

    Raises:
        WeightsError: Its tensors are no chain of linear layers.
    """
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise WeightsError("the head is no state dict", where, FIX)
    n_layers = len({str(name).partition(".")[0] for name in tensors})
    weights = [tensors[name] for name in (f"{n}.0.weight" for n in range(n_layers)) if name in tensors]
    if not weights or len(weights) < n_layers or any(weight.ndim != 2 for weight in weights):
        raise WeightsError("the head is no chain of linear layers 0.0, 1.0, ...", where, FIX)
    sizes = [int(weights[0].shape[1]), *(int(weight.shape[0]) for weight in weights)]
    heads = make_head(sizes)
    fill_network(heads, tensors, name="head", where=where, fix=FIX)
    return heads
