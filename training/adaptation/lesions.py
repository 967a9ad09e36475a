"""Lesions of a table or of a prepared cache, as extractors and fine-tuning read them: each scan is opened once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmcib_module.adapters.gather import gather_compiled
from fmcib_module.adapters.mask_files import label_mask
from fmcib_module.adapters.volume_reader import read_volume
from fmcib_module.core.conventions import AIR_HU, HU_RANGE, Irregular, Mode, SeedKind
from fmcib_module.core.domain import RoiSource, Seed
from fmcib_module.core.errors import ConfigError, InputError, SeedNotFoundError
from fmcib_module.core.extractors import InputForm, Region, cut_cube, cut_roi
from fmcib_module.core.volume import Volume
from training.cache import CachedLesion, LesionCache
from training.cache_writer import ScanJob
from training.lesion_table import LesionRow, read_lesion_table
from training.scan_jobs import collect_jobs

MASK_COLUMN: Final = "mask"
"""Of a lesion table: a mask file (NIfTI, NRRD, MHA), relative to the images, for extractors that measure an ROI."""

MASK_LABEL_COLUMN: Final = "mask_label"
"""Which label of the mask is the lesion; 1 where the table does not say."""

CropReader = Callable[[int], NDArray[np.int16]]
"""Row of the frame -> (edge, edge, edge) HU, axes (z, y, x), the seed at edge // 2 (published modes: unless a border
moved it)."""


@dataclass(frozen=True, slots=True)
class LesionSettings:
    """Section `data`: a table with its images, or a cache; paths relative to where it is run.

    Attributes:
        table: Lesion table (CSV or Parquet).
        images: Folder that its image paths are relative to, or that holds its DICOM series; "" for the table's own.
        cache: Folder of a cache that `prepare` made, in place of a table.
        proposals: Of a cache, also the pseudo-lesions that were sought in it: for statistics of how features lie.
        mode: How cubes are cut; a cache has its own.
        irregular: refuse, or resample, slices that are not one uniform grid.
        shared_patients: Take a table in which a patient is in two splits, as in published ones.
    """

    table: str = ""
    images: str = ""
    cache: str = ""
    mode: Mode = Mode.PUBLISHED
    irregular: Irregular = Irregular.REFUSE
    shared_patients: bool = False
    proposals: bool = False

    def __post_init__(self) -> None:
        if bool(self.table) == bool(self.cache):
            raise ConfigError("there must be one source of lesions", "data", "name a table, or a cache")


class Lesions(Protocol):
    """Lesions that can be read.

    Attributes:
        frame: One row per lesion, in the table's order: lesion, patient, split, label, time, event, diameter, image,
            coordX, coordY, coordZ and the table's other columns.
        table_sha256: Of the lesions.
        mode: How cubes are cut.
        failures: (what, reason) of every lesion of the table that cannot be read at all.
    """

    frame: pd.DataFrame
    table_sha256: str
    mode: Mode
    failures: list[tuple[str, str]]

    def regions(self, forms: Mapping[str, InputForm]) -> Iterator[tuple[int, dict[str, Region | InputError]]]:
        """Every row of the frame, scan by scan, as each form wants it, or why it cannot be had."""

    def crop_reader(self, rows: Sequence[int], edge: int) -> CropReader:
        """Reads cubes of HU around the seeds of some rows, as often as wanted.

        Raises:
            InputError: Not one of them can be read.
        """


def open_lesions(settings: LesionSettings) -> Lesions:
    """Open what a section `data` names.

    Raises:
        InputError: The table is wrong, or the cache absent or damaged.
    """
    if settings.cache:
        return CacheLesions(Path(settings.cache), proposals=settings.proposals)
    return TableLesions(settings)


class TableLesions:
    """`Lesions` of a table, cut from its image files and DICOM series."""

    def __init__(self, settings: LesionSettings) -> None:
        """Read the table, and find its scans by their headers.

        Raises:
            InputError: The table is wrong, or not one of its scans is there.
        """
        path = Path(settings.table)
        self._images = Path(settings.images) if settings.images else path.parent
        self._irregular = settings.irregular
        table = read_lesion_table(path, shared_patients=settings.shared_patients)
        self._jobs, self.failures = collect_jobs(
            tables=[path], images=self._images, folders=(), rois=(), shared_patients=settings.shared_patients
        )
        if not self._jobs:
            raise InputError("not one image of the table is there", path.name, "check `images` and the table's paths")
        found = {row.lesion for job in self._jobs for row, _ in job.lesions}
        rows = [row for row in table.rows if row.lesion in found]
        self._places = {row.lesion: place for place, row in enumerate(rows)}
        columns = [{**row.others, **_columns_of(row, row.image)} for row in rows]
        self.frame = pd.DataFrame(columns).dropna(axis=1, how="all")
        self.table_sha256 = table.sha256
        self.mode = settings.mode

    def regions(self, forms: Mapping[str, InputForm]) -> Iterator[tuple[int, dict[str, Region | InputError]]]:
        """As `Lesions.regions`."""
        yield from self._regions(forms, range(len(self.frame)))

    def crop_reader(self, rows: Sequence[int], edge: int) -> CropReader:
        """As `Lesions.crop_reader`; the cubes are cut once and held in memory."""
        held: dict[int, NDArray[np.int16]] = {}
        for row, found in self._regions({"crop": InputForm(edge=edge)}, rows):
            region = found["crop"]
            if isinstance(region, InputError):
                self.failures.append((f"lesion {self.frame['lesion'].iloc[row]}", region.what))
            else:
                held[row] = np.rint(region.voxels * HU_RANGE + AIR_HU).astype(np.int16)
        if not held:
            raise InputError("not one lesion can be cut", self.frame["image"].iloc[0], "check seeds and images")
        return held.__getitem__

    def _regions(
        self, forms: Mapping[str, InputForm], rows: Sequence[int]
    ) -> Iterator[tuple[int, dict[str, Region | InputError]]]:
        wanted = set(rows)
        for job in self._jobs:
            places = [self._places[row.lesion] for row, _ in job.lesions]
            if not wanted.isdisjoint(places):
                yield from self._regions_of(job, forms, wanted)

    def _regions_of(
        self, job: ScanJob, forms: Mapping[str, InputForm], wanted: set[int]
    ) -> Iterator[tuple[int, dict[str, Region | InputError]]]:
        volume: Volume | InputError
        try:
            volume = read_volume(job.source, irregular=self._irregular)
        except InputError as error:
            volume = error
        for row, _ in job.lesions:
            place = self._places[row.lesion]
            if place in wanted:
                yield place, {name: self._region(volume, row, form) for name, form in forms.items()}

    def _region(self, volume: Volume | InputError, row: LesionRow, form: InputForm) -> Region | InputError:
        if isinstance(volume, InputError):
            return volume
        seed = Seed(row.lps_mm, row.lesion, "")
        try:
            if form.needs_mask:
                return cut_roi(volume, self._mask(volume, row))
            return cut_cube(volume, seed, self.mode, form, gather_compiled)
        except InputError as error:
            return error

    def _mask(self, volume: Volume, row: LesionRow) -> tuple[int, NDArray[np.bool_]]:
        name = str(row.others.get(MASK_COLUMN) or "")
        if not name:
            fix = f"add a column {MASK_COLUMN}, or use `fmcib run --extractor radiomics` on DICOM contours"
            raise SeedNotFoundError("the lesion has no mask to measure", f"lesion {row.lesion}", fix)
        label = int(float(row.others.get(MASK_LABEL_COLUMN) or 1))
        source = RoiSource(self._images / name, SeedKind.MASK, Path(name).name)
        seed = Seed(row.lps_mm, row.lesion, source.uid, SeedKind.MASK, roi_number=label)
        found = label_mask(source, seed, volume.grid)
        if found is None:
            what = f"no voxel of the scan is inside label {label}"
            raise SeedNotFoundError(what, f"lesion {row.lesion}, {source.uid}", "check the mask")
        return found


class CacheLesions:
    """`Lesions` of a prepared cache: cubes of whole HU, memory-mapped."""

    def __init__(self, folder: Path, *, proposals: bool = False) -> None:
        """Open the cache; what was only sought in it is no lesion: points of tissue, and proposals unless asked for.

        Raises:
            InputError: It is absent, unfinished or damaged, or holds no lesion.
        """
        self._cache = LesionCache(folder)
        wanted = ("table", "roi", "proposal") if proposals else ("table", "roi")
        self._lesions = [lesion for lesion in self._cache.lesions if lesion.source in wanted]
        if not self._lesions:
            raise InputError("the cache holds no lesion of a table", folder.name, "prepare it from a lesion table")
        columns = [_columns_of(lesion, self._cache.scans[lesion.scan].image) for lesion in self._lesions]
        frame = pd.DataFrame(columns).dropna(axis=1, how="all")
        if (frame["lesion"] == "").any():
            frame["lesion"] = [str(n) for n in range(1, len(frame) + 1)]
        self.frame = frame
        self.table_sha256 = self._cache.table_sha256
        self.mode = Mode(self._cache.mode)
        self.failures = list(self._cache.failures)

    def regions(self, forms: Mapping[str, InputForm]) -> Iterator[tuple[int, dict[str, Region | InputError]]]:
        """As `Lesions.regions`; there are no masks."""
        for row in range(len(self._lesions)):
            yield row, {name: self._region(row, form) for name, form in forms.items()}

    def crop_reader(self, rows: Sequence[int], edge: int) -> CropReader:
        """As `Lesions.crop_reader`, from the mapped files."""
        return lambda row: self._box(row, edge)

    def _region(self, row: int, form: InputForm) -> Region | InputError:
        if form.needs_mask:
            fix = "give the lesion table with a column of masks"
            return SeedNotFoundError("a cache holds no masks", f"lesion {self.frame['lesion'].iloc[row]}", fix)
        return Region(form.from_hu(self._box(row, form.edge).astype(np.float32)))

    def _box(self, row: int, edge: int) -> NDArray[np.int16]:
        lesion = self._lesions[row]
        return self._cache.read_box(lesion.scan, lesion.centre_zyx, edge)


def _columns_of(lesion: LesionRow | CachedLesion, image: str) -> dict[str, Any]:
    x, y, z = lesion.lps_mm
    return {
        "lesion": lesion.lesion,
        "patient": _file_name(lesion.patient),
        "split": lesion.split,
        "label": lesion.label,
        "time": lesion.time,
        "event": None if lesion.event is None else float(lesion.event),
        "diameter": lesion.diameter_mm,
        "image": _file_name(image),
        "coordX": x,
        "coordY": y,
        "coordZ": z,
    }


def _file_name(text: str) -> str:
    """A path without its folders, which are of one machine; any other text as it is."""
    return Path(text).name if Path(text).is_absolute() else text
