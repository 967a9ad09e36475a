"""Batches of patches -> features, on CUDA where there is a device, else on the CPU; the model is loaded once."""

import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fmcib_module.adapters.checkpoint import load_weights
from fmcib_module.adapters.resnet import ResNet3D, resnet_from_tensors
from fmcib_module.adapters.weights import WeightsInfo
from fmcib_module.core.conventions import PATCH_SIZE
from fmcib_module.core.domain import Patch
from fmcib_module.core.errors import ConfigError

log = logging.getLogger(__name__)

ENGINES: Final = ("auto", "torch")
PRECISIONS: Final = ("float32",)
DEVICES: Final = ("auto", "cpu", "cuda")

CPU_BATCH: Final = 8
"""Larger batches gain nothing on a CPU (112 ms per patch at 8 and at 16, width 2, two cores)."""

MIN_ROWS: Final = 2
"""A single patch runs as two equal ones: oneDNN takes other kernels for a batch of one (features differ by up to
1.5e-5), and the same ones from two on (equal bits for 2 to 16)."""

CUDA_BATCH: Final = 64
CUDA_BYTES_PER_PATCH: Final = 200_000_000
"""Generous: the largest activations of the width-2 network, (128, 25, 25, 25) float32 and their workspace."""


class Forward(Protocol):
    """One engine: the network's forward pass on one device.

    Attributes:
        batch_size: Patches per call that suit the device.
        fixed_shape: Every batch is filled up to the full size, because the device takes other kernels for other sizes;
            else only to `MIN_ROWS`. Either way a patch's features do not depend on how many others came with it.
    """

    batch_size: int
    fixed_shape: bool

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 1, 50, 50, 50) -> (n, n_features).

        Raises:
            torch.OutOfMemoryError: The batch is too large for the device.
        """


class TorchForward:
    """Eager torch in float32, channels last (17 % faster than channels first on a CPU with AVX-512).

    On CUDA, TF32 is off (torch's default for convolutions keeps 10 bits of each factor) and cuDNN's kernels are the
    deterministic ones.
    """

    def __init__(self, network: ResNet3D, device: str) -> None:
        self._device = torch.device(device)
        self._network = network.to(memory_format=torch.channels_last_3d).to(self._device).eval()
        self.batch_size = CPU_BATCH if device == "cpu" else cuda_batch_size(torch.cuda.mem_get_info()[0])
        self.fixed_shape = device != "cpu"

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 1, 50, 50, 50) -> (n, n_features)."""
        exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        with torch.inference_mode(), exact:
            batch = torch.from_numpy(patches).to(self._device, memory_format=torch.channels_last_3d)
            features: NDArray[np.float32] = self._network(batch).cpu().numpy()
        return features


class Encoder:
    """A loaded network.

    Attributes:
        weights: Where it came from.
        device: "cpu" or "cuda".
        n_features: Features per patch.
        batch_size: Patches per forward pass where `encode` is not told.
    """

    def __init__(self, forward: Forward, weights: WeightsInfo, device: str) -> None:
        self._forward = forward
        self.weights = weights
        self.device = device
        self.n_features = weights.n_features
        self.batch_size = forward.batch_size
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
            patches: Patches, or their voxels as (n, 50, 50, 50) float32, scaled.
            batch_size: Patches per forward pass; 0 chooses by device.
            progress: Called after each pass with the number of patches that it finished.

        Returns:
            (n, n_features) float32, in the order of `patches`.

        Raises:
            ConfigError: `batch_size` is negative, or the device has no memory for a single patch.
        """
        if batch_size < 0:
            raise ConfigError(f"batch_size is {batch_size}", "encode", "use 0 (automatic) or a positive number")
        voxels = _voxels(patches)
        features = np.empty((len(voxels), self.n_features), dtype=np.float32)
        start = 0
        while start < len(voxels):
            size = min(batch_size or self.batch_size, self._memory_limit)
            stop = min(start + size, len(voxels))
            try:
                features[start:stop] = self._filled_forward(voxels[start:stop], size)
            except torch.OutOfMemoryError as error:
                self._halve(size, error)
                continue
            if progress is not None:
                progress(stop - start)
            start = stop
        return features

    def describe(self) -> dict[str, Any]:
        """What computes the features, for the ledger."""
        return {
            "device": torch.cuda.get_device_name() if self.device == "cuda" else "cpu",
            "engine": "torch",
            "precision": "float32",
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "n_features": self.n_features,
        }

    def _filled_forward(self, voxels: Sequence[NDArray[np.float32]], size: int) -> NDArray[np.float32]:
        """Run a batch, filled up with copies of its first patch (see `Forward`)."""
        n_rows = size if self._forward.fixed_shape else max(len(voxels), MIN_ROWS)
        batch = np.empty((n_rows, 1, PATCH_SIZE, PATCH_SIZE, PATCH_SIZE), dtype=np.float32)
        for row, patch in enumerate(voxels):
            batch[row, 0] = patch
        batch[len(voxels) :] = batch[0]
        return self._forward(batch)[: len(voxels)]

    def _halve(self, size: int, error: torch.OutOfMemoryError) -> None:
        if size == 1:
            raise ConfigError(
                "the device has no memory for a single patch", self.device, "free its memory or use the device cpu"
            ) from error
        self._memory_limit = size // 2
        log.warning("out of memory at %d patches per batch: going on with %d", size, self._memory_limit)
        if self.device == "cuda":
            torch.cuda.empty_cache()


def load_encoder(
    weights: str | Path = "untrained", *, device: str = "auto", engine: str = "auto", precision: str = "float32"
) -> Encoder:
    """Verify and load weights, once, and put the network on a device.

    Args:
        weights: Registry name, or path of a .safetensors, .torch, .pt or .pth file.
        device: auto (CUDA when there is a device, else CPU), cpu or cuda.
        engine: auto or torch.
        precision: float32.

    Raises:
        ConfigError: A device, engine or precision that there is not.
        WeightsError: The weights are unknown, absent, damaged or do not fit the network.
    """
    _check_choice("engine", engine, ENGINES)
    _check_choice("precision", precision, PRECISIONS)
    chosen = choose_device(device)
    info, tensors = load_weights(weights)
    network = resnet_from_tensors(tensors, info.name)
    if chosen == "cpu":
        torch.set_num_threads(usable_cpus())
    return Encoder(TorchForward(network, chosen), info, chosen)


def choose_device(device: str) -> str:
    """Auto, cpu or cuda -> cpu or cuda.

    Raises:
        ConfigError: Another word, or CUDA where there is none.
    """
    _check_choice("device", device, DEVICES)
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise ConfigError("there is no CUDA device here", "device", "use auto or cpu")
    return "cuda" if has_cuda and device != "cpu" else "cpu"


def cuda_batch_size(free_bytes: int) -> int:
    """The largest power of two up to `CUDA_BATCH` that fits half of the free memory; 1 at least."""
    fits = max(1, free_bytes // 2 // CUDA_BYTES_PER_PATCH)
    return min(CUDA_BATCH, 1 << int(math.log2(fits)))


def usable_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs that this process may use: its affinity, limited by the cgroup's quota, not the host's core count.

    Args:
        cgroup: Where the cgroup (version 1 or 2) is mounted.
    """
    affinity = len(os.sched_getaffinity(0))
    try:
        if (cgroup / "cpu.max").is_file():  # version 2: "quota period" in microseconds, or "max period"
            quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text(encoding="ascii")
        cpus = int(quota) / int(period)
    except (OSError, ValueError):  # no cgroup, or no limit ("max")
        return affinity
    return affinity if cpus <= 0 else max(1, min(affinity, math.ceil(cpus)))


def _voxels(patches: Sequence[Patch] | NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
    if isinstance(patches, np.ndarray):
        if patches.ndim != 4 or patches.shape[1:] != (PATCH_SIZE,) * 3 or patches.dtype != np.float32:
            msg = f"patches must be float32 (n, 50, 50, 50), got {patches.dtype} {patches.shape}"
            raise ValueError(msg)
        return list(patches)
    return [patch.voxels for patch in patches]


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}", name, f"use one of: {', '.join(allowed)}")
