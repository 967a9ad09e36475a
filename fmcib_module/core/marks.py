"""Graphics that reports draw on images or in space -> places of lesions."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.contours import compute_centroid, stack_contours
from fmcib_module.core.domain import Instance, Point

Array = NDArray[np.float64]

ELLIPSE_VERTICES: Final = 72
"""Corners of the polygon that stands for an ellipse; its centroid is the ellipse's centre."""

_POINTS_OF: Final = {"POINT": 1, "CIRCLE": 2, "ELLIPSE": 4, "ELLIPSOID": 6}
"""Graphic types with a fixed number of points (PS3.3 C.18.6.1.2, C.18.9.1.2, C.10.5.1.2)."""

_ANY_NUMBER_OF: Final = frozenset({"MULTIPOINT", "POLYLINE", "INTERPOLATED", "POLYGON"})


class Role(StrEnum):
    """What a report says that a graphic is."""

    CENTER = "center"
    LONG_AXIS = "long axis"
    OTHER = "other"


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """One graphic of a report.

    Attributes:
        graphic: Graphic Type, such as POLYLINE.
        points: (n, 2) column and row on an image, or (n, 3) LPS mm; see `pixels_to_lps`.
        role: What the report says that it is.
        image_uid: SOPInstanceUID of the image it is drawn on; empty for a graphic in space.
        frame: 1-based number of the image's frame; None where the report names none.
        frame_of_reference_uid: Of a graphic in space.
        problem: Why it cannot be used; empty where it can.
    """

    graphic: str
    points: Array
    role: Role = Role.OTHER
    image_uid: str = ""
    frame: int | None = None
    frame_of_reference_uid: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class MarkedLesion:
    """What a report groups as one lesion.

    Attributes:
        label: What the report calls it; empty where it has no name.
        marks: At least one.
    """

    label: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a lesion is.

    Attributes:
        lps_mm: Position, LPS millimetres.
        extent_mm: Size along x, y, z of all that marks the lesion; None for points.
        volume_mm3: Of outlines on several slices or of an ellipsoid; None for everything else.
        is_inside: Whether the position lies inside the outlines; True where there are none.
        directions: Directions in which outlines were drawn; only the largest stack counts.
    """

    lps_mm: Point
    extent_mm: Point | None = None
    volume_mm3: float | None = None
    is_inside: bool = True
    directions: int = 1


def why_unusable(graphic: str, points: Array) -> str:
    """What is wrong with a graphic; empty if nothing is.

    Args:
        graphic: Graphic Type.
        points: (n, 2) or (n, 3).
    """
    expected = _POINTS_OF.get(graphic)
    if expected is None and graphic not in _ANY_NUMBER_OF:
        return f"a graphic of the unknown type {graphic!r}"
    if not len(points) or (expected is not None and len(points) != expected):
        return f"a graphic of type {graphic} with {len(points)} points"
    return ""


def pixels_to_lps(points: Array, instance: Instance) -> Array:
    """Positions on an image -> LPS millimetres.

    In SCOORD (PS3.3 C.18.6) and in PIXEL units of a presentation state (PS3.3 C.10.5) alike, the outer corner of the
    image's first pixel is 0\\0 and its centre 0.5\\0.5; ImagePositionPatient is that centre (PS3.3 C.7.6.2.1.1).

    Args:
        points: (n, 2), column then row.
        instance: The image.

    Returns:
        (n, 3) LPS mm.
    """
    along_row, along_column = np.array(instance.orientation[:3]), np.array(instance.orientation[3:])
    between_rows, between_columns = instance.spacing_mm
    columns, rows = points[:, :1] - 0.5, points[:, 1:] - 0.5
    steps = columns * between_columns * along_row + rows * between_rows * along_column
    return np.asarray(np.array(instance.position_mm) + steps)


def is_within(points: Array, shape: tuple[int, int], *, tolerance: float = 0.5) -> bool:
    """Whether positions lie on an image of (rows, columns), within `tolerance` pixels."""
    most = np.array(shape[::-1]) + tolerance
    return bool(((points >= -tolerance) & (points <= most)).all())


def circle_as_ellipse(points: Array) -> Array:
    """Centre and a point of the circumference, (2, 2) -> ends of both axes, (4, 2), as an ELLIPSE has them."""
    centre, radius = points[0], float(np.linalg.norm(points[1] - points[0]))
    along_row, along_column = np.array([radius, 0.0]), np.array([0.0, radius])
    return np.array([centre - along_row, centre + along_row, centre - along_column, centre + along_column])


def middle_of_line(points: Array) -> Array:
    """Centre of a polyline, (n, 3) -> (3,), each piece weighted by its length."""
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    if len(points) < 2 or lengths.sum() == 0:
        return np.asarray(points[0])
    return np.asarray(lengths @ (points[1:] + points[:-1]) / 2 / lengths.sum())


def find_places(marks: Sequence[Mark], slice_spacing_mm: float) -> tuple[Place, ...]:
    """Where a lesion is, by the best that is known of it.

    A centre that the report names comes first, then an ellipsoid, then the area centroid of closed outlines, slice by
    slice as for an RTSTRUCT, then the middle of the long axis (the longest line where none is called so, as Pai et
    al. 2024 take it for DeepLesion), then each single point.

    Args:
        marks: Of one lesion, with points in LPS mm.
        slice_spacing_mm: Of the scan, for the volume; 0 where unknown.
    """
    extent_mm = _point(np.ptp(np.concatenate([mark.points for mark in marks]), axis=0))
    centers = [mark.points for mark in marks if mark.role is Role.CENTER]
    if centers:
        has_extent = len(centers) < len(marks)
        return (Place(_point(np.concatenate(centers).mean(axis=0)), extent_mm if has_extent else None),)
    for mark in marks:
        if mark.graphic == "ELLIPSOID":
            half_axes = np.linalg.norm(mark.points[1::2] - mark.points[::2], axis=1) / 2
            volume = float(4 / 3 * np.pi * half_axes.prod())
            return (Place(_point(mark.points.mean(axis=0)), extent_mm, volume),)
    outlines = [outline for mark in marks if (outline := _outline(mark)) is not None]
    area = _place_of_area(outlines, extent_mm, slice_spacing_mm)
    if area is not None:
        return (area,)
    lines = [mark for mark in marks if mark.graphic not in ("POINT", "MULTIPOINT")]
    if lines:
        axis = max(lines, key=lambda mark: (mark.role is Role.LONG_AXIS, _length_mm(mark.points)))
        return (Place(_point(middle_of_line(axis.points)), extent_mm),)
    return tuple(Place(_point(point)) for mark in marks for point in mark.points)


def _place_of_area(outlines: Sequence[Array], extent_mm: Point, slice_spacing_mm: float) -> Place | None:
    stacks = stack_contours(outlines, keep_duplicates=False, slice_spacing_mm=slice_spacing_mm) if outlines else ()
    found = compute_centroid(stacks[0]) if stacks else None
    if found is None:
        return None
    is_volume = bool(stacks[0].spacing_mm) and len(stacks[0].planes) > 1
    volume = found.volume_mm3 if is_volume else None
    return Place(found.lps_mm, extent_mm, volume, found.is_inside, len(stacks))


def _outline(mark: Mark) -> Array | None:
    """The polygon that a graphic encloses, (n, 3) LPS mm; None for points and lines."""
    if mark.graphic == "ELLIPSE":
        centre = mark.points.mean(axis=0)
        angle = np.linspace(0, 2 * np.pi, ELLIPSE_VERTICES, endpoint=False)[:, None]
        major, minor = (mark.points[1::2] - mark.points[::2]) / 2
        return np.asarray(centre + np.cos(angle) * major + np.sin(angle) * minor)
    is_closed = len(mark.points) > 3 and np.array_equal(mark.points[0], mark.points[-1])
    if mark.graphic == "POLYGON" or (mark.graphic in ("POLYLINE", "INTERPOLATED") and is_closed):
        return mark.points
    return None


def _length_mm(points: Array) -> float:
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def _point(values: Array) -> Point:
    x, y, z = values
    return float(x), float(y), float(z)
