"""The network on torch: CUDA devices, and CPUs where OpenVINO is absent or not wanted."""

import math
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from fmcib_module.adapters.engine import DeviceMemoryError, usable_cpus

CPU_BATCH: Final = 8
"""Larger batches gain nothing on a CPU (112 ms per patch at 8 and at 16, width 2, two cores)."""

CPU_MIN_ROWS: Final = 2
"""A single patch runs as two equal ones: oneDNN takes other kernels for a batch of one (features differ by up to
1.5e-5), and the same ones from two on (equal bits for 2 to 16)."""

CUDA_BATCH: Final = 64
CUDA_BYTES_PER_PATCH: Final = 200_000_000
"""Generous: the largest activations of the width-2 network, (128, 25, 25, 25) float32 and their workspace."""


class TorchForward:
    """Eager or compiled torch, channels last (17 % faster than channels first on a CPU with AVX-512).

    On CUDA, TF32 is off in float32 (torch's default for convolutions keeps 10 bits of each factor) and cuDNN's kernels
    are the deterministic ones.
    """

    def __init__(
        self, network: torch.nn.Module, device: str, *, precision: str = "float32", compiled: bool = False
    ) -> None:
        """Put the network on a device.

        Args:
            network: In evaluation mode.
            device: cpu or cuda.
            precision: float32, or bf16 for autocast.
            compiled: Use torch.compile: minutes at the first batch, for long runs.
        """
        self._device = torch.device(device)
        self._precision, self._compiled = precision, compiled
        module: torch.nn.Module = network.eval().to(memory_format=torch.channels_last_3d)
        module = module.to(self._device)
        if device == "cpu":
            self.batch_size, self.min_rows = CPU_BATCH, CPU_MIN_ROWS if not compiled else None
        else:
            self.batch_size, self.min_rows = cuda_batch_size(torch.cuda.mem_get_info()[0]), None
        self._network: Any = torch.compile(module, dynamic=False) if compiled else module

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 1, 50, 50, 50) -> (n, n_features)."""
        if self._device.type == "cpu":
            torch.set_num_threads(usable_cpus())  # holds for the calling thread, which may not be the one that loaded
        try:
            with ExitStack() as stack:
                for context in self._contexts():
                    stack.enter_context(context)
                return self._forward(patches)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise DeviceMemoryError(str(error)) from error

    def describe(self) -> dict[str, Any]:
        """Engine, version, device and threads, for the ledger."""
        on_cuda = self._device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name() if on_cuda else "cpu",
            "engine": "compile" if self._compiled else "torch",
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            **({"tf32": False, "cuda": torch.version.cuda} if on_cuda else {}),
        }

    def _contexts(self) -> tuple[AbstractContextManager[Any], ...]:
        exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        mixed = torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision == "bf16")
        return torch.inference_mode(), exact, mixed

    def _forward(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        batch = torch.from_numpy(patches)
        if self._device.type == "cuda":  # pinned memory: the copy runs beside the previous batch's kernels
            batch = batch.pin_memory()
        batch = batch.to(self._device, non_blocking=True).contiguous(memory_format=torch.channels_last_3d)
        features: NDArray[np.float32] = self._network(batch).float().cpu().numpy()
        return features


def cuda_batch_size(free_bytes: int) -> int:
    """The largest power of two up to `CUDA_BATCH` that fits half of the free memory; 1 at least."""
    fits = max(1, free_bytes // 2 // CUDA_BYTES_PER_PATCH)
    return min(CUDA_BATCH, 1 << int(math.log2(fits)))
