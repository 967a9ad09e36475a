"""Weights -> numpy arrays, without torch where the file allows it: importing torch takes seconds."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from fmcib_module.adapters.tensor_file import read_header
from fmcib_module.adapters.weights import WeightsInfo, converted_path, is_conversion, verify, with_n_features
from fmcib_module.core.errors import WeightsError
from fmcib_module.core.resnet_layout import Shape

PLAIN_DTYPES: Final = frozenset({"F16", "F32", "F64", "I32", "I64"})
"""What numpy reads from a safetensors file; bfloat16 and the like go through torch."""

STEM: Final = "conv1.weight"


class TensorFile(Mapping[str, NDArray[Any]]):
    """A safetensors file as a mapping that reads a tensor when it is asked for.

    Attributes:
        shapes: Tensor name -> shape, from the header.
    """

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            WeightsError: It is not a whole safetensors file.
        """
        try:
            self._file: Any = safe_open(path, framework="np")
        except (SafetensorError, OSError) as error:
            raise WeightsError("not a readable safetensors file", path.name, "fetch or copy it again") from error
        header = read_header(path)
        self.shapes: dict[str, Shape] = {n: tuple(header[n]["shape"]) for n in header if n != "__metadata__"}

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self.shapes:
            raise KeyError(name)
        return np.asarray(self._file.get_tensor(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def load_arrays(weights: str | Path) -> tuple[WeightsInfo, Mapping[str, NDArray[Any]], dict[str, Shape]]:
    """Locate, verify and open weights.

    Args:
        weights: Registry name, or path of a .safetensors, .torch, .pt or .pth file.

    Returns:
        What they are, the encoder's tensors by name (read when asked for), and their shapes.

    Raises:
        WeightsError: They are unknown, absent, damaged, hold no state dict, or need torch where it is not installed.
    """
    info = verify(weights)
    path = info.path if info.path.suffix == ".safetensors" else converted_path(info)
    if (path == info.path or is_conversion(path, info.sha256)) and _is_plain(path):
        tensors = TensorFile(path)
        return with_n_features(info, tensors.shapes[STEM][0]), tensors, tensors.shapes
    if find_spec("torch") is None:
        fix = "convert it where torch is (`fmcib weights fetch` does), or give a safetensors file of float32"
        raise WeightsError("torch is not installed, and only it reads this file", info.path.name, fix)
    from fmcib_module.adapters.checkpoint import load_weights  # torch

    info, loaded = load_weights(weights)
    return info, {name: t.numpy() for name, t in loaded.items()}, {name: tuple(t.shape) for name, t in loaded.items()}


def _is_plain(path: Path) -> bool:
    """Whether the file holds the encoder under its own names, in types that numpy reads."""
    header = read_header(path)
    dtypes = {
        entry.get("dtype") for name, entry in header.items() if name != "__metadata__" and isinstance(entry, dict)
    }
    stem = header.get(STEM)
    return dtypes <= PLAIN_DTYPES and isinstance(stem, dict) and len(stem.get("shape", ())) == 5
