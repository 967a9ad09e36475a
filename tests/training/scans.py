"""Tiny image files with lesions, and the settings that cache them."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.domain import Point
from training.cache import LesionCache
from training.prepare import PrepareSettings, build_cache

sitk: Any = import_module("SimpleITK")  # its stubs are incomplete

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
DIRECTIONS = {
    "axial": IDENTITY,
    "lpi": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
    "ras": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0),
    "sagittal": (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "oblique": (0.8, -0.6, 0.0, 0.48, 0.64, -0.6, 0.36, 0.48, 0.8),
}
ORIGIN: Point = (-40.0, -35.0, 12.0)


def write_image(
    path: Path,
    *,
    size: tuple[int, int, int] = (40, 44, 30),
    spacing: Point = (2.0, 2.0, 3.0),
    direction: tuple[float, ...] = IDENTITY,
    seed: int = 0,
) -> Any:
    """Noise between lung and bone, smoothed a little, as int16; `size` is (columns, rows, slices)."""
    voxels = np.random.default_rng(seed).integers(-1000, 1200, size[::-1]).astype(np.int16)
    image = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(voxels.astype(np.float32)), 1.0)
    image = sitk.Cast(image, sitk.sitkInt16)
    image.SetSpacing(spacing)
    image.SetOrigin(ORIGIN)
    image.SetDirection(direction)
    sitk.WriteImage(image, str(path))
    return image


def middle(image: Any, shift: Point = (0.3, -0.4, 0.2)) -> Point:
    """A point near the image's middle that is on no voxel, LPS mm."""
    index = [n / 2 + d for n, d in zip(image.GetSize(), shift, strict=True)]
    x, y, z = image.TransformContinuousIndexToPhysicalPoint(index)
    return x, y, z


def write_table(path: Path, rows: list[dict[str, object]]) -> None:
    """A CSV; columns of the first row."""
    lines = [",".join(rows[0])] + [",".join(str(value) for value in row.values()) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def lesion(image: str, lps_mm: Point, **more: object) -> dict[str, object]:
    """A row of a table."""
    x, y, z = lps_mm
    return {"image_path": image, "coordX": repr(x), "coordY": repr(y), "coordZ": repr(z), **more}


def make_inputs(folder: Path, n_scans: int = 3, lesions_per_scan: int = 2) -> PrepareSettings:
    """Scans and a table in `folder`, scan p is patient p; the settings cache them in folder/cache."""
    folder.mkdir(exist_ok=True)
    rows = []
    for n in range(n_scans):
        image = write_image(folder / f"s{n}.nrrd", seed=n)
        for m in range(lesions_per_scan):
            place = middle(image, (1.3 * m - 5, 2.2 * m + 0.1, 0.4 * m))
            rows.append(lesion(f"s{n}.nrrd", place, patient=f"p{n}", label=f"class{m % 2}"))
    write_table(folder / "lesions.csv", rows)
    return PrepareSettings(cache="cache", licence="CC0-1.0", tables=("lesions.csv",))


def make_cache(folder: Path, n_scans: int = 3, lesions_per_scan: int = 2) -> LesionCache:
    """The same, cached."""
    settings = make_inputs(folder, n_scans, lesions_per_scan)
    return LesionCache(build_cache(settings, folder).cache)


def cache_bytes(folder: Path) -> dict[str, bytes]:
    """Every file of a cache but the lock."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".writer.lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def scaled(voxels_hu: NDArray[np.int16]) -> NDArray[np.float64]:
    """(HU + 1024) / 3072."""
    return (voxels_hu.astype(np.float64) + 1024) / 3072
