"""NIfTI, NRRD and MHA files -> Volume and mask arrays in LPS millimetres (SimpleITK)."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.errors import InputError, PixelDataError
from fmcib_module.core.volume import WHOLE, Grid, Volume

IMAGE_SUFFIXES: Final = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


def is_image_file(path: Path) -> bool:
    """Whether a file's name is that of a NIfTI, NRRD or MHA image."""
    return path.name.lower().endswith(IMAGE_SUFFIXES)


def file_stem(path: Path) -> str:
    """A file's name without its image suffix: "GTV.nii.gz" -> "GTV"."""
    suffix = next((suffix for suffix in IMAGE_SUFFIXES if path.name.lower().endswith(suffix)), "")
    return path.name[: len(path.name) - len(suffix)]


def read_image_grid(path: Path) -> Grid:
    """Read where an image's voxels are, from its header.

    The affine is direction x diag(spacing) and origin as the file has them, in float64. SimpleITK gives LPS for every
    format, so a NIfTI file's RAS affine is converted by ITK and nowhere else.

    Raises:
        InputError: The file cannot be read, or is not one 3-D scalar image.
    """
    reader = _reader(path)
    size, dimension = reader.GetSize(), reader.GetDimension()
    if dimension not in (3, 4) or (dimension == 4 and size[3] != 1):
        raise _error(path, f"expected one 3-D volume, found an image of size {tuple(size)}", "split it into volumes")
    if reader.GetNumberOfComponents() != 1:
        raise _error(
            path, f"voxels have {reader.GetNumberOfComponents()} components, expected 1", "export a grey image"
        )
    direction = np.asarray(reader.GetDirection(), dtype=np.float64).reshape(dimension, dimension)[:3, :3]
    matrix = np.eye(4)
    matrix[:3, :3] = direction @ np.diag(reader.GetSpacing()[:3])
    matrix[:3, 3] = reader.GetOrigin()[:3]
    i, j, k = size[:3]
    return Grid.from_matrix((int(k), int(j), int(i)), matrix)


def read_image_volume(path: Path, series_uid: str) -> Volume:
    """Read an image file as CT: the header now, the voxels at the first `read_slab`, once.

    Raises:
        InputError: As `read_image_grid`.
        PixelDataError: At the first `read_slab`: the voxels cannot be read.
    """
    grid = read_image_grid(path)
    read_all = _once(lambda: _read_voxels(path))

    def read_slab(first: int, stop: int, rows: slice = WHOLE, columns: slice = WHOLE) -> NDArray[np.float32]:
        return np.array(read_all()[first:stop, rows, columns], dtype=np.float32)

    return Volume(grid=grid, series_uid=series_uid, read_slab=read_slab)


def read_mask(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Read a label image.

    Returns:
        Labels (K, J, I) and the (4, 4) affine, (i, j, k, 1) to LPS mm at voxel centres.

    Raises:
        InputError: The file cannot be read, is not one 3-D scalar image, or holds values that are not whole numbers.
    """
    grid = read_image_grid(path)
    voxels = _read_voxels(path)
    labels = np.rint(voxels).astype(np.int64) if np.all(np.isfinite(voxels)) else None
    if labels is None or np.any(labels != voxels):
        raise _error(path, "a mask's values are not whole numbers", "write label numbers, 0 for background")
    return labels, grid.matrix


def _read_voxels(path: Path) -> NDArray[Any]:
    try:
        image = _reader(path).Execute()
        voxels: NDArray[Any] = _itk().GetArrayFromImage(image)
    except RuntimeError as error:
        raise PixelDataError("the image's voxels cannot be read", path.name, "copy the file again") from error
    return voxels.reshape(voxels.shape[-3:])


def _reader(path: Path) -> Any:
    """An ImageFileReader that has read the header."""
    reader = _itk().ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _error(path, "the image file cannot be read", "copy it again, or convert it to NRRD") from error
    return reader


@cache
def _itk() -> Any:
    """SimpleITK, imported when the first image file is read: it takes 0.1 s that DICOM-only folders do not pay.

    Its warnings go to stderr and would name paths; problems that matter arrive as exceptions.
    """
    itk: Any = import_module("SimpleITK")
    itk.ProcessObject.SetGlobalWarningDisplay(False)
    return itk


def _once(read: Callable[[], NDArray[Any]]) -> Callable[[], NDArray[Any]]:
    lock, held = Lock(), list[NDArray[Any]]()

    def read_once() -> NDArray[Any]:
        with lock:
            if not held:
                held.append(read())
            return held[0]

    return read_once


def _error(path: Path, what: str, fix: str) -> InputError:
    return InputError(what, path.name, fix)
