"""What an engine is: the network's forward pass on one device."""

import math
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class DeviceMemoryError(Exception):
    """A batch is too large for the device's memory."""


class Forward(Protocol):
    """One engine.

    Attributes:
        batch_size: Patches per call that suit the device.
        min_rows: A smaller batch is filled up to this many rows, because the engine takes other kernels for it; so a
            patch's features do not depend on how many others came with it. None fills up every batch to the full size.
    """

    batch_size: int
    min_rows: int | None

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 1, 50, 50, 50) -> (n, n_features).

        Raises:
            DeviceMemoryError: The batch is too large for the device.
        """

    def describe(self) -> dict[str, Any]:
        """Engine, version, device and threads, for the ledger."""


THREADS_VARIABLE = "FMCIB_THREADS"
"""In the environment, how many CPUs a process may use, where several share a machine."""


def usable_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs that this process may use: its affinity, limited by the cgroup's quota and by FMCIB_THREADS.

    Args:
        cgroup: Where the cgroup (version 1 or 2) is mounted.
    """
    affinity = len(os.sched_getaffinity(0))
    if (given := os.environ.get(THREADS_VARIABLE, "")).isdigit() and int(given) > 0:
        affinity = min(affinity, int(given))
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
