"""Several acquisitions in one series -> one list of slices each, where they are cleanly separable."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from fmcib_module.core.domain import Instance
from fmcib_module.core.stacking import (
    SAME_POSITION_MM,
    alike_in_plane,
    irregularity,
    sorted_along_normal,
    stack_slices,
    why_not_one_volume,
    why_not_stackable,
)

Part = list[Instance]

MIN_SLICES: Final = 2
"""A part of one slice is not an acquisition of a volume."""


@dataclass(frozen=True, slots=True)
class LabelledSlice:
    """A slice, and what may tell its acquisition from others in its series.

    Attributes:
        instance: The slice.
        labels: (attribute, value) pairs, the surest sign of an acquisition first.
    """

    instance: Instance
    labels: tuple[tuple[str, str], ...]


def split_acquisitions(slices: Sequence[LabelledSlice]) -> list[Part]:
    """Split a series' slices into acquisitions.

    Slices of different shape, pixel spacing or orientation are never one volume and always split. Those that agree
    are split only where they are not one volume together and an attribute, or the order of their instance numbers,
    separates them: scanners also count acquisitions within one volume. Parts that do not overlap along the normal
    are one scan with a gap, unless they are spaced differently.

    Returns:
        Parts in order of acquisition and instance number, slices sorted along the normal. One part where nothing
        separates them: then the geometry check refuses the series and names the slice.
    """
    labels = {_key(s.instance): dict(s.labels) for s in slices}
    names = tuple(dict.fromkeys(name for s in slices for name, _ in s.labels))
    in_order = sorted(slices, key=lambda s: (s.instance.instance_number, _key(s.instance)))
    parts = [
        part
        for group in alike_in_plane([s.instance for s in in_order])
        for part in _split_group(group, [_value_of(name, labels) for name in names])
    ]
    return sorted((list(sorted_along_normal(part)) for part in parts), key=_order)


def _split_group(group: Part, labels: Sequence[Callable[[Instance], str]]) -> list[Part]:
    if why_not_one_volume(group, "") is None:
        return [group]
    candidates = [_parts_by(group, label) for label in labels]
    candidates.append(_parts_by_rank(group))
    # Where positions repeat, a phase that misses a slice is refused alone, not with the others.
    repeats = why_not_stackable(group, "") is not None
    for is_good in (_is_regular, _is_stackable) if repeats else (_is_regular,):
        for parts in candidates:
            if len(parts) > 1 and all(is_good(part) for part in parts) and not _is_one_scan_with_a_gap(parts):
                return parts
    return [group]


def _parts_by(group: Part, label: Callable[[Instance], str]) -> list[Part]:
    parts: dict[str, Part] = defaultdict(list)
    for instance in group:
        parts[label(instance)].append(instance)
    return list(parts.values())


def _parts_by_rank(group: Part) -> list[Part]:
    """The first slice at every position, the second at every position, and so on, by instance number.

    Empty unless every position has as many slices and the numbers of two parts differ by one constant, as where one
    acquisition follows another or where phases alternate.
    """
    at_position: list[Part] = []
    normal = np.cross(group[0].orientation[:3], group[0].orientation[3:])
    previous = -np.inf
    for instance in sorted_along_normal(group):
        distance = float(np.dot(instance.position_mm, normal))
        if distance - previous < SAME_POSITION_MM:
            at_position[-1].append(instance)
        else:
            at_position.append([instance])
        previous = distance
    if len({len(here) for here in at_position}) != 1:
        return []
    ranked = [sorted(here, key=lambda s: s.instance_number) for here in at_position]
    offsets = {tuple(np.diff([s.instance_number for s in here]).tolist()) for here in ranked}
    if len(offsets) != 1 or 0 in next(iter(offsets)):
        return []
    return [list(part) for part in zip(*ranked, strict=True)]


def _is_regular(part: Part) -> bool:
    return _is_stackable(part) and irregularity(stack_slices(part, "")) is None


def _is_stackable(part: Part) -> bool:
    return len(part) >= MIN_SLICES and why_not_stackable(part, "") is None


def _is_one_scan_with_a_gap(parts: Iterable[Part]) -> bool:
    """Whether parts follow each other along the normal with the same step, so that slices between them are missing."""
    stacks = [stack_slices(part, "") for part in parts]
    normal = stacks[0].normal
    extents = sorted(
        (float(np.dot(s.instances[0].position_mm, normal)), float(np.dot(s.instances[-1].position_mm, normal)))
        for s in stacks
    )
    apart = all(below[1] < above[0] for below, above in pairwise(extents))
    few = any(len(s.instances) < MIN_SLICES + 1 for s in stacks)
    steps = [s.step_mm for s in stacks]
    return apart and (few or max(steps) - min(steps) < 0.1 * min(steps))


def _value_of(name: str, labels: dict[tuple[str, int, str], dict[str, str]]) -> Callable[[Instance], str]:
    return lambda instance: labels[_key(instance)].get(name, "")


def _key(instance: Instance) -> tuple[str, int, str]:
    return instance.sop_instance_uid, instance.frame or 0, str(instance.path)


def _order(part: Part) -> tuple[int, int, tuple[str, int, str]]:
    acquisition = min(s.acquisition_number or 0 for s in part)
    return acquisition, min(s.instance_number for s in part), _key(part[0])
