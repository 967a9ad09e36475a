"""Slice positions and orientations -> one uniform Grid, or an error that names the slice that breaks it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.domain import Instance
from fmcib_module.core.errors import NotOneVolumeError
from fmcib_module.core.volume import Grid

POSITION_TOLERANCE_MM: Final = 0.1
"""How far a slice may lie from its place on the grid: scanners write positions rounded to 0.01..0.1 mm."""

POSITION_TOLERANCE_STEPS: Final = 0.25
"""The same in slice steps, for steps under 0.4 mm; a missing slice moves its neighbours by half a step or more."""

SAME_POSITION_MM: Final = 0.01
"""Slices nearer than this lie at one position: no CT is reconstructed at 0.01 mm."""

TILT_TOLERANCE: Final = 1e-3
"""Sideways shift per mm along the normal that is rounding of ImageOrientationPatient (3 to 4 decimals), not a tilt.
The smallest gantry tilts in use are 0.5 degrees, 9e-3."""

ORIENTATION_TOLERANCE: Final = 1e-3
"""Largest difference between direction cosines that are the same direction, or from a right angle and unit length."""

PIXEL_SPACING_TOLERANCE: Final = 1e-3
"""Largest relative difference between pixel spacings that are the same: they are written with 4 or more digits."""

_RESAMPLE_FIX = "supply the complete series, or set `irregular: resample` to interpolate and flag the result"


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Slices of one shape, pixel spacing and orientation, each at its own position, sorted along the normal.

    Attributes:
        instances: The slices.
        row: Unit vector of increasing column index, LPS.
        column: Unit vector of increasing row index, LPS, orthogonal to `row`.
        normal: `row` x `column`.
        distances_mm: (K,) ascending positions along the normal, 0 for the first slice.
        shifts_mm: (K, 2) sideways shift against the first slice, along `row` and `column`; zero unless tilted.
        series_uid: For messages.
    """

    instances: tuple[Instance, ...]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    normal: NDArray[np.float64]
    distances_mm: NDArray[np.float64]
    shifts_mm: NDArray[np.float64]
    series_uid: str

    @property
    def gaps_mm(self) -> NDArray[np.float64]:
        """(K - 1,) distances between neighbours."""
        return np.diff(self.distances_mm)

    @property
    def step_mm(self) -> float:
        """The usual distance between neighbours: the (lower) median, which gaps do not move."""
        gaps = np.sort(self.gaps_mm)
        return float(gaps[(len(gaps) - 1) // 2])


def sorted_along_normal(instances: Sequence[Instance]) -> tuple[Instance, ...]:
    """Sort slices by position along the first one's normal; ties by UID, frame and path, so input order is no matter.

    The normal is row x column (PS3.3 C.7.6.2.1.1), so k rises with it and the grid is right-handed.
    """
    if not instances:
        return ()
    first = min(instances, key=lambda s: (s.sop_instance_uid, s.frame or 0, str(s.path)))
    normal = _directions(first)[2]
    return tuple(
        sorted(
            instances,
            key=lambda s: (float(np.dot(s.position_mm, normal)), s.sop_instance_uid, s.frame or 0, str(s.path)),
        )
    )


def stack_slices(instances: Sequence[Instance], series_uid: str) -> Stack:
    """Check that slices can be stacked, and measure where they lie.

    Raises:
        NotOneVolumeError: No slice, a malformed orientation, slices that differ in shape, pixel spacing or
            orientation, or two slices at one position; the message names the slice.
    """
    if not instances:
        raise NotOneVolumeError(
            "the series has no slices", f"SeriesInstanceUID {series_uid}", "supply its CT slices with their geometry"
        )
    slices = sorted_along_normal(instances)
    problem = _first_misfit(slices, series_uid)
    if problem is not None:
        raise problem
    row, column, normal = _directions(slices[0])
    offsets = np.asarray([s.position_mm for s in slices]) - np.asarray(slices[0].position_mm)
    distances = offsets @ normal
    problem = _first_repeat(slices, distances, series_uid)
    if problem is not None:
        raise problem
    return Stack(
        instances=slices,
        row=row,
        column=column,
        normal=normal,
        distances_mm=distances,
        shifts_mm=np.stack([offsets @ row, offsets @ column], axis=1),
        series_uid=series_uid,
    )


def uniform_grid(stack: Stack) -> Grid:
    """Lay a uniform grid through a stack.

    The k column is the normal times the mean spacing from the first to the last slice; SliceThickness is used only
    where there is one slice, because it often differs from the spacing.

    Raises:
        NotOneVolumeError: Gantry tilt, a missing slice, uneven spacing, or one slice without SliceThickness.

    References:
        DICOM PS3.3 equation C.7.6.2.1-1.
    """
    problem = irregularity(stack)
    if problem is not None:
        raise problem
    count = len(stack.instances)
    first = stack.instances[0]
    spacing = first.slice_thickness_mm if count == 1 else float(stack.distances_mm[-1]) / (count - 1)
    assert spacing is not None  # irregularity() refuses one slice without a thickness
    return grid_through(stack, step_mm=spacing, slices=count)


def grid_through(stack: Stack, *, step_mm: float, slices: int) -> Grid:
    """The grid that starts at the stack's first voxel and has `slices` slices every `step_mm` along the normal."""
    first = stack.instances[0]
    between_rows, between_columns = first.spacing_mm
    matrix = np.eye(4)
    matrix[:3, 0] = stack.row * between_columns
    matrix[:3, 1] = stack.column * between_rows
    matrix[:3, 2] = stack.normal * step_mm
    matrix[:3, 3] = first.position_mm
    return Grid.from_matrix((slices, *first.shape), matrix)


def irregularity(stack: Stack) -> NotOneVolumeError | None:
    """Why a stack is not one uniform grid, naming the slice, what was expected and what was found; None if it is."""
    if len(stack.instances) == 1:
        thickness = stack.instances[0].slice_thickness_mm
        if thickness is not None and thickness > 0:
            return None
        what = "the series is one slice without SliceThickness: its extent along the normal is not known"
        return NotOneVolumeError(what, _where(stack.instances[0], stack.series_uid), "supply the complete series")
    return _tilt(stack) or _uneven_spacing(stack)


def is_tilted(stack: Stack) -> bool:
    """Whether slices shift sideways along the stack (gantry tilt)."""
    return _tilt(stack) is not None


def is_unevenly_spaced(stack: Stack) -> bool:
    """Whether distances between slices differ (a missing slice, several spacings)."""
    return len(stack.instances) > 1 and _uneven_spacing(stack) is not None


def why_not_one_volume(instances: Sequence[Instance], series_uid: str) -> NotOneVolumeError | None:
    """The first reason that keeps slices from being one uniform grid, without raising it; None if they are one."""
    slices = sorted_along_normal(instances)
    if not slices:
        return None
    return why_not_stackable(slices, series_uid) or irregularity(stack_slices(slices, series_uid))


def why_not_stackable(instances: Sequence[Instance], series_uid: str) -> NotOneVolumeError | None:
    """As `why_not_one_volume`, but gaps and tilts, which can be resampled, are no reason."""
    slices = sorted_along_normal(instances)
    if (problem := _first_misfit(slices, series_uid)) is not None:
        return problem
    distances = np.asarray([s.position_mm for s in slices]) @ _directions(slices[0])[2]
    return _first_repeat(slices, distances, series_uid)


def in_plane_difference(a: Instance, b: Instance) -> str:
    """How slice b differs from slice a in shape, pixel spacing or orientation; empty where only by rounding."""
    if (a.shape, a.spacing_mm, a.orientation) == (b.shape, b.spacing_mm, b.orientation):
        return ""  # nearly always, and there are thousands of slices
    if a.shape != b.shape:
        return f"Rows and Columns expected {a.shape}, found {b.shape}"
    if any(abs(p - q) > PIXEL_SPACING_TOLERANCE * abs(p) for p, q in zip(a.spacing_mm, b.spacing_mm, strict=True)):
        return f"PixelSpacing expected {a.spacing_mm}, found {b.spacing_mm} mm"
    if any(abs(p - q) > ORIENTATION_TOLERANCE for p, q in zip(a.orientation, b.orientation, strict=True)):
        return f"ImageOrientationPatient expected {a.orientation}, found {b.orientation}"
    return ""


def alike_in_plane(slices: Sequence[Instance]) -> list[list[Instance]]:
    """Group slices by shape, pixel spacing and orientation, in the order of first appearance."""
    groups: list[list[Instance]] = []
    for s in slices:
        group = next((g for g in groups if not in_plane_difference(g[0], s)), None)
        if group is None:
            groups.append([s])
        else:
            group.append(s)
    return groups


def _directions(instance: Instance) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Unit row, column and normal; the column direction is made exactly orthogonal (decimals are rounded)."""
    row = np.asarray(instance.orientation[:3], dtype=np.float64)
    column = np.asarray(instance.orientation[3:], dtype=np.float64)
    row = row / (float(np.linalg.norm(row)) or 1.0)
    column = column - row * float(row @ column)
    column = column / (float(np.linalg.norm(column)) or 1.0)
    return row, column, np.cross(row, column)


def _first_misfit(slices: Sequence[Instance], series_uid: str) -> NotOneVolumeError | None:
    first = slices[0]
    row, column = np.asarray(first.orientation[:3]), np.asarray(first.orientation[3:])
    errors = (np.linalg.norm(row) - 1, np.linalg.norm(column) - 1, row @ column)
    if not all(abs(float(e)) <= ORIENTATION_TOLERANCE for e in errors):
        what = f"ImageOrientationPatient {first.orientation} is not two unit vectors at a right angle"
        return NotOneVolumeError(what, _where(first, series_uid), "export the series again from its source")
    if min(first.spacing_mm) <= 0:
        what = f"PixelSpacing is {first.spacing_mm} mm, expected two positive numbers"
        return NotOneVolumeError(what, _where(first, series_uid), "export the series again from its source")
    usual, *others = sorted(alike_in_plane(slices), key=len, reverse=True)
    if others:
        odd = others[0][0]
        what = f"slices differ: {in_plane_difference(usual[0], odd)}"
        return NotOneVolumeError(what, _where(odd, series_uid), "keep one kind of slice per series")
    return None


def _first_repeat(
    slices: Sequence[Instance], distances: NDArray[np.float64], series_uid: str
) -> NotOneVolumeError | None:
    gaps = np.diff(distances)
    repeats = np.flatnonzero(gaps < SAME_POSITION_MM)
    if len(repeats) == 0:
        return None
    k = int(repeats[0]) + 1
    position = tuple(round(float(v), 3) for v in slices[k].position_mm)
    if len(slices) > 1 and len(repeats) == len(gaps):
        what = f"all {len(slices)} slices lie at one position, {position} mm: they are not a volume"
    else:
        what = (
            f"two slices lie at one position, {position} mm: expected one, found this and "
            f"SOPInstanceUID {slices[k - 1].sop_instance_uid}"
        )
    return NotOneVolumeError(what, _where(slices[k], series_uid), "keep one acquisition or reconstruction per series")


def _tilt(stack: Stack) -> NotOneVolumeError | None:
    shift = np.linalg.norm(stack.shifts_mm, axis=1)
    shifted = np.flatnonzero(shift > POSITION_TOLERANCE_MM + TILT_TOLERANCE * stack.distances_mm)
    if len(shifted) == 0:
        return None
    k = int(shifted[0])
    expected = np.asarray(stack.instances[0].position_mm) + stack.normal * stack.distances_mm[k]
    degrees = np.degrees(np.arctan2(shift[k], stack.distances_mm[k]))
    what = (
        f"slices shift sideways by {degrees:.1f} degrees (gantry tilt): ImagePositionPatient expected "
        f"{_rounded(expected)}, found {_rounded(np.asarray(stack.instances[k].position_mm))} mm"
    )
    return NotOneVolumeError(what, _where(stack.instances[k], stack.series_uid), _RESAMPLE_FIX)


def _uneven_spacing(stack: Stack) -> NotOneVolumeError | None:
    count, step = len(stack.instances), stack.step_mm
    even = np.linspace(0.0, stack.distances_mm[-1], count)
    tolerance = min(POSITION_TOLERANCE_MM, POSITION_TOLERANCE_STEPS * step)
    if np.all(np.abs(stack.distances_mm - even) <= tolerance):
        return None
    gaps = stack.gaps_mm
    k = int(np.argmax(np.abs(gaps - step))) + 1
    gap = float(gaps[k - 1])
    missing = round(gap / step) - 1
    looks_missing = missing > 0 and abs(gap - (missing + 1) * step) <= 2 * POSITION_TOLERANCE_MM
    hint = f" ({missing} missing before this slice)" if looks_missing else ""
    what = f"slices are not evenly spaced: gap expected {step:.3f} mm, found {gap:.3f} mm{hint}"
    return NotOneVolumeError(what, _where(stack.instances[k], stack.series_uid), _RESAMPLE_FIX)


def _where(instance: Instance, series_uid: str) -> str:
    frame = "" if instance.frame is None else f", frame {instance.frame + 1}"
    return f"SeriesInstanceUID {series_uid}, SOPInstanceUID {instance.sop_instance_uid}{frame}"


def _rounded(point: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(v), 3) for v in point)
