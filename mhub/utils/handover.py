"""What the modules hand to each other: files in one folder per series, and two files that concern the whole run.

fmcib_instances/<output name>/series.json     DicomImporter -> CentroidFinder
                              seeds.json      CentroidFinder -> PatchExtractor
                              patches.json, patches/<place of the seed>.npy, <place>~<variant>.npy
                                              PatchExtractor -> EncoderRunner
                              features.json, features.npz
                                              EncoderRunner -> ReportWriter
_global/fmcib_scan.json, fmcib_encoder.json   DicomImporter, EncoderRunner -> ReportWriter
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from mhubio.core import DataType, Instance, InstanceData
from pydantic import TypeAdapter

from fmcib_module.core.conventions import Mode
from fmcib_module.core.domain import Patch, Provenance
from fmcib_module.core.ledger import ProblemEntry, SeriesEntry, Stage
from fmcib_module.work import SeriesWork

INSTANCES: Final = "fmcib_instances"
"""Folder under general.data_base_dir; emptied by DicomImporter."""

SERIES_NAME: Final = "series.json"

VARIANT_MARK: Final = "~"
"""Between a seed's place and the name of a variant; no name of ours holds it."""

SCAN: Final = "json:content=fmcib_scan"
ENCODER: Final = "json:content=fmcib_encoder"
LEDGER: Final = "json:content=fmcib_ledger"
SERIES: Final = "json:content=fmcib_series"
SEEDS: Final = "json:content=fmcib_seeds"
PATCHES: Final = "json:content=fmcib_patches"
VOXELS: Final = "none:content=fmcib_patches"
FEATURES: Final = "json:content=fmcib_features"

STEPS: Final = (
    (SERIES, Stage.IMPORT, "DicomImporter"),
    (SEEDS, Stage.FIND, "CentroidFinder"),
    (PATCHES, Stage.EXTRACT, "PatchExtractor"),
    (FEATURES, Stage.ENCODE, "EncoderRunner"),
)
"""What a series has when a step is done, and which module makes it."""


@dataclass(frozen=True, slots=True)
class ScanFacts:
    """What DicomImporter knows of the whole run.

    Attributes:
        run: As `pipeline.describe_run`, with the time of the start.
        provenance: What makes the features.
        scan_s: How long the scan took, seconds.
        problems: Files that cannot be used.
        ignored_files: How many other files there were.
        skipped: Series that nobody asked features from.
        planned: (output name, earlier entry) of every other series, in the order of the ledger; the entry is None
            where there is work to do.
    """

    run: dict[str, Any]
    provenance: Provenance
    scan_s: float
    problems: tuple[ProblemEntry, ...]
    ignored_files: int
    skipped: tuple[SeriesEntry, ...]
    planned: tuple[tuple[str, SeriesEntry | None], ...]


@dataclass(slots=True)
class EncoderFacts:
    """What EncoderRunner notes for the ledger; see `lazy_encoder.EncoderNotes`."""

    timings_s: dict[str, float] = field(default_factory=dict)
    encoder: dict[str, Any] | None = None

    def time(self, step: str, seconds: float) -> None:
        """How long a step of the whole run took."""
        self.timings_s[step] = seconds

    def describe_encoder(self, encoder: Any) -> None:
        """What computes the features."""
        self.encoder = dict(encoder)


SCAN_JSON: Final[TypeAdapter[ScanFacts]] = TypeAdapter(ScanFacts)
ENCODER_JSON: Final[TypeAdapter[EncoderFacts]] = TypeAdapter(EncoderFacts)


def add_data(instance: Instance, path: Path | str, data_type: str) -> Path:
    """Register a file or folder with an instance (relative paths lie in the instance's folder); say where it is."""
    data = InstanceData(path=str(path), type=DataType.fromString(data_type), instance=instance)
    data.confirm()
    found = Path(data.abspath)
    found.parent.mkdir(parents=True, exist_ok=True)
    return found


def find_data(instance: Instance, data_type: str) -> Path | None:
    """The file that an earlier module left with an instance, None if it left none."""
    found = instance.data.filter(data_type, confirmed_only=True)
    return Path(found.get(0).abspath) if len(found) else None


def save_patch(folder: Path, place: int, patch: Patch) -> None:
    """Write one patch; its file is named by the seed's place in the work, and by what was changed on purpose."""
    np.save(folder / f"{place}{VARIANT_MARK if patch.variant else ''}{patch.variant}.npy", patch.voxels)


def load_patches(folder: Path, work: SeriesWork, mode: Mode) -> Iterator[tuple[int, Patch]]:
    """Read what `save_patch` wrote, one at a time, in the order of the seeds; a variant has its name only."""
    parts = {path: path.stem.partition(VARIANT_MARK) for path in folder.glob("*.npy")}
    names = {path: (int(place), variant) for path, (place, _, variant) in parts.items()}
    for path, (place, variant) in sorted(names.items(), key=lambda item: item[1]):
        yield place, Patch(np.load(path), work.seeds[place], work.series.uid, mode, variant=variant)


def save_values(work: SeriesWork, path: Path) -> None:
    """Write the features of a series, and of its variants."""
    rows = [(place, "", values) for place, values in sorted(work.values.items())]
    rows += [(place, name, values) for place in sorted(work.variants) for name, values in work.variants[place].items()]
    values = np.stack([row[2] for row in rows]) if rows else np.empty((0, 0), np.float32)
    places, variants = np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.str_)
    np.savez(path, places=places, variants=variants, values=values)


def load_values(work: SeriesWork, path: Path) -> None:
    """Read what `save_values` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        rows = zip(stored["places"], stored["variants"], stored["values"], strict=True)
    for place, variant, values in rows:
        if variant:
            work.variants.setdefault(int(place), {})[str(variant)] = values
        else:
            work.values[int(place)] = values
