"""3D Slicer markups (.mrk.json, .fcsv) -> points in LPS millimetres."""

import csv
from collections.abc import Iterator
from typing import Any

from fmcib_module.adapters.point_rows import PointRow, json_triple, text_triple
from fmcib_module.core.domain import Point

FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
"""Columns of a .fcsv that does not name them (Slicer 4)."""

_TO_LPS = {"LPS": 1.0, "1": 1.0, "RAS": -1.0, "0": -1.0}
_UNITS_MM = {"mm": 1.0, "um": 1e-3, "cm": 10.0, "m": 1000.0}


def markup_rows(document: dict[str, Any], stem: str) -> Iterator[PointRow]:
    """The points of a markups file.

    Fiducials give one point per control point; a Line (a RECIST diameter) its midpoint, an ROI box its centre. Curves,
    planes and angles have no lesion's centre and are refused one by one. Points that are not `defined` (undefined,
    preview, missing) are refused too.

    Args:
        document: The parsed JSON, which has a list "markups".
        stem: Name for a line or box that has none.
    """
    for n, markup in enumerate(document["markups"]):
        place = f"markups[{n}]"
        if not isinstance(markup, dict):
            yield PointRow(place, problem=f"{markup!r} is not of type 'object'")
            continue
        name = str(markup.get("name") or stem)
        kind = str(markup.get("type", "Fiducial"))
        if kind == "Fiducial":
            yield from _fiducials(markup, place)
        elif kind == "Line":
            yield _line(markup, place, name)
        elif kind == "ROI":
            yield _box(markup, place, name)
        else:
            reason = f"a markup of type {kind} has no centre of a lesion; use Fiducial, Line or ROI"
            yield PointRow(place, name, problem=reason)


def fcsv_rows(text: str) -> Iterator[PointRow]:
    """The points of a .fcsv file; without a header that says otherwise, positions are RAS (Slicer's default)."""
    system, columns = "0", FCSV_COLUMNS
    for n, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#"):
            key, _, value = line[1:].rstrip(", \t").partition("=")
            if key.strip() == "CoordinateSystem":
                system = value.strip()
            elif key.strip() == "columns":
                columns = value.strip()
        elif line.strip(", \t"):
            names = [name.strip() for name in columns.split(",")]
            cells = dict(zip(names, next(csv.reader([line])), strict=False))
            label = cells.get("label", "").strip()
            try:
                point = text_triple([cells.get(axis, "") for axis in "xyz"])
                yield PointRow(f"row {n}", label, lps_mm=_to_lps(point, system))
            except ValueError as error:
                yield PointRow(f"row {n}", label, problem=str(error))


def _fiducials(markup: dict[str, Any], place: str) -> Iterator[PointRow]:
    points = _control_points(markup)
    if not points:
        yield PointRow(place, problem="'controlPoints' is empty")
    for n, point in enumerate(points):
        where = f"{place}.controlPoints[{n}]"
        label = str(point.get("label") or "") if isinstance(point, dict) else ""
        try:
            yield PointRow(where, label, lps_mm=_position(point, markup))
        except ValueError as error:
            yield PointRow(where, label, problem=str(error))


def _line(markup: dict[str, Any], place: str, name: str) -> PointRow:
    points = _control_points(markup)
    if len(points) != 2:
        return PointRow(place, name, problem=f"a Line has 2 control points, found {len(points)}")
    try:
        (ax, ay, az), (bx, by, bz) = (_position(point, markup) for point in points)
    except ValueError as error:
        return PointRow(place, name, problem=str(error))
    return PointRow(place, name, lps_mm=((ax + bx) / 2, (ay + by) / 2, (az + bz) / 2))


def _box(markup: dict[str, Any], place: str, name: str) -> PointRow:
    try:
        center = json_triple(markup.get("center"))
        return PointRow(place, name, lps_mm=_to_lps(center, _system(markup), _unit_mm(markup)))
    except ValueError as error:
        return PointRow(place, name, problem=f"center: {error}")


def _control_points(markup: dict[str, Any]) -> list[Any]:
    points = markup.get("controlPoints")
    return points if isinstance(points, list) else []


def _position(point: Any, markup: dict[str, Any]) -> Point:
    """Position of a control point.

    Raises:
        ValueError: It has none.
    """
    if not isinstance(point, dict):
        msg = f"{point!r} is not of type 'object'"
        raise ValueError(msg)
    status = point.get("positionStatus", "defined")
    if status != "defined":
        msg = f"positionStatus is {status!r}"
        raise ValueError(msg)
    if "position" not in point:
        msg = "'position' is a required property"
        raise ValueError(msg)
    return _to_lps(json_triple(point["position"]), _system(markup), _unit_mm(markup))


def _system(markup: dict[str, Any]) -> str:
    """LPS where the markup does not say: the default of Slicer's markups schema."""
    return str(markup.get("coordinateSystem", "LPS"))


def _unit_mm(markup: dict[str, Any]) -> float:
    """Millimetres per unit; `coordinateUnits` is a unit, or [value, scheme, meaning]."""
    unit = markup.get("coordinateUnits", "mm")
    unit = unit[0] if isinstance(unit, list) and unit else unit
    if unit not in _UNITS_MM:
        msg = f"coordinateUnits is {unit!r}, not one of {', '.join(_UNITS_MM)}"
        raise ValueError(msg)
    return _UNITS_MM[unit]


def _to_lps(point: Point, system: str, unit_mm: float = 1.0) -> Point:
    if system not in _TO_LPS:
        msg = f"CoordinateSystem is {system!r}, not LPS (1) or RAS (0)"
        raise ValueError(msg)
    sign = _TO_LPS[system] * unit_mm
    return point[0] * sign, point[1] * sign, point[2] * unit_mm
