"""The example patient of `fmcib demo`: a made-up chest CT with four lesions, one kind of seed source each way."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fmcib_module.adapters.chest_phantom import Ellipsoid, chest_hu
from fmcib_module.adapters.roi_writer import RoiContours, ellipse_lps, rtstruct_dataset, seg_dataset
from fmcib_module.adapters.study_writer import StudyTags, ct_datasets
from fmcib_module.core.volume import Grid

TAGS: Final = StudyTags(
    key="example patient",
    patient_name="EXAMPLE^PHANTOM",
    patient_id="EXAMPLE-1",
    description="Example patient, computer-generated",
)

CONTOURED: Final = {
    "GTV-1": Ellipsoid((-78.0, 12.0, 42.0), (13.0, 12.0, 14.0), 45.0),  # right upper lobe
    "Node 4R": Ellipsoid((-24.0, 4.0, 26.0), (10.0, 9.0, 12.0), 60.0),  # right lower paratracheal
}
SEGMENTED: Final = {"Liver lesion": Ellipsoid((-72.0, -8.0, -80.0), (17.0, 16.0, 15.0), 25.0)}
POINTED: Final = {"Nodule left": Ellipsoid((84.0, 28.0, -8.0), (6.0, 6.0, 6.0), 30.0)}

GRID: Final = Grid(
    shape=(80, 256, 256),
    affine=((1.4, 0.0, 0.0, -178.5), (0.0, 1.4, 0.0, -178.5), (0.0, 0.0, 2.5, -98.75), (0.0, 0.0, 0.0, 1.0)),
)
"""Axial, 1.4 x 1.4 x 2.5 mm, centred on the origin; small enough to be made in about two seconds."""


def write_example(folder: Path) -> Path:
    """Write the example patient; every call writes the same study.

    Args:
        folder: Made if absent; gets CT/*.dcm, RTSTRUCT.dcm, SEG.dcm and seeds.csv.

    Returns:
        `folder`, the INPUT of a run.
    """
    lesions = {**CONTOURED, **SEGMENTED, **POINTED}
    ct = ct_datasets(chest_hu(GRID, tuple(lesions.values())), GRID, TAGS, series_description="Chest CT, generated")
    (folder / "CT").mkdir(parents=True, exist_ok=True)
    for number, ds in enumerate(ct, start=1):
        _save(ds, folder / "CT" / f"{number:04d}.dcm")
    rois = [RoiContours(name, _contours(lesion)) for name, lesion in CONTOURED.items()]
    _save(rtstruct_dataset(rois, ct, TAGS, label="EXAMPLE"), folder / "RTSTRUCT.dcm")
    masks = {name: _mask(lesion) for name, lesion in SEGMENTED.items()}
    _save(seg_dataset(masks, ct, TAGS), folder / "SEG.dcm")
    rows = [f'{",".join(map(str, lesion.centre))},"{name}"' for name, lesion in POINTED.items()]
    table = "\n".join(['coordX,coordY,coordZ,"Mhub ROI"', *rows, ""])
    (folder / "seeds.csv").write_text(table, encoding="utf-8")
    return folder


def _save(ds: Dataset, path: Path) -> None:
    ds.save_as(path, enforce_file_format=True)


def _slice_heights_mm() -> NDArray[np.float64]:
    return np.asarray(GRID.matrix[2, 3] + GRID.matrix[2, 2] * np.arange(GRID.shape[0]))


def _contours(lesion: Ellipsoid) -> tuple[NDArray[np.float64], ...]:
    x, y, z = lesion.centre
    a, b, c = lesion.half_axes_mm
    contours = []
    for height in _slice_heights_mm():
        share = 1 - ((height - z) / c) ** 2
        if share > 0:
            scale = float(np.sqrt(share))
            middle = (x, y, float(height))
            contours.append(ellipse_lps(middle, np.array([a * scale, 0, 0]), np.array([0, b * scale, 0])))
    return tuple(contours)


def _mask(lesion: Ellipsoid) -> NDArray[np.bool_]:
    """(K, J, I), true where a voxel's centre lies inside."""
    k, j, i = np.ogrid[tuple(slice(n) for n in GRID.shape)]
    level = np.zeros(GRID.shape)
    for axis, index in enumerate((i, j, k)):
        position_mm = GRID.matrix[axis, 3] + GRID.matrix[axis, axis] * index
        level = level + ((position_mm - lesion.centre[axis]) / lesion.half_axes_mm[axis]) ** 2
    return np.asarray(level <= 1)
