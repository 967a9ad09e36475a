"""Volume + Seed -> Patch: the 50 x 50 x 50 cube around a lesion, sampled from only the slices under it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.conventions import AIR_HU, HU_RANGE, PATCH_SIZE, Mode
from fmcib_module.core.domain import Patch, Point, Seed
from fmcib_module.core.errors import ConfigError, SeedOutsideVolumeError
from fmcib_module.core.patch_grid import Matrix, patch_grid
from fmcib_module.core.volume import Grid, Volume

SEPARABLE_TOLERANCE = 1e-9
"""Cross terms of the index map below this many source voxels over a whole patch are rounding noise."""


Gather = Callable[
    [NDArray[np.float32], Matrix, NDArray[np.float64], NDArray[np.int_], NDArray[np.int_]], NDArray[np.float64]
]
"""Trilinear sampling of a rotated grid, as `gather_trilinear` describes it."""


@dataclass(frozen=True, slots=True, eq=False)
class PatchPlan:
    """Which voxels of the patch come from where; nothing has been read yet.

    Attributes:
        first, stop: Range of grid indices (x, y, z) that is sampled.
        at: Where that range starts in the patch, (x, y, z).
        to_source: (4, 4), grid index (x, y, z, 1) to the scan's continuous index (i, j, k, 1).
        box_first, box_stop: Range of source voxels (i, j, k) under the patch.
        seed_index_kji: The patch's voxel that holds the seed.
        edge: Of the patch, voxels.
    """

    first: NDArray[np.int_]
    stop: NDArray[np.int_]
    at: NDArray[np.int_]
    to_source: Matrix
    box_first: NDArray[np.int_]
    box_stop: NDArray[np.int_]
    seed_index_kji: tuple[int, int, int]
    edge: int = PATCH_SIZE

    @property
    def outside_share(self) -> float:
        """Share of the patch's voxels outside the scan, 0..1."""
        return float(1 - np.prod(self.stop - self.first) / self.edge**3)


