"""The encoder of a run, loaded beside its other work; little else is imported, so that loading can start first."""

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fmcib_module.adapters.runner import Encoder, load_encoder
from fmcib_module.core.domain import Patch
from fmcib_module.settings import Settings


class PatchEncoder(Protocol):
    """What computes features of patches; `LazyEncoder` is one."""

    @property
    def batch_size(self) -> int:
        """Patches per call."""

    @property
    def takes_any_batch(self) -> bool:
        """Whether a small batch costs no more per patch than a full one."""

    def __call__(self, patches: list[Patch]) -> NDArray[np.float32]:
        """(n, n_features) float32."""


class EncoderNotes(Protocol):
    """Who wants to know about the encoder once it is loaded; `RunOutput` is one."""

    def time(self, step: str, seconds: float) -> None:
        """How long a step of the whole run took."""

    def describe_encoder(self, encoder: Mapping[str, Any]) -> None:
        """What computes the features."""


class LazyEncoder:
    """The encoder, loaded once: ahead of the first patch where that is sure to come, else with it."""

    def __init__(self, settings: Settings, notes: EncoderNotes | None = None) -> None:
        """Remember what to load, and who wants to know."""
        self._settings = settings
        self._notes = notes
        self._loading: Future[tuple[Encoder, float]] | None = None

    def tell(self, notes: EncoderNotes) -> None:
        """Say later, once there is something to say, what the encoder is."""
        self._notes = notes

    def load_ahead(self) -> None:
        """Load in a thread of its own, while seeds are found and slices decoded."""
        if self._loading is None:
            thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load-encoder")
            self._loading = thread.submit(self._load)
            thread.shutdown(wait=False)

    def _load(self) -> tuple[Encoder, float]:
        started = time.perf_counter()
        settings = self._settings
        encoder = load_encoder(
            settings.weights, device=settings.device, engine=settings.engine, precision=settings.precision
        )
        return encoder, time.perf_counter() - started

    def wait(self) -> None:
        """Until it is loaded; what went wrong is raised."""
        self._loaded()

    def _loaded(self) -> tuple[Encoder, float]:
        """Load now, or wait for what was started ahead; with the seconds that it took."""
        self.load_ahead()
        assert self._loading is not None
        return self._loading.result()

    @property
    def encoder(self) -> Encoder:
        """The encoder, once it is loaded."""
        return self._loaded()[0]

    @property
    def batch_size(self) -> int:
        """Patches per forward pass."""
        return self._settings.batch_size or self.encoder.batch_size

    @property
    def takes_any_batch(self) -> bool:
        """Whether a small batch costs no more per patch than a full one."""
        return self.encoder.takes_any_batch

    def __call__(self, patches: list[Patch]) -> NDArray[np.float32]:
        """(n, n_features) float32."""
        features = self.encoder.encode(patches, batch_size=self.batch_size)
        if self._notes is not None:
            self._notes.time("load_encoder", self._loaded()[1])
            self._notes.describe_encoder(self.encoder.describe())
            self._notes = None  # once: a reduced precision is measured on the first batch
        return features
