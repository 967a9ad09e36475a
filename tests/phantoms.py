"""Tiny CT + RTSTRUCT + SEG studies whose lesion centroids are known by construction.

A lesion is a ball or box that is symmetric about a voxel's centre, on a grid with orthogonal axes: the centroid of its
voxels and of its contours is that centre, whoever computes it. `damage` holds helpers that break a study on disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from fmcib_module.adapters.roi_writer import RoiContours, ellipse_lps, rtstruct_dataset, seg_dataset
from fmcib_module.adapters.study_writer import Rescale, StudyTags, ct_datasets
from fmcib_module.core.domain import Point
from fmcib_module.core.volume import Grid
from tests.kept_studies import made_once

CENTRE_LPS: Point = (12.0, -7.0, 30.0)
"""Where the voxel shape // 2 of every phantom lies."""


class Orientation(StrEnum):
    """How slices lie in the patient."""

    AXIAL = "axial"
    SAGITTAL = "sagittal"
    CORONAL = "coronal"
    PRONE = "prone"
    FLIPPED = "flipped"
    OBLIQUE = "oblique"


ORIENTATIONS = tuple(Orientation)

_ROW_AND_COLUMN_DIRECTIONS = {
    Orientation.AXIAL: ((1, 0, 0), (0, 1, 0)),
    Orientation.SAGITTAL: ((0, 1, 0), (0, 0, -1)),
    Orientation.CORONAL: ((1, 0, 0), (0, 0, -1)),
    Orientation.PRONE: ((-1, 0, 0), (0, -1, 0)),
    Orientation.FLIPPED: ((1, 0, 0), (0, -1, 0)),
    Orientation.OBLIQUE: ((0.8, 0.48, 0.36), (-0.6, 0.64, 0.48)),  # exact decimals, orthonormal
}


@dataclass(frozen=True)
class Lesion:
    """A ball, or a box along the grid's axes.

    Attributes:
        name: ROIName and SegmentLabel.
        centre_lps: Moved to the nearest voxel's centre; `PhantomStudy.centroids` holds where it is.
        radius_mm: Of the ball; not used for a box.
        box_mm: Full size along columns, rows and slices (i, j, k); None for a ball.
        hu: Value of its voxels.
        in_rtstruct: Drawn in the RTSTRUCT.
        in_seg: Drawn in the SEG.
    """

    name: str = "GTV-1"
    centre_lps: Point = CENTRE_LPS
    radius_mm: float = 7.0
    box_mm: Point | None = None
    hu: float = 90.0
    in_rtstruct: bool = True
    in_seg: bool = True


DEFAULT_LESIONS = (Lesion(), Lesion("Node", (CENTRE_LPS[0] - 11, CENTRE_LPS[1] + 10, 38.0), box_mm=(6, 6, 6), hu=150))


@dataclass(frozen=True)
class PhantomStudy:
    """What was written, and what is true about it.

    Attributes:
        folder: Holds ct/*.dcm, rtstruct.dcm and seg.dcm.
        ct_paths: In the order of k; one path for a multi-frame CT.
        rtstruct_path: None when not written.
        seg_path: None when not written.
        centroids: Lesion name -> LPS millimetres.
        voxels_hu: (K, J, I) float32, as stored.
        affine: (4, 4), maps (i, j, k, 1) to LPS millimetres.
        masks: Lesion name -> (K, J, I).
    """

    folder: Path
    ct_paths: tuple[Path, ...]
    rtstruct_path: Path | None
    seg_path: Path | None
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    centroids: dict[str, Point]
    voxels_hu: NDArray[np.float32]
    affine: NDArray[np.float64]
    masks: dict[str, NDArray[np.bool_]]


