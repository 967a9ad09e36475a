"""Pseudo-lesions of scans that nobody has annotated: blobs of the size of lesions, in soft tissue and in lung.

A blob is a local extreme of a difference of Gaussians over position and scale, which answers most to a ball of radius
sqrt(3) sigma. Soft tissue is searched for brighter and darker blobs in a narrow window, lung for brighter ones.
Edges answer too and are sorted out by what lies on their six sides.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.cache import Index3

STEP: Final = 2
"""Blobs are sought on every second millimetre: none is smaller than 3 mm."""

RADII_MM: Final = (3.0, 4.5, 6.5, 9.5, 14.0)
"""Of the balls that the scales answer to."""

CONTRAST_HU: Final = 12.0
"""Least answer of a blob; a ball that is 60 HU brighter than what is around it gives about 20."""

SIGMA_RATIO: Final = 1.6

SIDES: Final = 5
"""Sides (of six) on which a blob differs from its surroundings: a nodule may sit on a wall, a wall itself is none."""


class Window(StrEnum):
    """Where a blob was found."""

    SOFT_TISSUE = "soft-tissue"
    LUNG = "lung"


_LIMITS_HU: Final = {Window.SOFT_TISSUE: (-150.0, 250.0), Window.LUNG: (-950.0, 50.0)}


@dataclass(frozen=True, slots=True)
class Proposal:
    """A pseudo-lesion.

    Attributes:
        centre_zyx: Voxel of the scan.
        radius_mm: Of the ball that it is most like.
        window: Where it was found.
        answer_hu: Of the difference of Gaussians; negative for a blob darker than what is around it.
    """

    centre_zyx: Index3
    radius_mm: float
    window: Window
    answer_hu: float


def propose_seeds(voxels_hu: NDArray[np.int16], n: int, rng: np.random.Generator) -> list[Proposal]:
    """Find up to n blobs in a scan.

    Half are drawn from each window as far as it has some, the clearer ones more often (in proportion to their answer).
    No two lie closer than the larger one's radius.

    Args:
        voxels_hu: (Z, Y, X) HU, 1 mm.
        n: How many.
        rng: Draws among the candidates; the same generator state gives the same proposals.

    Returns:
        In the order drawn; fewer than n where the scan has fewer.
    """
    coarse = _coarse(voxels_hu)
    lung = _lung(coarse)
    found = {window: _candidates(coarse, lung, window) for window in Window}
    order = {window: _draw_order(found[window], rng) for window in Window}
    chosen: list[Proposal] = []
    centres, radii = np.empty((n, 3)), np.empty(n)
    queues = [iter(order[window]) for window in Window]
    while queues and len(chosen) < n:
        for queue in list(queues):
            best = next((p for p in queue if _apart(p, centres[: len(chosen)], radii[: len(chosen)])), None)
            if best is None:
                queues.remove(queue)
            elif len(chosen) < n:
                centres[len(chosen)], radii[len(chosen)] = best.centre_zyx, best.radius_mm
                chosen.append(best)
    return chosen


def _coarse(voxels_hu: NDArray[np.int16]) -> Tensor:
    """Means of 2 x 2 x 2 voxels, (1, 1, Z/2, Y/2, X/2) float32."""
    z, y, x = (size // STEP for size in voxels_hu.shape)
    whole = voxels_hu[: z * STEP, : y * STEP, : x * STEP]
    means = whole.reshape(z, STEP, y, STEP, x, STEP).mean(axis=(1, 3, 5), dtype=np.float32)
    return torch.from_numpy(means)[None, None]


def _lung(coarse: Tensor) -> Tensor:
    """Where a ball of 8 mm is mostly lung: neither tissue nor the air around the patient."""
    is_lung = ((coarse > -940) & (coarse < -500)).float()
    return _smooth(is_lung, 8.0 / STEP) > 0.5


def _candidates(coarse: Tensor, lung: Tensor, window: Window) -> list[Proposal]:
    clipped = coarse.clamp(*_LIMITS_HU[window])
    sigmas = [radius / 3**0.5 / STEP for radius in RADII_MM]
    smooth = torch.cat([_smooth(clipped, sigma) for sigma in sigmas], dim=1)[0]  # (scale, Z, Y, X)
    scales = smooth - torch.cat([_smooth(clipped, sigma * SIGMA_RATIO) for sigma in sigmas], dim=1)[0]
    inside = lung if window is Window.LUNG else (_smooth((coarse > -150).float(), 6.0 / STEP) > 0.9)
    proposals = []
    for sign in (1,) if window is Window.LUNG else (1, -1):
        signed = scales * sign
        peaks = functional.max_pool3d(signed[None], 3, stride=1, padding=1)[0]
        is_peak = (signed == peaks) & (signed == signed.amax(dim=0)) & (signed > CONTRAST_HU) & inside[0]
        found = is_peak.nonzero()
        found = found[_sides_that_differ(smooth * sign, found) >= SIDES]
        for scale, z, y, x in found.tolist():
            centre = (z * STEP + STEP // 2, y * STEP + STEP // 2, x * STEP + STEP // 2)
            proposals.append(Proposal(centre, RADII_MM[scale], window, float(scales[scale, z, y, x])))
    return proposals


def _sides_that_differ(smooth: Tensor, found: Tensor) -> Tensor:
    """On how many of the six sides the tissue two radii away is darker than the blob: 1 at the edge of an organ.

    Args:
        smooth: (scale, Z, Y, X) HU, smoothed at each scale; negated for dark blobs.
        found: (n, 4) scale, z, y, x.

    Returns:
        (n,) 0..6; beyond the scan the border's voxels go on.
    """
    distance = torch.tensor([round(2 * radius / STEP) for radius in RADII_MM])[found[:, 0]]
    size = torch.tensor(smooth.shape)
    here = smooth[tuple(found.T)]
    count = torch.zeros(len(found), dtype=torch.long)
    for axis in (1, 2, 3):
        for step in (-distance, distance):
            there = found.clone()
            there[:, axis] = torch.minimum((there[:, axis] + step).clamp(min=0), size[axis] - 1)
            count += (here - smooth[tuple(there.T)] > CONTRAST_HU).long()
    return count


def _draw_order(proposals: list[Proposal], rng: np.random.Generator) -> list[Proposal]:
    """All of them, the clearer ones earlier on average: draws without replacement, weighted by the answer."""
    weights = np.array([abs(p.answer_hu) for p in proposals])
    keys = rng.exponential(size=len(proposals)) / np.maximum(weights, 1e-6)
    return [proposals[n] for n in np.argsort(keys, kind="stable")]


def _apart(proposal: Proposal, centres: NDArray[np.float64], radii: NDArray[np.float64]) -> bool:
    distances = np.linalg.norm(centres - proposal.centre_zyx, axis=1)
    return bool(np.all(distances > np.maximum(radii, proposal.radius_mm)))


def _smooth(values: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing of (1, 1, Z, Y, X), cut at 3 sigma; the borders' voxels go on outside."""
    tail = max(int(3 * sigma + 0.5), 1)
    at = torch.arange(-tail, tail + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = kernel / kernel.sum()
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0] * 6
        shape[2 + axis] = 2 * tail + 1
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = tail
        padded = functional.pad(values, padding, mode="replicate")
        values = functional.conv3d(padded, kernel.reshape(shape))
    return values
