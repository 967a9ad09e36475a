"""One point of a seed table, whatever the table's format."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fmcib_module.core.conventions import FARTHEST_MM
from fmcib_module.core.domain import Point

COORDINATES = ("coordX", "coordY", "coordZ")
"""Names of the coordinates in MHub's coords.schema.json and in the published seed tables; LPS millimetres."""


@dataclass(frozen=True, slots=True)
class PointRow:
    """A point, or why it is none.

    Attributes:
        place: Where in the file, in the file's own words.
        label: Empty where it has none.
        series_name: SeriesInstanceUID or file name that the row says it belongs to; empty where it does not say.
        lps_mm: None where it is not usable.
        problem: Why it is not usable.
    """

    place: str
    label: str = ""
    series_name: str = ""
    lps_mm: Point | None = None
    problem: str = ""


def json_point(item: Mapping[str, object]) -> Point:
    """The coordinates of a JSON object, checked as MHub's coords.schema.json does.

    Raises:
        ValueError: In the schema validator's words.
    """
    for name in COORDINATES:
        if name not in item:
            msg = f"{name!r} is a required property"
            raise ValueError(msg)
    return json_triple([item[name] for name in COORDINATES])


def json_triple(values: object) -> Point:
    """Three JSON numbers.

    Raises:
        ValueError: They are not three finite numbers.
    """
    if not isinstance(values, list) or len(values) != 3:
        msg = f"{values!r} is not three numbers"
        raise ValueError(msg)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            msg = f"{value!r} is not of type 'number'"
            raise ValueError(msg)
    return _finite(values)


def text_triple(values: Sequence[str]) -> Point:
    """Three numbers written as text.

    Raises:
        ValueError: One is not a finite number.
    """
    numbers = []
    for value in values:
        try:
            numbers.append(float(value))
        except ValueError:
            msg = f"{value!r} is not a number"
            raise ValueError(msg) from None
    return _finite(numbers)


def _finite(values: Sequence[float]) -> Point:
    try:
        x, y, z = (float(value) for value in values)
    except OverflowError:
        msg = "a whole number too large for a coordinate"
        raise ValueError(msg) from None
    for value in (x, y, z):
        if not math.isfinite(value):
            msg = f"{value} is not finite"
            raise ValueError(msg)
        if abs(value) >= FARTHEST_MM:
            msg = f"{value:g} is no coordinate in millimetres"
            raise ValueError(msg)
    return x, y, z