def phantom_grid(
    shape_kji: tuple[int, int, int], spacing_mm: Point, orientation: Orientation | str, *, centre: Point = CENTRE_LPS
) -> Grid:
    """A grid whose voxel shape // 2 lies at `centre`; spacing along columns, rows, slices (dx, dy, dz)."""
    row, column = (np.asarray(v, float) for v in _ROW_AND_COLUMN_DIRECTIONS[Orientation(orientation)])
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([row, column, np.cross(row, column)], axis=1) * np.asarray(spacing_mm)
    matrix[:3, 3] = np.asarray(centre) - matrix[:3, :3] @ (np.asarray(shape_kji)[::-1] // 2)
    return Grid.from_matrix(shape_kji, matrix)


@made_once
def write_study(
    folder: Path,
    *,
    shape_kji: tuple[int, int, int] = (20, 32, 32),
    spacing_mm: Point = (1.5, 1.5, 2.5),
    orientation: Orientation | str = Orientation.AXIAL,
    lesions: Sequence[Lesion] = DEFAULT_LESIONS,
    rtstruct: bool = True,
    seg: bool | str = True,
    seed: int = 0,
    transfer_syntax: str = ExplicitVRLittleEndian,
    rescale: Rescale | Sequence[Rescale] = (1.0, -1024.0),
    patient_name: str = "PHANTOM^TEST",
    patient_id: str = "PHANTOM-1",
) -> PhantomStudy:
    """Write a study; equal arguments give equal UIDs and voxels, so it is made once and then copied.

    Args:
        folder: Made if absent.
        shape_kji: Slices, rows, columns.
        spacing_mm: Between columns, rows, slices.
        orientation: One of ORIENTATIONS.
        lesions: Painted in order over soft tissue with noise.
        rtstruct: Write an RTSTRUCT.
        seg: True (BINARY), False, or BINARY, FRACTIONAL, LABELMAP.
        seed: UIDs and noise follow from it.
        transfer_syntax: Of the CT; anything that pydicom encodes.
        rescale: (slope, intercept), or one pair per slice.
        patient_name: PN.
        patient_id: LO.
    """
    grid = phantom_grid(shape_kji, spacing_mm, orientation)
    tags = StudyTags(f"tests {seed} {shape_kji} {orientation}", patient_name, patient_id)
    pairs: list[Rescale] = [(p[0], p[1]) for p in np.broadcast_to(np.asarray(rescale, float), (shape_kji[0], 2))]
    centres = {lesion.name: _nearest_voxel_lps(grid, lesion.centre_lps) for lesion in lesions}
    masks = {lesion.name: _mask(lesion, centres[lesion.name], grid) for lesion in lesions}
    voxels = np.random.default_rng(seed).integers(20, 60, shape_kji, dtype=np.int16).astype(np.float32)
    for lesion in lesions:
        voxels[masks[lesion.name]] = lesion.hu
    for slice_hu, (slope, intercept) in zip(voxels, pairs, strict=True):
        slice_hu[:] = np.rint((slice_hu - intercept) / slope) * slope + intercept  # what the file can hold

    ct = ct_datasets(voxels, grid, tags, rescale=pairs)
    folder.mkdir(parents=True, exist_ok=True)
    rtstruct_path = seg_path = None
    if rtstruct:
        rois = [_contours(x, centres[x.name], grid) for x in lesions if x.in_rtstruct]
        rtstruct_path = folder / "rtstruct.dcm"
        rtstruct_dataset(rois, ct, tags).save_as(rtstruct_path, enforce_file_format=True)
    if seg:
        drawn = {x.name: masks[x.name] for x in lesions if x.in_seg}
        seg_path = folder / "seg.dcm"
        seg_dataset(drawn, ct, tags, kind="BINARY" if seg is True else str(seg)).save_as(seg_path)
    paths = _save_ct(ct, folder / "ct", transfer_syntax)
    return PhantomStudy(
        folder=folder,
        ct_paths=paths,
        rtstruct_path=rtstruct_path,
        seg_path=seg_path,
        study_uid=tags.study_uid,
        series_uid=ct[0].SeriesInstanceUID,
        frame_of_reference_uid=tags.frame_of_reference_uid,
        centroids=centres,
        voxels_hu=voxels,
        affine=grid.matrix,
        masks=masks,
    )


def large_study(folder: Path, *, shape_kji: tuple[int, int, int] = (300, 512, 512), n_lesions: int = 4) -> PhantomStudy:
    """A study of clinical size (0.8 x 0.8 x 1.25 mm) with balls along its long axis, RTSTRUCT only; for benchmarks."""
    dz = 1.25
    offsets = np.linspace(-0.4, 0.4, n_lesions) * shape_kji[0] * dz
    lesions = [Lesion(f"L{n}", (CENTRE_LPS[0], CENTRE_LPS[1], CENTRE_LPS[2] + z)) for n, z in enumerate(offsets)]
    return write_study(folder, shape_kji=shape_kji, spacing_mm=(0.8, 0.8, dz), lesions=lesions, seg=False)


def _save_ct(ct: Sequence[Dataset], folder: Path, transfer_syntax: str) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"{k + 1:04d}.dcm" for k in range(len(ct)))
    syntax = UID(transfer_syntax)
    for ds, path in zip(ct, paths, strict=True):
        if syntax.is_compressed and not syntax.is_deflated:
            ds.compress(syntax, generate_instance_uid=False)
            ds.save_as(path, enforce_file_format=True)
        elif syntax.is_little_endian:
            ds.file_meta.TransferSyntaxUID = syntax
            ds.save_as(path, enforce_file_format=True)
        else:
            stored = np.frombuffer(ds.PixelData, "<u2")
            ds.PixelData = stored.astype(">u2").tobytes()
            ds.file_meta.TransferSyntaxUID = syntax
            ds.save_as(path, enforce_file_format=True)
    return paths


