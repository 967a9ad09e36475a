"""DeepLesion's 16-bit PNG slices -> sub-volumes in Hounsfield units with their geometry (NIfTI)."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.adapters.atomic import replacing
from fmcib_module.core.domain import Point
from fmcib_module.core.errors import InputError
from training.cache_writer import one_writer
from training.cohorts.deeplesion_info import DeepLesionRow

PNG_OFFSET: Final = 32768
"""Of the PNG files' values to HU (the data set's description)."""

DIRECTION: Final = (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
"""Directions of the volume's axes, LPS, as columns: rows go to the back, columns to the left, slices to the feet.

The affine of the data set's own conversion script, with which the published tables' volumes were made; its first axis
is the rows."""


def write_volumes(
    slices: Path, folder: Path, rows: Iterable[DeepLesionRow], *, workers: int = 1
) -> Iterator[tuple[str, str]]:
    """Write the sub-volumes of some lesions; those that are there already are kept.

    Args:
        slices: Folder of the data set's images: patient_study_series/001.png ...
        folder: Of the volumes.
        rows: Lesions; those of one sub-volume count once.
        workers: Processes.

    Yields:
        Name of each volume and "", or why it cannot be written.

    Raises:
        OutputError: The disk is full or read-only, or another process writes there.
    """
    with one_writer(folder):
        for partial in folder.glob(".*.partial*"):  # of a writer that was killed
            partial.unlink()
        yield from _write_missing(slices, folder, {row.volume_name: row for row in rows}, workers)


def _write_missing(
    slices: Path, folder: Path, volumes: Mapping[str, DeepLesionRow], workers: int
) -> Iterator[tuple[str, str]]:
    missing = {name: row for name, row in volumes.items() if not (folder / name).exists()}
    yield from ((name, "") for name in volumes if name not in missing)
    if workers == 1 or len(missing) < 2:
        for name, row in missing.items():
            yield name, _try_write(slices, folder, row)
        return
    with ProcessPoolExecutor(min(workers, len(missing)), mp_context=get_context("spawn")) as pool:
        pending = {pool.submit(_try_write, slices, folder, row): name for name, row in missing.items()}
        for future in as_completed(pending):
            yield pending[future], future.result()


def read_slices_hu(folder: Path, first: int, last: int) -> NDArray[np.int16]:
    """Slices first..last of a series, (K, rows, columns) HU.

    Raises:
        InputError: One is absent or not a 16-bit PNG, or they differ in size.
    """
    images = [_read_png(folder / f"{number:03d}.png") for number in range(first, last + 1)]
    if len({image.shape for image in images}) != 1:
        raise InputError("slices differ in size", folder.name, "unpack the data set again")
    return np.stack(images)


def write_volume(path: Path, voxels_hu: NDArray[np.int16], spacing_mm: Point) -> None:
    """Write a sub-volume whose first slice's first pixel lies at the origin.

    Args:
        path: A .nii.gz file.
        voxels_hu: (K, rows, columns).
        spacing_mm: Between columns, rows, slices.

    Raises:
        OutputError: The disk is full or read-only.
    """
    itk: Any = import_module("SimpleITK")
    image = itk.GetImageFromArray(voxels_hu.transpose(0, 2, 1))  # SimpleITK's first axis is the last: rows
    dx, dy, dz = spacing_mm
    image.SetSpacing((dy, dx, dz))
    image.SetDirection(DIRECTION)
    with replacing(path) as temporary:
        named = temporary.with_name(f"{temporary.name}.nii.gz")  # ITK goes by the suffix
        try:
            itk.WriteImage(image, str(named), useCompression=True)
        except RuntimeError as error:
            named.unlink(missing_ok=True)
            raise OSError from error  # its own text would name the path
        named.replace(temporary)


def _try_write(slices: Path, folder: Path, row: DeepLesionRow) -> str:
    try:
        voxels = read_slices_hu(slices / row.scan, *row.slice_range)
    except InputError as error:
        return error.what
    write_volume(folder / row.volume_name, voxels, row.spacing_mm)
    return ""


def _read_png(path: Path) -> NDArray[np.int16]:
    from PIL import Image  # 0.05 s that a table alone does not pay

    where = f"{path.parent.name}/{path.name}"
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except FileNotFoundError as error:
        raise InputError(f"slice {path.name} is absent", where, "unpack all of the data set's images") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"slice {path.name} is damaged", where, "unpack the data set again") from error
    if values.ndim != 2 or values.dtype not in (np.uint16, np.int32):
        raise InputError(f"slice {path.name} is not a 16-bit grey image", where, "give the data set's PNG files")
    return (values.astype(np.int32) - PNG_OFFSET).astype(np.int16)
