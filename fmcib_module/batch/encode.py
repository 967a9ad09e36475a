"""The network as workers use it: in their own process, or in a process of its own that has a GPU."""

import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fmcib_module.adapters.runner import load_encoder
from fmcib_module.core.domain import Patch
from fmcib_module.lazy_encoder import LazyEncoder, PatchEncoder
from fmcib_module.settings import Settings


class DescribedEncoder(PatchEncoder, Protocol):
    """A `PatchEncoder` that says what it is."""

    def describe(self) -> dict[str, Any]:
        """Engine, version, device, for the record; empty before the first batch."""


class OwnEncoder:
    """The network in this process.

    It never waits for a full batch: an item leaves the disk when its last lesion is done, and until then it may keep
    the next one from coming.
    """

    takes_any_batch = True

    def __init__(self, settings: Settings) -> None:
        """Start to load."""
        self._encoder = LazyEncoder(settings, self)
        self._description: dict[str, Any] = {}
        self._encoder.load_ahead()

    @property
    def batch_size(self) -> int:
        """As `PatchEncoder.batch_size`."""
        return self._encoder.batch_size

    def __call__(self, patches: list[Patch]) -> NDArray[np.float32]:
        """As `PatchEncoder.__call__`."""
        return self._encoder(patches)

    def describe(self) -> dict[str, Any]:
        """As `DescribedEncoder.describe`."""
        return self._description

    def time(self, step: str, seconds: float) -> None:
        """As `EncoderNotes.time`."""
        self._description[f"{step}_s"] = round(seconds, 4)

    def describe_encoder(self, encoder: Mapping[str, Any]) -> None:
        """As `EncoderNotes.describe_encoder`."""
        self._description |= encoder


class EncoderServer:
    """The network in a process of its own, which many workers send patches to."""

    def __init__(self, settings: Settings) -> None:
        """Load."""
        started = time.perf_counter()
        self._batch_size = settings.batch_size
        self._encoder = load_encoder(
            settings.weights, device=settings.device, engine=settings.engine, precision=settings.precision
        )
        self._load_s = round(time.perf_counter() - started, 4)

    def batch_size(self) -> int:
        """Patches per call that suit the device."""
        return self._batch_size or self._encoder.batch_size

    def encode(self, voxels: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 50, 50, 50) -> (n, n_features) float32."""
        return self._encoder.encode(voxels, batch_size=self._batch_size)

    def describe(self) -> dict[str, Any]:
        """As `DescribedEncoder.describe`."""
        return {**self._encoder.describe(), "load_encoder_s": self._load_s}


class ServedEncoder:
    """A worker's side of `EncoderServer`s, used in turn."""

    takes_any_batch = True

    def __init__(self, servers: list[Any], first: int) -> None:
        """Remember them.

        Args:
            servers: Handles of Ray actors.
            first: Which one to begin with, so that not all workers begin with the same.
        """
        self._servers = servers
        self._next = first
        self._batch_size = 0
        self._description: dict[str, Any] = {}

    @property
    def batch_size(self) -> int:
        """As `PatchEncoder.batch_size`."""
        if self._batch_size == 0:
            self._batch_size = int(self._ask("batch_size"))
        return self._batch_size

    def __call__(self, patches: list[Patch]) -> NDArray[np.float32]:
        """As `PatchEncoder.__call__`."""
        features: NDArray[np.float32] = np.array(self._ask("encode", np.stack([patch.voxels for patch in patches])))
        if not self._description:
            self._description = self._ask("describe")
        return features

    def describe(self) -> dict[str, Any]:
        """As `DescribedEncoder.describe`."""
        return self._description

    def _ask(self, method: str, *arguments: Any) -> Any:
        import ray

        self._next += 1
        return ray.get(getattr(self._servers[self._next % len(self._servers)], method).remote(*arguments))
