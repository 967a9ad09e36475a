"""A series, or a path -> a Volume that decodes only the slices asked for, each once."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from fmcib_module.adapters.dicom_import import scan_folder
from fmcib_module.adapters.image_files import is_image_file, read_image_grid, read_image_volume
from fmcib_module.adapters.image_folder import image_series
from fmcib_module.adapters.pixels import Hounsfield, decode_slices
from fmcib_module.core.conventions import Flag, Irregular
from fmcib_module.core.domain import Instance, Series
from fmcib_module.core.errors import InputError
from fmcib_module.core.resampling import plan_resampling, resample_slab
from fmcib_module.core.stacking import irregularity, stack_slices, uniform_grid
from fmcib_module.core.volume import WHOLE, Grid, Volume


def grid_of(series: Series, irregular: Irregular = Irregular.REFUSE) -> tuple[Grid, tuple[Flag, ...]]:
    """Where a series' voxels are, from headers alone.

    Returns:
        The grid, and what has to be done to get voxels on it (resampling), besides the series' own flags.

    Raises:
        NotOneVolumeError: The slices are not one uniform grid, and may not or cannot be resampled to one; the message
            names the slice, what was expected and what was found.
        InputError: The image file cannot be read, or the series is not CT.
    """
    if series.image_path is not None:
        return read_image_grid(series.image_path), ()
    if not series.instances:
        raise InputError(
            f"the series holds no CT slices ({series.skip_reason or 'none were found'})",
            f"SeriesInstanceUID {series.uid}",
            "choose a CT series",
        )
    stack = stack_slices(series.instances, series.uid)
    if irregular is Irregular.RESAMPLE and len(stack.instances) > 1 and irregularity(stack) is not None:
        plan = plan_resampling(stack)
        return plan.grid, plan.flags
    return uniform_grid(stack), ()


def read_volume(source: Series | str | Path, *, irregular: Irregular = Irregular.REFUSE) -> Volume:
    """Read CT in Hounsfield units.

    Args:
        source: A series; or the path of an image file (.nrrd, .nii, .nii.gz, .mha, .mhd), of a DICOM file, or of a
            folder that holds exactly one CT series.
        irregular: What to do with gantry tilt, missing slices and uneven spacing.

    Returns:
        A volume whose `read_slab` decodes the slices asked for, each at most once as long as the volume lives.

    Raises:
        NotOneVolumeError: As `grid_of`.
        InputError: There is no such path, or not exactly one CT series in it.
        PixelDataError: Later, from `read_slab`: pixels are absent or cannot be decoded.
    """
    series = source if isinstance(source, Series) else _only_series(Path(source))
    if series.image_path is not None:
        return read_image_volume(series.image_path, series.uid)
    grid, flags = grid_of(series, irregular)
    stack = stack_slices(series.instances, series.uid)
    slices = SliceCache(stack.instances)
    if not flags:
        return Volume(grid=grid, series_uid=series.uid, read_slab=slices.read_slab, flags=series.flags)
    plan = plan_resampling(stack)

    def read_slab(first: int, stop: int, rows: slice = WHOLE, columns: slice = WHOLE) -> NDArray[np.float32]:
        return resample_slab(plan, first, stop, slices.read_slice)[:, rows, columns]

    return Volume(grid=grid, series_uid=series.uid, read_slab=read_slab, flags=(*series.flags, *flags))


class SliceCache:
    """Decoded slices of one series, each decoded at most once; safe to use from several threads.

    Slices are kept as int16 where that is exact (nearly always), which halves the memory.
    """

    def __init__(self, instances: Sequence[Instance]) -> None:
        self._instances = tuple(instances)
        self._lock = Lock()
        self._held: dict[int, Hounsfield] = {}

    def read_slice(self, k: int) -> NDArray[np.float32]:
        """Slice k, (J, I) float32 HU."""
        slab = self.read_slab(k, k + 1)
        return slab.reshape(slab.shape[1:])

    def read_slab(self, first: int, stop: int, rows: slice = WHOLE, columns: slice = WHOLE) -> NDArray[np.float32]:
        """Slices first..stop-1, of these some rows and columns, float32 HU."""
        wanted = range(*slice(first, stop).indices(len(self._instances)))
        with self._lock:
            missing = [k for k in wanted if k not in self._held]
            for _, group in groupby(missing, key=lambda k: self._instances[k].path):
                numbers = list(group)
                frames = decode_slices([self._instances[k] for k in numbers])
                self._held.update(zip(numbers, map(_compact, frames), strict=True))
            held = [self._held[k] for k in wanted]
        n_rows, n_columns = self._instances[0].shape
        shape = len(range(*rows.indices(n_rows))), len(range(*columns.indices(n_columns)))
        slab = np.empty((len(held), *shape), dtype=np.float32)
        for plane, voxels in zip(slab, held, strict=True):
            plane[:] = voxels[rows, columns]
        return slab


def _compact(hu: Hounsfield) -> Hounsfield:
    """The same as int16 where that is exact."""
    if hu.dtype == np.int16 or not hu.size or hu.min() < -32768 or hu.max() > 32767:
        return hu
    whole = hu.astype(np.int16)
    return whole if np.array_equal(whole, hu) else hu


def _only_series(path: Path) -> Series:
    if path.is_file() and is_image_file(path):
        return image_series([path], path.parent)[0]
    found = [
        series
        for study in scan_folder(path).studies
        for series in study.series
        if series.instances or series.image_path is not None
    ]
    usable = [series for series in found if not series.skip_reason] or found
    if len(usable) != 1:
        names = ", ".join(series.output_name for series in usable[:5])
        raise InputError(
            f"expected exactly one CT series, found {len(usable)}{': ' + names if names else ''}",
            path.name,
            "give the folder of one series, or choose one from read_studies",
        )
    return usable[0]