def scale_hu(voxels_hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """(HU + 1024) / 3072 in float32, not clipped (Pai et al. 2024, Methods)."""
    return (voxels_hu - np.float32(AIR_HU)) / np.float32(HU_RANGE)


def plan_patch(grid: Grid, seed: Seed, *, mode: Mode, series_uid: str, edge: int = PATCH_SIZE) -> PatchPlan:
    """Find the voxels under a patch from geometry alone.

    Args:
        grid: The scan's grid.
        seed: Lesion centre.
        mode: How the patch is cut.
        series_uid: For the error message.
        edge: Of the patch, voxels; even.

    Raises:
        SeedOutsideVolumeError: The patch and the resampled scan have no voxel in common.
    """
    target = patch_grid(grid, mode)
    centre = _truncated_index(target.to_ras_mm, seed.lps_mm)
    size = np.array(target.size)
    half = edge // 2
    first, stop = np.maximum(centre - half, 0), np.minimum(centre + half, size)
    if np.any(first >= stop):
        beyond_mm = int(np.max(np.maximum(-centre, centre - size + 1)))
        raise SeedOutsideVolumeError(
            what=f"seed {seed.label!r} lies {beyond_mm} mm outside the CT, so its patch holds no voxel of it",
            where=f"SeriesInstanceUID {series_uid}",
            fix="check that the ROI was drawn on this series (same FrameOfReferenceUID)",
        )
    # published: a patch cut at the border is padded evenly, which moves the seed off its centre
    at = first - (centre - half) if mode is Mode.CENTRED else (edge - (stop - first)) // 2
    box_first, box_stop = _source_box(target.to_source, first, stop, np.array(grid.shape[::-1]))
    x, y, z = (int(v) for v in centre - first + at)
    return PatchPlan(first, stop, at, target.to_source, box_first, box_stop, (z, y, x), edge)


def extract_patch(
    volume: Volume, seed: Seed, mode: Mode | str = Mode.PUBLISHED, *, gather: Gather | None = None
) -> Patch:
    """Cut the network's input cube around a lesion; decodes only the slices under it.

    Args:
        volume: CT on a uniform grid of any spacing and orientation, Hounsfield units.
        seed: Lesion centre, LPS millimetres, in the volume's frame of reference.
        mode: `published` (default), `published-monai16` or `centred`.
        gather: Samples oblique scans; a compiled one gives the same values faster (`adapters/gather.py`).

    Returns:
        (50, 50, 50) float32, axes (z, y, x) towards superior, posterior, left, 1 mm, scaled by `scale_hu`; 0 outside
        the scan. Published modes re-centre a patch that the border cuts; `centred` keeps the seed at [25, 25, 25].

    Raises:
        SeedOutsideVolumeError: The patch and the resampled scan have no voxel in common.
        ConfigError: There is no such mode.

    References:
        Pai et al. 2024, doi:10.1038/s42256-024-00807-9; the published `SeedBasedPatchCropd` and `SpatialPadd`.
    """
    mode = _mode(mode)
    plan = plan_patch(volume.grid, seed, mode=mode, series_uid=volume.series_uid)
    return Patch(
        voxels=sample_patch(volume, plan, gather),
        seed=seed,
        series_uid=volume.series_uid,
        mode=mode,
        outside_share=plan.outside_share,
        seed_index_kji=plan.seed_index_kji,
    )


def sample_patch(volume: Volume, plan: PatchPlan, gather: Gather | None = None) -> NDArray[np.float32]:
    """The voxels of a planned patch of any size: (edge, edge, edge), as `extract_patch` describes them."""
    (i0, j0, k0), (i1, j1, k1) = plan.box_first, plan.box_stop
    voxels = np.zeros((plan.edge,) * 3, dtype=np.float32)
    inside = tuple(slice(a, a + n) for a, n in zip(plan.at[::-1], (plan.stop - plan.first)[::-1], strict=True))
    if np.all(plan.box_first < plan.box_stop):
        box = scale_hu(volume.read_slab(int(k0), int(k1), slice(j0, j1), slice(i0, i1)))
        voxels[inside] = _sample(box, plan, gather or gather_trilinear)
    return voxels


def patch_affine(grid: Grid, seed: Seed, mode: Mode | str = Mode.PUBLISHED) -> Matrix:
    """Where a patch's voxels truly come from, the shift of the published sampling included.

    Args:
        grid: The scan's grid.
        seed: As in `extract_patch`.
        mode: As in `extract_patch`.

    Returns:
        (4, 4), patch index (x, y, z, 1) to LPS mm.

    Raises:
        SeedOutsideVolumeError: As in `extract_patch`.
    """
    plan = plan_patch(grid, seed, mode=_mode(mode), series_uid="")
    to_grid_index = np.eye(4)
    to_grid_index[:3, 3] = plan.first - plan.at
    return np.asarray(grid.matrix @ plan.to_source @ to_grid_index, dtype=np.float64)


def grid_index(grid: Grid, lps_mm: Point, mode: Mode) -> tuple[int, int, int]:
    """Voxel (x, y, z) of the resampled scan at which a patch is centred; it may lie outside the scan."""
    x, y, z = (int(v) for v in _truncated_index(patch_grid(grid, mode).to_ras_mm, lps_mm))
    return x, y, z


def resample_slab(volume: Volume, first: int, stop: int, mode: Mode | str = Mode.PUBLISHED) -> NDArray[np.float32]:
    """Slices of the whole scan on the 1 mm grid that patches are cut from, for work on many patches of one scan.

    Args:
        volume: As in `extract_patch`; only the slices under the slab are decoded.
        first: First z of the slab on `patch_grid(volume.grid, mode)`.
        stop: One after its last.
        mode: As in `extract_patch`.

    Returns:
        (stop - first, Y, X) float32, axes (z, y, x) towards superior, posterior, left, scaled by `scale_hu`.
    """
    mode = _mode(mode)
    target = patch_grid(volume.grid, mode)
    low, high = np.array([0, 0, first]), np.array([*target.size[:2], stop])
    box_first, box_stop = _source_box(target.to_source, low, high, np.array(volume.grid.shape[::-1]))
    if not np.all(box_first < box_stop):
        return np.zeros((stop - first, target.size[1], target.size[0]), dtype=np.float32)
    (i0, j0, k0), (i1, j1, k1) = box_first, box_stop
    box = scale_hu(volume.read_slab(int(k0), int(k1), slice(j0, j1), slice(i0, i1)))
    plan = PatchPlan(low, high, np.zeros(3, dtype=np.int_), target.to_source, box_first, box_stop, (0, 0, 0))
    return _sample(box, plan, gather_trilinear).astype(np.float32)


def _mode(name: Mode | str) -> Mode:
    try:
        return Mode(name)
    except ValueError as error:
        raise ConfigError(f"mode is {name!r}", "mode", f"use one of: {', '.join(Mode)}") from error


def _truncated_index(to_ras_mm: Matrix, lps_mm: Point) -> NDArray[np.int_]:
    """Grid index of a point, each component cut towards zero as the published `int()` does (-0.6 -> 0)."""
    x, y, z = lps_mm
    index = np.linalg.inv(to_ras_mm) @ np.array([-x, -y, z, 1.0])
    return np.asarray(np.trunc(index[:3]), dtype=np.int_)


def _source_box(
    to_source: Matrix, first: NDArray[np.int_], stop: NDArray[np.int_], source_size: NDArray[np.int_]
) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Source voxels (i, j, k) that the two-tap stencils of a grid range touch, cut at the scan's ends."""
    ends = np.stack([first, stop - 1])
    corners = np.array([[ends[a, 0], ends[b, 1], ends[c, 2], 1.0] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    index = (corners @ to_source.T)[:, :3]
    low = np.floor(index.min(axis=0) - SEPARABLE_TOLERANCE).astype(np.int_)
    high = np.floor(index.max(axis=0) + SEPARABLE_TOLERANCE).astype(np.int_) + 2
    return np.clip(low, 0, source_size), np.clip(high, 0, source_size)


def _sample(box: NDArray[np.float32], plan: PatchPlan, gather: Gather) -> NDArray[np.float64]:
    """Trilinear samples of the plan's range, (z, y, x) float64; taps outside the scan weigh 0."""
    rotation, offset = plan.to_source[:3, :3], plan.to_source[:3, 3] - plan.box_first
    follows = np.argmax(np.abs(rotation), axis=1)
    cross = np.abs(rotation).copy()
    cross[range(3), follows] = 0.0
    if len(set(follows)) == 3 and cross.max() * plan.edge < SEPARABLE_TOLERANCE:
        return _sample_separable(box, plan, rotation, offset, follows)
    return gather(box, rotation, offset, plan.first, plan.stop)


def _sample_separable(
    box: NDArray[np.float32], plan: PatchPlan, rotation: Matrix, offset: NDArray[np.float64], follows: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Each source axis follows one grid axis: three linear interpolations along k, j and i."""
    out: NDArray[np.floating] = box
    for source_axis in (2, 1, 0):  # i, j, k are the box's axes 2, 1, 0
        grid_axis = follows[source_axis]
        steps = np.arange(plan.first[grid_axis], plan.stop[grid_axis])
        along = rotation[source_axis, grid_axis] * steps + offset[source_axis]
        out = _lerp(out, along, axis=2 - source_axis)
    # axes are now (grid axis of k, of j, of i); the patch wants (z, y, x)
    return np.transpose(out, np.argsort(-follows[::-1], kind="stable"))


def _lerp(values: NDArray[np.floating], along: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    low = np.floor(along).astype(np.int_)
    weight = along - low
    n = values.shape[axis]
    shape = [1, 1, 1]
    shape[axis] = len(along)
    low_weight = np.where((low >= 0) & (low < n), 1.0 - weight, 0.0).reshape(shape)
    high_weight = np.where((low >= -1) & (low < n - 1), weight, 0.0).reshape(shape)
    result: NDArray[np.float64] = np.multiply(np.take(values, low, axis=axis, mode="clip"), low_weight)
    result += np.take(values, low + 1, axis=axis, mode="clip") * high_weight
    return result


def gather_trilinear(
    box: NDArray[np.float32],
    rotation: Matrix,
    offset: NDArray[np.float64],
    first: NDArray[np.int_],
    stop: NDArray[np.int_],
) -> NDArray[np.float64]:
    """The general case: eight taps for every voxel, interpolated along i, then j, then k.

    Flat indices into a box with a rim of 0, where taps outside the scan land: four times as fast in numpy as indexing
    with three arrays.

    Args:
        box: (K, J, I) voxels; 0 around them.
        rotation: (3, 3), grid step (x, y, z) to box index (i, j, k).
        offset: (3,), box index (i, j, k) of grid point (0, 0, 0).
        first: First grid point (x, y, z).
        stop: One after the last.

    Returns:
        (z, y, x) float64.
    """
    steps = [np.arange(a, b, dtype=np.float64) for a, b in zip(first, stop, strict=True)]
    x, y, z = steps[0], steps[1][:, None], steps[2][:, None, None]
    padded = np.pad(box, 2).ravel()
    strides = (1, box.shape[2] + 4, (box.shape[1] + 4) * (box.shape[2] + 4))
    base = np.zeros((len(steps[2]), len(steps[1]), len(steps[0])), dtype=np.intp)
    weights = []
    for axis in range(3):  # i, j, k
        along = rotation[axis, 0] * x + rotation[axis, 1] * y + rotation[axis, 2] * z + offset[axis]
        low = np.floor(along)
        weights.append(along - low)
        base += (np.clip(low, -2, box.shape[2 - axis]).astype(np.intp) + 2) * strides[axis]
    taps = [padded.take(base + k * strides[2] + j * strides[1] + i) for k in (0, 1) for j in (0, 1) for i in (0, 1)]
    values = [tap.astype(np.float64) for tap in taps]
    for weight in weights:
        values = [below + (above - below) * weight for below, above in zip(values[::2], values[1::2], strict=True)]
    return np.asarray(values[0], dtype=np.float64)
