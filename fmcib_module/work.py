"""One series on its way down the chain, and how it is handed from step to step by file."""

import hashlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.checks import PatchMeasures
from fmcib_module.core.conventions import Flag, SeedKind
from fmcib_module.core.domain import RoiFailure, Seed, Series
from fmcib_module.core.errors import FmcibError
from fmcib_module.core.ledger import RoiEntry, SeriesEntry, Stage
from fmcib_module.core.volume import Volume

if TYPE_CHECKING:
    import pydantic


@dataclass(slots=True)
class SeriesWork:
    """What is known of one series so far; each step adds its part.

    Attributes:
        series: From the importer.
        input_sha256: Digest of what the result depends on, see `digest_input`.
        seeds: From the centroid finder; the patch extractor adds flags.
        measures: Seed's place in `seeds` -> what its patch holds, from the patch extractor.
        failed: ROIs that dropped out, with the step where they did.
        values: Seed's place in `seeds` -> (n_features,) float32, from the encoder.
        variants: Seed's place -> name of a variant of its patch -> features, where the settings asked for any.
        flags: What concerns the whole series (resampled, split).
        timings_s: Step -> seconds.
        volume: The opened scan; not handed over by file.
        taken_over: The entry of an earlier run, where nothing is left to do.
    """

    series: Series
    input_sha256: str
    seeds: list[Seed] = field(default_factory=list)
    measures: dict[int, PatchMeasures] = field(default_factory=dict)
    failed: list[RoiEntry] = field(default_factory=list)
    values: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    variants: dict[int, dict[str, NDArray[np.float32]]] = field(default_factory=dict)
    flags: tuple[Flag, ...] = ()
    timings_s: dict[str, float] = field(default_factory=dict)
    volume: Volume | None = None
    taken_over: SeriesEntry | None = None

    def fail(self, failure: RoiFailure, stage: Stage) -> None:
        """Note an ROI that gives no features."""
        self.failed.append(RoiEntry.failed(failure, stage))

    def fail_seed(self, seed: Seed, error: FmcibError, stage: Stage) -> None:
        """Note a seed that gives no features."""
        self.fail(RoiFailure(seed.label, seed.roi_number, seed.source_uid, seed.kind, error), stage)

    def spend(self, step: str, seconds: float) -> None:
        """Add to a step's time."""
        self.timings_s[step] = round(self.timings_s.get(step, 0.0) + seconds, 4)


def digest_input(series: Series) -> str:
    """SHA-256 over what the features of a series depend on.

    DICOM objects count by their UIDs, which change when their content does (PS3.5 section 9); other files by
    their bytes.
    """
    digest = hashlib.sha256(series.uid.encode())
    for instance in series.instances:
        digest.update(f"|{instance.sop_instance_uid}#{instance.frame}".encode())
    if series.image_path is not None:
        digest.update(_file_digest(series.image_path))
    for source in sorted(series.roi_sources, key=lambda source: (source.kind, source.uid)):
        digest.update(f"|{source.kind}:{source.uid}".encode())
        if source.kind in (SeedKind.POINT, SeedKind.MASK):
            digest.update(_file_digest(source.path))
    return digest.hexdigest()


def _file_digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b"unreadable"  # the step that reads the file says so


@dataclass(frozen=True, slots=True)
class _Handoff:
    """The part of `SeriesWork` that a file holds; values travel as arrays beside it."""

    series: Series
    input_sha256: str
    seeds: tuple[Seed, ...]
    measures: dict[int, PatchMeasures]
    failed: tuple[RoiEntry, ...]
    flags: tuple[Flag, ...]
    timings_s: dict[str, float]


@cache
def _adapter() -> "pydantic.TypeAdapter[_Handoff]":
    """Its JSON form; made where work is handed over by file, so that other runs start without pydantic."""
    import pydantic

    return pydantic.TypeAdapter(_Handoff)


def save_work(work: SeriesWork, path: Path) -> None:
    """Write the JSON form of a series' work."""
    handoff = _Handoff(
        series=work.series,
        input_sha256=work.input_sha256,
        seeds=tuple(work.seeds),
        measures=work.measures,
        failed=tuple(work.failed),
        flags=work.flags,
        timings_s=work.timings_s,
    )
    path.write_bytes(_adapter().dump_json(handoff, indent=1))


def load_work(path: Path) -> SeriesWork:
    """Read what `save_work` wrote."""
    handoff = _adapter().validate_json(path.read_bytes())
    return SeriesWork(
        series=handoff.series,
        input_sha256=handoff.input_sha256,
        seeds=list(handoff.seeds),
        measures=handoff.measures,
        failed=list(handoff.failed),
        flags=handoff.flags,
        timings_s=handoff.timings_s,
    )
