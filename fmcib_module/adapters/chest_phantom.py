"""A made-up chest in Hounsfield units: simple shapes, a random vessel tree and noise; no patient's data.

Coordinates are LPS millimetres, origin in the middle of the chest: x to the Left, y to Posterior, z to Superior.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.domain import Point
from fmcib_module.core.volume import Grid

Voxels = NDArray[np.float32]

AIR, LUNG, FAT, MUSCLE, BLOOD, SOLID_ORGAN = -1000.0, -860.0, -100.0, 50.0, 170.0, 90.0
CORTICAL_BONE, SPONGY_BONE, DISC = 520.0, 210.0, 90.0


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """An axis-aligned ellipsoid.

    Attributes:
        centre: LPS millimetres.
        half_axes_mm: Along x, y, z.
        hu: Hounsfield units inside.
    """

    centre: Point
    half_axes_mm: Point
    hu: float


def chest_hu(grid: Grid, lesions: tuple[Ellipsoid, ...], *, seed: int = 0) -> Voxels:
    """Make the chest with its lesions, (K, J, I) float32 HU.

    Args:
        grid: Axial, identity orientation, about 360 x 360 x 200 mm around the origin.
        lesions: Painted last, before blur and noise.
        seed: Of vessels and noise.
    """
    canvas = _Canvas(grid)
    rng = np.random.default_rng(seed)
    _add_body_wall(canvas)
    _add_lungs(canvas, rng)
    _add_mediastinum(canvas)
    _add_abdomen(canvas)
    _add_spine(canvas)
    for lesion in lesions:
        canvas.ellipsoid(lesion.centre, lesion.half_axes_mm, lesion.hu)
    noise = rng.standard_normal(grid.shape, dtype=np.float32)
    return _blur(canvas.hu) + 18.0 * _blur(noise)


class _Canvas:
    """Voxels and the millimetre coordinates of their axes; every shape is painted over what is there."""

    def __init__(self, grid: Grid) -> None:
        self.hu: Voxels = np.full(grid.shape, AIR, np.float32)
        self.origin = grid.matrix[:3, 3]
        self.spacing = np.asarray(grid.spacing_mm)
        k, j, i = (np.arange(n, dtype=np.float32) for n in grid.shape)
        self.x = (self.origin[0] + i * self.spacing[0]).astype(np.float32)[None, None, :]
        self.y = (self.origin[1] + j * self.spacing[1]).astype(np.float32)[None, :, None]
        self.z = (self.origin[2] + k * self.spacing[2]).astype(np.float32)[:, None, None]

    def fill(self, inside: NDArray[np.bool_], hu: float | Voxels) -> None:
        """Paint where `inside` (broadcast to the volume) is true."""
        np.copyto(self.hu, np.float32(hu) if isinstance(hu, float) else hu, where=inside)

    def ellipsoid(self, centre: Point, half_axes_mm: Point, hu: float) -> None:
        """Paint an ellipsoid, looking only at its bounding box."""
        low = np.floor((np.subtract(centre, half_axes_mm) - self.origin) / self.spacing).astype(int)
        high = np.ceil((np.add(centre, half_axes_mm) - self.origin) / self.spacing).astype(int) + 1
        i, j, k = (slice(max(a, 0), max(b, 0)) for a, b in zip(low, high, strict=True))
        a, b, c = half_axes_mm
        inside = (
            ((self.x[..., i] - centre[0]) / a) ** 2
            + ((self.y[:, j] - centre[1]) / b) ** 2
            + ((self.z[k] - centre[2]) / c) ** 2
        ) <= 1
        self.hu[k, j, i][inside] = hu

    def tube(self, points: NDArray[np.float64], radius_mm: NDArray[np.float64], hu: float) -> None:
        """Paint balls along a line of (n, 3) points with (n,) radii."""
        for (x, y, z), radius in zip(points, radius_mm, strict=True):
            self.ellipsoid((float(x), float(y), float(z)), (float(radius),) * 3, hu)


def _oval(canvas: _Canvas, a: float, b: float, *, x: float = 0.0, y: float = 0.0, power: float = 2.0) -> Voxels:
    """(1, J, I) level of a superellipse in the axial plane: below 1 inside, about linear across the edge."""
    level = np.abs((canvas.x - x) / a) ** power + np.abs((canvas.y - y) / b) ** power
    return np.asarray(level ** (1 / power), np.float32)


def _add_body_wall(canvas: _Canvas) -> None:
    canvas.fill(_oval(canvas, 163, 112, power=2.5) < 1, FAT)
    wall = _oval(canvas, 146, 98, power=2.4)
    canvas.fill(wall < 1, MUSCLE)
    canvas.fill((wall < 0.985) & (wall > 0.955), FAT)  # the plane between muscle layers
    table_y = 121 - 0.0009 * canvas.x**2
    canvas.fill((np.abs(canvas.y - table_y) < 3) & (np.abs(canvas.x) < 170), -750.0)
    canvas.fill((np.abs(np.abs(canvas.y - table_y) - 3) < 1) & (np.abs(canvas.x) < 170), -200.0)
    # Ribs slope forwards and down; the ring is open at the front, where cartilage and sternum are.
    ring = _oval(canvas, 128, 87, power=2.3)
    phase = np.abs((canvas.z - 0.45 * canvas.y + 3) % 27.0 - 13.5)
    bony = (np.abs(ring - 0.985) < 0.04) & ((canvas.y > -68) | (np.abs(canvas.x) > 45))
    canvas.fill(bony & (phase < 5.5), CORTICAL_BONE)
    canvas.fill((np.abs(ring - 0.985) < 0.018) & bony & (phase < 3.5), SPONGY_BONE)
    canvas.fill((np.abs(canvas.x) < 17) & (np.abs(canvas.y + 87) < 6) & (canvas.z > -45), CORTICAL_BONE)
    canvas.fill((np.abs(canvas.x) < 14) & (np.abs(canvas.y + 87) < 3.5) & (canvas.z > -43), SPONGY_BONE)
    for side in (-1, 1):
        blade = canvas.y - 80 + 0.55 * (side * canvas.x - 95)
        within = (np.abs(side * canvas.x - 104) < 28) & (canvas.z > 15)
        canvas.fill((np.abs(blade) < 2.6) & within, CORTICAL_BONE - 120)


def _add_lungs(canvas: _Canvas, rng: np.random.Generator) -> None:
    taper = np.sqrt(np.clip(1 - ((canvas.z - (-20)) / 128) ** 2, 0.04, 1))
    chest = _oval(canvas, 119, 79, power=2.3) / taper
    canvas.fill(chest < 1, FAT)
    texture = LUNG + 25 * _blur(_blur(rng.standard_normal(canvas.hu.shape, dtype=np.float32))) - 0.35 * (79 - canvas.y)
    for side, dome_top in ((-1, -38.0), (1, -48.0)):  # the right diaphragm is the higher one
        dome = dome_top - 0.006 * (side * canvas.x - 62) ** 2 - 0.007 * (canvas.y - 5) ** 2
        medial = 24 + 6 * np.cos(canvas.y / 26) + np.where(canvas.y > 35, -6, 0)
        inside = (chest < 0.985) & (side * canvas.x > medial) & (canvas.z > dome)
        canvas.fill(inside, texture)
        canvas.fill((chest < 0.985) & (side * canvas.x > medial) & (canvas.z <= dome), MUSCLE)
        hilum = np.array([side * 34.0, 8.0, 5.0])
        for target in _lung_targets(rng, side):
            _grow_vessel(canvas, rng, hilum, target, radius_mm=4.2, generation=0)


def _lung_targets(rng: np.random.Generator, side: int) -> list[NDArray[np.float64]]:
    heights = np.linspace(-50, 75, 14)
    return [np.array([side * rng.uniform(60, 100), rng.uniform(-52, 60), z]) for z in heights]


def _grow_vessel(
    canvas: _Canvas,
    rng: np.random.Generator,
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    *,
    radius_mm: float,
    generation: int,
) -> None:
    """Paint one branch, then two or three thinner ones from places along it."""
    length = float(np.linalg.norm(end - start))
    share = np.linspace(0, 1, max(int(length / 1.2), 2))[:, None]
    bend = rng.normal(0, 0.08 * length, 3)
    points = start + share * (end - start) + np.sin(np.pi * share) * bend
    kept = [p for p in points if _is_lung(canvas, p)]
    if not kept:
        return
    line = np.array(kept)
    canvas.tube(line, np.linspace(radius_mm, 0.55 * radius_mm, len(line)), MUSCLE)
    if generation == 3:
        return
    for _ in range(3):
        at = line[int(len(line) * rng.uniform(0.35, 0.99))]
        direction = (end - start) / length + rng.normal(0, 0.55, 3)
        reach = at + direction / np.linalg.norm(direction) * length * rng.uniform(0.45, 0.7)
        _grow_vessel(canvas, rng, at, reach, radius_mm=0.62 * radius_mm, generation=generation + 1)


def _is_lung(canvas: _Canvas, point: NDArray[np.float64]) -> bool:
    i, j, k = np.rint((point - canvas.origin) / canvas.spacing).astype(int)
    shape = canvas.hu.shape
    return bool(0 <= k < shape[0] and 0 <= j < shape[1] and 0 <= i < shape[2] and canvas.hu[k, j, i] < 100)


def _add_mediastinum(canvas: _Canvas) -> None:
    canvas.ellipsoid((22, -28, -30), (54, 42, 36), BLOOD - 60)  # heart muscle
    canvas.ellipsoid((34, -20, -34), (30, 24, 22), BLOOD)  # left ventricle
    canvas.ellipsoid((-8, -40, -30), (26, 18, 26), BLOOD)  # right heart
    canvas.ellipsoid((4, 6, -14), (30, 16, 18), BLOOD)  # left atrium
    along = np.linspace(0, 1, 90)[:, None]
    ascending = np.array([-10.0, -28, -5]) + along * np.array([2.0, 2, 50])
    angle = np.pi * along
    arch = np.concatenate([4 - 13 * np.cos(angle), 4 - 31 * np.cos(angle), 45 + 17 * np.sin(angle)], axis=1)
    descending = np.array([17.0, 35, 45]) + along * np.array([-6.0, 4, -150])
    for part, radius in ((ascending, 15.0), (arch, 13.0), (descending, 12.0)):
        canvas.tube(part, np.full(90, radius), BLOOD)
    canvas.tube(np.array([-24.0, -18, 0]) + along * np.array([3.0, 2, 100]), np.full(90, 8.5), BLOOD)  # vena cava
    pulmonary = np.array([8.0, -34, 0]) + along * np.array([6.0, 36, 16])
    canvas.tube(pulmonary, np.full(90, 12.0), BLOOD)
    for x, y in ((-16.0, -12.0), (8.0, -10.0), (22.0, 4.0)):  # neck vessels
        canvas.tube(np.array([x, y, 62]) + along * np.array([0.0, 0, 45]), np.full(90, 5.5), BLOOD)
    canvas.tube(np.array([-4.0, 33, 100]) + along * np.array([2.0, 2, -190]), np.full(90, 7.0), MUSCLE)  # oesophagus
    trachea = np.array([0.0, 14, 105]) + along * np.array([0.0, 4, -80])
    for wall, hu in ((2.0, MUSCLE), (0.0, AIR)):
        canvas.tube(trachea, np.full(90, 8.5 + wall), hu)
        for side in (-1, 1):
            bronchus = trachea[-1] + along * np.array([side * 38.0, -6, -24])
            canvas.tube(bronchus, np.linspace(7.0, 4.5, 90) + wall, hu)


def _add_abdomen(canvas: _Canvas) -> None:
    below = canvas.z < -62
    canvas.fill(below & (_oval(canvas, 124, 84, power=2.3) < 0.97) & (canvas.hu > -300), FAT)
    canvas.ellipsoid((-58, 0, -105), (66, 74, 64), SOLID_ORGAN)  # liver
    canvas.ellipsoid((5, -32, -108), (62, 40, 38), SOLID_ORGAN)  # its left lobe
    canvas.ellipsoid((82, 34, -105), (34, 40, 46), SOLID_ORGAN + 15)  # spleen
    canvas.ellipsoid((66, -22, -104), (36, 34, 36), MUSCLE - 15)  # stomach
    canvas.ellipsoid((66, -40, -104), (24, 14, 26), AIR)  # its air bubble
    along = np.linspace(0, 1, 40)[:, None]
    canvas.tube(np.array([11.0, 39, -105]) + along * np.array([0.0, 0, 45]), np.full(40, 11.5), BLOOD)
    for end in ((-95.0, 20.0, -70.0), (-75.0, -35.0, -72.0), (-40.0, 25.0, -64.0)):  # hepatic veins
        canvas.tube(np.array([-26.0, 20, -66]) + along * (np.array(end) - [-26.0, 20, -66]), np.full(40, 3.2), BLOOD)


def _add_spine(canvas: _Canvas) -> None:
    disc = np.abs(canvas.z % 26.0 - 13) < 2.5
    vertebra = _oval(canvas, 19, 15, y=63)
    canvas.fill(vertebra < 1, CORTICAL_BONE)
    canvas.fill((vertebra < 0.88) & (np.abs(canvas.z % 26.0 - 13) > 3.5), SPONGY_BONE)
    canvas.fill((vertebra < 1) & disc, DISC)
    arch = _oval(canvas, 16, 13, y=85)
    canvas.fill((arch < 1) & ~disc, CORTICAL_BONE - 80)
    process = (np.abs(canvas.x) < 3.5) & (np.abs(canvas.y - 100) < 9)
    transverse = (np.abs(canvas.x) < 34) & (np.abs(canvas.y - 83 - 0.1 * np.abs(canvas.x)) < 4)
    canvas.fill((process | (transverse & (np.abs(canvas.z % 26.0) < 6))) & ~disc, CORTICAL_BONE - 80)
    canvas.fill(_oval(canvas, 10, 8, y=85) < 1, FAT + 60)
    canvas.fill(_oval(canvas, 6, 5, y=85) < 1, MUSCLE - 15)


def _blur(voxels: Voxels) -> Voxels:
    """Smooth with (1, 2, 1) / 4 along each axis; edges keep their values."""
    smooth = voxels.copy()
    for axis in range(3):
        inner = np.moveaxis(smooth, axis, 0)
        inner[1:-1] = 0.5 * inner[1:-1] + 0.25 * (inner[:-2] + inner[2:])
    return smooth
