"""Volume + Seed -> Picture: what a reader looks at to see whether a patch was cut where the lesion is.

Four panels in true patient millimetres, none of them resampled by the preprocessing: an overview of the slice, and the
axial, coronal and sagittal plane through the seed, a little wider than the patch. Left and right are as radiologists
look at CT (the patient's left is on the right), superior and anterior are up. Only slices under the patch are read.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.conventions import PATCH_SIZE, Mode
from fmcib_module.core.domain import Seed
from fmcib_module.core.patch import PatchPlan, plan_patch
from fmcib_module.core.picture_window import Window, choose_window
from fmcib_module.core.plane_sampling import Mask, PartialScan, PlaneSamples
from fmcib_module.core.volume import Grid, Volume

PANEL_PIXELS: Final = 240
"""Edge of every panel; four of them fill the width of a page."""

MARGIN_MM: Final = 5.0
"""What the planes show around the patch."""

Box = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Lower and upper corner, LPS mm."""


@dataclass(frozen=True, slots=True)
class Plane:
    """How a panel lies in the patient.

    Attributes:
        name: As readers call it.
        across: LPS axis towards the right of the panel; always ascending.
        down: LPS axis that runs down.
        down_sign: 1 where it ascends downwards (posterior), -1 where it descends (superior is up).
        letters: What lies at the left, right, top and bottom edge.
    """

    name: str
    across: int
    down: int
    down_sign: int
    letters: tuple[str, str, str, str]

    @property
    def normal(self) -> int:
        """LPS axis out of the panel."""
        return 3 - self.across - self.down


AXIAL: Final = Plane("axial", 0, 1, 1, ("R", "L", "A", "P"))
CORONAL: Final = Plane("coronal", 0, 2, -1, ("R", "L", "S", "I"))
SAGITTAL: Final = Plane("sagittal", 1, 2, -1, ("A", "P", "S", "I"))


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One square of the picture; positions are (x, y) in pixels, pixel centres at whole numbers.

    Attributes:
        plane: How it lies in the patient.
        is_overview: Whether it shows the whole slice instead of the patch's surroundings.
        samples: (PANEL_PIXELS, PANEL_PIXELS) of the scan and the ROI.
        cross_xy: The seed.
        frame: Left, top, right and bottom edge of the patch.
        pixels_per_mm: Scale, the same in both directions.
    """

    plane: Plane
    is_overview: bool
    samples: PlaneSamples
    cross_xy: tuple[float, float]
    frame: tuple[float, float, float, float]
    pixels_per_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What the writer draws.

    Attributes:
        panels: Overview, axial, coronal, sagittal.
        window: How Hounsfield units become grey.
        seed: Where it is.
    """

    panels: tuple[Panel, ...]
    window: Window
    seed: Seed


def make_picture(volume: Volume, seed: Seed, mode: Mode, mask: Mask | None = None) -> Picture:
    """Cut the four panels of a lesion.

    Args:
        volume: The scan that the patch was cut from.
        seed: Lesion centre, LPS millimetres.
        mode: How its patch was cut; decides where the frame is.
        mask: The ROI on the volume's grid; None draws no outline.

    Raises:
        SeedOutsideVolumeError: As for the patch itself.
    """
    plan = plan_patch(volume.grid, seed, mode=mode, series_uid=volume.series_uid)
    first, stop = int(plan.box_first[2]), int(plan.box_stop[2])
    scan = PartialScan(volume, first, stop, mask)
    frame = patch_frame(volume.grid, plan)
    whole, around = _cube(scan_box(volume.grid), 0.0), _cube(frame, MARGIN_MM)
    overview = _cut_panel(scan, _slice_plane(volume.grid), whole, seed, frame, is_overview=True)
    planes = tuple(
        _cut_panel(scan, plane, around, seed, frame, is_overview=False) for plane in (AXIAL, CORONAL, SAGITTAL)
    )
    return Picture((overview, *planes), choose_window(_seen(planes), _seen(planes, middle_only=True)), seed)


def patch_frame(grid: Grid, plan: PatchPlan) -> Box:
    """Where the patch's outer faces truly lie in the patient, the shift of the published sampling included."""
    to_lps = grid.matrix @ plan.to_source
    start = plan.first - plan.at
    faces = np.array([[*(start - 0.5), 1.0], [*(start + PATCH_SIZE - 0.5), 1.0]]) @ to_lps.T
    return np.min(faces[:, :3], axis=0), np.max(faces[:, :3], axis=0)


def scan_box(grid: Grid) -> Box:
    """The box along the patient's axes that holds all of the scan's voxels."""
    k, j, i = grid.shape
    corners = np.array(
        [[x, y, z, 1.0] for x in (-0.5, i - 0.5) for y in (-0.5, j - 0.5) for z in (-0.5, k - 0.5)]
    ) @ np.asarray(grid.matrix.T)
    return corners[:, :3].min(axis=0), corners[:, :3].max(axis=0)


def _cube(box: Box, margin_mm: float) -> Box:
    """The cube around a box, so that all panels have one scale."""
    middle, half = (box[0] + box[1]) / 2, float(np.max(box[1] - box[0])) / 2 + margin_mm
    return middle - half, middle + half


def _slice_plane(grid: Grid) -> Plane:
    """The plane that is closest to the scan's own slices."""
    normal = np.abs(np.cross(grid.matrix[:3, 0], grid.matrix[:3, 1]))
    return {2: AXIAL, 1: CORONAL, 0: SAGITTAL}[int(np.argmax(normal))]


def _seen(panels: tuple[Panel, ...], *, middle_only: bool = False) -> NDArray[np.float32]:
    """Values that the planes show of the scan, or of the middle third of each."""
    third = PANEL_PIXELS // 3
    part = slice(third, 2 * third) if middle_only else slice(None)
    shown = [(p.samples.hu, ~(p.samples.outside | p.samples.unread)) for p in panels]
    return np.concatenate([hu[part, part][known[part, part]] for hu, known in shown])


def _cut_panel(scan: PartialScan, plane: Plane, view: Box, seed: Seed, frame: Box, *, is_overview: bool) -> Panel:
    """The plane through the seed inside a cube."""
    lower, upper = view
    pixels_per_mm = PANEL_PIXELS / float(upper[plane.across] - lower[plane.across])
    top_mm = float((lower if plane.down_sign > 0 else upper)[plane.down])

    def to_pixel(lps_mm: NDArray[np.float64]) -> tuple[float, float]:
        x = (lps_mm[plane.across] - lower[plane.across]) * pixels_per_mm - 0.5
        y = (lps_mm[plane.down] - top_mm) * plane.down_sign * pixels_per_mm - 0.5
        return float(x), float(y)

    corner, steps = np.array(seed.lps_mm), np.zeros((2, 3))
    corner[plane.across] = lower[plane.across] + 0.5 / pixels_per_mm
    corner[plane.down] = top_mm + plane.down_sign * 0.5 / pixels_per_mm
    steps[0, plane.down] = plane.down_sign / pixels_per_mm
    steps[1, plane.across] = 1 / pixels_per_mm
    samples = scan.sample(corner, steps, PANEL_PIXELS)
    (x0, y0), (x1, y1) = to_pixel(frame[0]), to_pixel(frame[1])
    return Panel(
        plane=plane,
        is_overview=is_overview,
        samples=samples,
        cross_xy=to_pixel(np.array(seed.lps_mm)),
        frame=(x0, min(y0, y1), x1, max(y0, y1)),
        pixels_per_mm=pixels_per_mm,
    )
