"""Everything that is written for one series: the table, then the SEG and SR that go with it."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fmcib_module.adapters.seed_finder import roi_mask
from fmcib_module.adapters.seg_writer import write_seed_seg
from fmcib_module.adapters.sr_writer import write_sr
from fmcib_module.adapters.tables import write_series_csv
from fmcib_module.core.conventions import SeedKind
from fmcib_module.core.domain import Lesion, SeriesReport
from fmcib_module.core.errors import FmcibError, InputError
from fmcib_module.core.volume import Grid, Volume
from fmcib_module.output import sha256_of
from fmcib_module.settings import Settings

SEG_NAME = "seeds.seg.dcm"
CSV_NAME = "features.csv"

Mask = tuple[int, NDArray[np.bool_]]


@dataclass(slots=True)
class Written:
    """What `write_series` did.

    Attributes:
        files: Name -> SHA-256.
        notes: What was left out on purpose.
        error: Why an object that goes with the table could not be made; the table itself is there.
    """

    files: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    error: FmcibError | None = None


def write_series(report: SeriesReport, volume: Volume | None, output: Path, settings: Settings) -> Written:
    """Write OUTPUT/<series>/features.csv, seeds.seg.dcm and features*.sr.dcm.

    Args:
        report: Lesions of one series; without any, nothing is written.
        volume: The scan, for the derived SEG's geometry.
        output: OUTPUT.
        settings: `sr` and `seg` choose what is written.

    Raises:
        OutputError: The folder cannot be written.
    """
    written = Written()
    if not report.lesions:
        return written
    folder = output / report.series.output_name
    write_series_csv(report, folder / CSV_NAME)
    paths = [folder / CSV_NAME]
    if not report.series.instances:
        if settings.sr or settings.seg:
            written.notes = ("no DICOM SR and SEG: the image is not DICOM",)
    else:
        try:
            segmentation = _write_seg(report, volume, folder, settings)
            if segmentation is not None:
                paths.append(folder / SEG_NAME)
            if settings.sr:
                paths += write_sr(report, folder, segmentation=segmentation)
        except FmcibError as error:
            written.error = error
    written.files = {path.name: sha256_of(path) for path in paths}
    return written


def _write_seg(report: SeriesReport, volume: Volume | None, folder: Path, settings: Settings) -> Dataset | None:
    """The derived SEG: one segment per lesion that did not come from a SEG; None where there is no such lesion."""
    if not settings.seg or volume is None:
        return None
    masked = [
        pair
        for lesion in report.lesions
        if lesion.seed.kind is not SeedKind.SEG
        for pair in _masked(report, lesion, volume.grid)
    ]
    if not masked:
        return None
    lesions, masks = zip(*masked, strict=True)
    return write_seed_seg(replace(report, lesions=lesions), masks, volume.grid, folder / SEG_NAME)


def _masked(report: SeriesReport, lesion: Lesion, grid: Grid) -> Iterator[tuple[Lesion, Mask]]:
    """The lesion with its ROI on the scan's grid; as a point where the ROI falls between voxels or lies outside."""
    as_point = replace(lesion, seed=replace(lesion.seed, kind=SeedKind.POINT))
    for shown, seed in ((lesion, lesion.seed), (as_point, replace(as_point.seed, source_uid=""))):
        try:
            yield shown, roi_mask(report.series, seed, grid)
        except InputError:
            continue
        return
