"""Batches of patches -> features, on the fastest engine that this machine has; the model is loaded once."""

import ctypes
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.adapters.engine import DeviceMemoryError, Forward
from fmcib_module.adapters.weights import WeightsInfo
from fmcib_module.adapters.weights_arrays import load_arrays
from fmcib_module.core.conventions import PATCH_SIZE
from fmcib_module.core.domain import Patch
from fmcib_module.core.errors import ConfigError

log = logging.getLogger(__name__)

ENGINES: Final = ("auto", "openvino", "torch", "compile")
PRECISIONS: Final = ("float32", "bf16")
DEVICES: Final = ("auto", "cpu", "cuda")

CHECKED_PATCHES: Final = 2
"""Patches of the first batch that are computed in float32 too where another precision is used."""

MIN_COSINE: Final = 0.9999
"""Below this against float32, a reduced precision is warned of (limit of the reference data for bf16)."""


class Encoder:
    """A loaded network.

    Attributes:
        weights: Where it came from.
        device: "cpu" or "cuda".
        precision: "float32" or "bf16".
        n_features: Features per patch.
        batch_size: Patches per forward pass where `encode` is not told.
        takes_any_batch: Whether smaller batches are run as they are, not filled up to the full size.
        cosine: Smallest cosine against float32 of the first patches; None in float32, or before they came.
    """

    def __init__(
        self,
        forward: Forward,
        weights: WeightsInfo,
        device: str,
        *,
        precision: str = "float32",
        reference: Callable[[], Forward] | None = None,
        edge: int = PATCH_SIZE,
    ) -> None:
        """Wrap an engine.

        Args:
            forward: The engine.
            weights: Where the network came from.
            device: cpu or cuda.
            precision: What the engine computes in.
            reference: Makes a float32 engine, to check a reduced precision on the first patches.
            edge: Of the patches, voxels.
        """
        self._forward = forward
        self._reference = reference
        self._edge = edge
        self.weights = weights
        self.device = device
        self.precision = precision
        self.n_features = weights.n_features
        self.batch_size = forward.batch_size
        self.takes_any_batch = forward.min_rows is not None
        self.cosine: float | None = None
        self._memory_limit = sys.maxsize  # patches per pass, once a larger batch ran out of memory

    def encode(
        self,
        patches: Sequence[Patch] | NDArray[np.float32],
        *,
        batch_size: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Compute features.

        A patch's features do not depend on the patches beside it or on their order. On a CPU they are equal bits for
        every batch size too (measured from 1 to 16); on CUDA another batch size may move float32's last bits. A batch
        that runs out of memory is halved and the run goes on.

        Args:
            patches: Patches, or their voxels as (n, edge, edge, edge) float32, scaled.
            batch_size: Patches per forward pass; 0 chooses by device.
            progress: Called after each pass with the number of patches that it finished.

        Returns:
            (n, n_features) float32, in the order of `patches`.

        Raises:
            ConfigError: `batch_size` is negative, or the device has no memory for a single patch.
        """
        if batch_size < 0:
            raise ConfigError(f"batch_size is {batch_size}", "encode", "use 0 (automatic) or a positive number")
        voxels = _voxels(patches, self._edge)
        features = np.empty((len(voxels), self.n_features), dtype=np.float32)
        start = 0
        while start < len(voxels):
            size = min(batch_size or self.batch_size, self._memory_limit)
            stop = min(start + size, len(voxels))
            try:
                features[start:stop] = self._filled_forward(self._forward, voxels[start:stop], size)
            except DeviceMemoryError as error:
                self._halve(size, error)
                continue
            if self._reference is not None:
                self._check_precision(voxels[start:stop], features[start:stop])
            if progress is not None:
                progress(stop - start)
            start = stop
        return features

    def describe(self) -> dict[str, Any]:
        """What computes the features, for the ledger."""
        checked = {} if self.cosine is None else {"cosine_to_float32": round(self.cosine, 8)}
        return {
            **self._forward.describe(),
            "precision": self.precision,
            "n_features": self.n_features,
            **checked,
        }

    def _filled_forward(
        self, forward: Forward, voxels: Sequence[NDArray[np.float32]], size: int
    ) -> NDArray[np.float32]:
        """Run a batch, filled up with copies of its first patch (see `Forward`)."""
        n_rows = size if forward.min_rows is None else max(len(voxels), forward.min_rows)
        batch = np.empty((n_rows, 1, self._edge, self._edge, self._edge), dtype=np.float32)
        for row, patch in enumerate(voxels):
            batch[row, 0] = patch
        batch[len(voxels) :] = batch[0]
        return forward(batch)[: len(voxels)]

    def _check_precision(self, voxels: Sequence[NDArray[np.float32]], features: NDArray[np.float32]) -> None:
        """Compare the first patches with float32, once; the float32 engine is dropped afterwards."""
        assert self._reference is not None
        exact = self._filled_forward(self._reference(), voxels[:CHECKED_PATCHES], CHECKED_PATCHES).astype(np.float64)
        self._reference = None
        found = features[: len(exact)].astype(np.float64)
        norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(found, axis=1)
        self.cosine = float(np.min(np.sum(exact * found, axis=1) / np.where(norms > 0, norms, 1.0)))
        low = self.cosine < MIN_COSINE
        log.log(logging.WARNING if low else logging.INFO, "%s: cosine to float32 is %.6f", self.precision, self.cosine)

    def _halve(self, size: int, error: DeviceMemoryError) -> None:
        if size == 1:
            raise ConfigError(
                "the device has no memory for a single patch", self.device, "free its memory or use the device cpu"
            ) from error
        self._memory_limit = size // 2
        log.warning("out of memory at %d patches per batch: going on with %d", size, self._memory_limit)


def load_encoder(
    weights: str | Path = "mini", *, device: str = "auto", engine: str = "auto", precision: str = "float32"
) -> Encoder:
    """Verify and load weights, once, and put the network on a device.

    Args:
        weights: Registry name, or path of a .safetensors, .torch, .pt or .pth file.
        device: auto (CUDA when there is a device, else CPU), cpu or cuda.
        engine: auto (OpenVINO on a CPU, eager torch on CUDA), openvino, torch (eager) or compile (torch.compile:
            minutes at the first batch, for long runs).
        precision: float32, or bf16: faster, checked against float32 on the first patches.

    Raises:
        ConfigError: A device, engine or precision that there is not here.
        WeightsError: The weights are unknown, absent, damaged or do not fit the network.
    """
    _check_choice("precision", precision, PRECISIONS)
    chosen_device = choose_device(device)
    chosen_engine, reason = choose_engine(engine, chosen_device)
    log.info("engine %s on %s in %s: %s", chosen_engine, chosen_device, precision, reason)
    info, tensors, shapes = load_arrays(weights)

    if chosen_device == "cuda" and (devices := visible_cuda_devices())[1:]:
        from fmcib_module.adapters.engine_pool import PoolForward, WorkerPlan

        plans = [WorkerPlan(str(weights), "cuda", chosen_engine, precision, visible=name) for name in devices]
        return Encoder(PoolForward(plans, info.n_features), info, chosen_device, precision=precision)

    def make(in_precision: str) -> Forward:
        if chosen_engine == "openvino":
            from fmcib_module.adapters.engine_openvino import OpenVinoForward

            return OpenVinoForward(info, tensors, shapes, precision=in_precision)
        return _torch_forward(tensors, info, chosen_device, in_precision, compiled=chosen_engine == "compile")

    reference = None if precision == "float32" else lambda: make("float32")
    return Encoder(make(precision), info, chosen_device, precision=precision, reference=reference)


def choose_engine(engine: str, device: str) -> tuple[str, str]:
    """The engine that is used, and why, in a few words.

    Raises:
        ConfigError: An engine that there is not, or that does not run on the device.
    """
    _check_choice("engine", engine, ENGINES)
    if engine == "openvino" and device == "cuda":
        raise ConfigError("the engine openvino does not run on CUDA", "engine", "use auto, torch or compile")
    if engine in ("torch", "compile") and find_spec("torch") is None:
        raise ConfigError("torch is not installed", "engine", "use auto or openvino")
    if engine != "auto":
        return engine, "as asked for"
    if device == "cuda":
        return "torch", "a CUDA device is there"
    if find_spec("openvino") is None:
        return "torch", "OpenVINO is not installed"
    return "openvino", "the fastest on a CPU, and starts without torch"


def choose_device(device: str) -> str:
    """Auto, cpu or cuda -> cpu or cuda.

    Raises:
        ConfigError: Another word, or CUDA where there is none.
    """
    _check_choice("device", device, DEVICES)
    if device == "cpu":
        return "cpu"
    has_cuda = has_cuda_device()
    if device == "cuda" and not has_cuda:
        raise ConfigError("there is no CUDA device here", "device", "use auto or cpu")
    return "cuda" if has_cuda else "cpu"


def has_cuda_device() -> bool:
    """Whether torch can use a CUDA device; torch, which takes seconds to import, is only asked if a driver is there."""
    if find_spec("torch") is None:
        return False
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return False
    import torch

    return torch.cuda.is_available()


def visible_cuda_devices() -> list[str]:
    """The CUDA devices of this process, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[: torch.cuda.device_count()] or [str(n) for n in range(torch.cuda.device_count())]


def _torch_forward(
    tensors: Mapping[str, NDArray[Any]], info: WeightsInfo, device: str, precision: str, *, compiled: bool
) -> Forward:
    import torch

    from fmcib_module.adapters.engine_torch import TorchForward
    from fmcib_module.adapters.resnet import resnet_from_tensors

    network = resnet_from_tensors({name: torch.from_numpy(array) for name, array in tensors.items()}, info.name)
    return TorchForward(network, device, precision=precision, compiled=compiled)


def _voxels(patches: Sequence[Patch] | NDArray[np.float32], edge: int) -> Sequence[NDArray[np.float32]]:
    if isinstance(patches, np.ndarray):
        if patches.ndim != 4 or patches.shape[1:] != (edge,) * 3 or patches.dtype != np.float32:
            msg = f"patches must be float32 (n, {edge}, {edge}, {edge}), got {patches.dtype} {patches.shape}"
            raise ValueError(msg)
        return list(patches)
    return [patch.voxels for patch in patches]


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}", name, f"use one of: {', '.join(allowed)}")