def _nearest_voxel_lps(grid: Grid, lps: Point) -> Point:
    ijk = np.rint(np.linalg.solve(grid.matrix, [*lps, 1.0])[:3])
    x, y, z = (grid.matrix @ [*ijk, 1.0])[:3]
    return float(x), float(y), float(z)


def _mask(lesion: Lesion, centre: Point, grid: Grid) -> NDArray[np.bool_]:
    k, j, i = np.ogrid[tuple(slice(n) for n in grid.shape)]
    centre_ijk = np.rint(np.linalg.solve(grid.matrix, [*centre, 1.0])[:3])
    dx, dy, dz = ((n - c) * s for n, c, s in zip((i, j, k), centre_ijk, grid.spacing_mm, strict=True))
    if lesion.box_mm is None:
        return np.asarray(dx**2 + dy**2 + dz**2 <= lesion.radius_mm**2)
    i_inside, j_inside, k_inside = (np.abs(d) <= size / 2 for d, size in zip((dx, dy, dz), lesion.box_mm, strict=True))
    return np.asarray(i_inside & j_inside & k_inside)


def _contours(lesion: Lesion, centre: Point, grid: Grid) -> RoiContours:
    u, v, n = (grid.matrix[:3, axis] / grid.spacing_mm[axis] for axis in range(3))
    half = lesion.radius_mm if lesion.box_mm is None else lesion.box_mm[2] / 2
    steps = int(half / grid.spacing_mm[2])
    contours = []
    for step in range(-steps, steps + 1):
        height = step * grid.spacing_mm[2]
        middle = np.asarray(centre) + height * n
        if lesion.box_mm is not None:
            a, b = lesion.box_mm[0] / 2 * u, lesion.box_mm[1] / 2 * v
            contours.append(np.stack([middle - a - b, middle + a - b, middle + a + b, middle - a + b]))
        elif (radius := np.sqrt(lesion.radius_mm**2 - height**2)) > 0:
            x, y, z = middle
            contours.append(ellipse_lps((x, y, z), radius * u, radius * v))
    return RoiContours(lesion.name, tuple(contours))
