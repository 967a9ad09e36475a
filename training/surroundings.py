"""What lies around a patch, further out than it reaches: a task that asks an encoder to know anatomy.

Of each lesion: shares of air, lung, fat, soft tissue and bone in shells around the seed, on means of 4 mm. They do not
depend on flips or order of the axes. A shell that lies mostly outside the scan is not known.
"""

from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.cache import Index3, LesionCache

STEP: Final = 4
"""Millimetres of the means."""

SHELLS_MM: Final = (20.0, 35.0, 50.0, 70.0, 95.0)
"""Borders of the shells; a patch reaches 25 mm along an axis and 43 mm into its corners."""

LIMITS_HU: Final = (-900, -500, -150, -20, 150)
"""Between air, lung, what is mixed with it, fat, soft tissue and bone."""

N_SURROUNDINGS: Final = (len(SHELLS_MM) - 1) * (len(LIMITS_HU) + 1)

LEAST_KNOWN: Final = 0.3
"""Share of a shell that has to lie in the scan."""

LEAST_DEVIATION: Final = 1e-3
"""Shares that differ less than this over all lesions are not made to differ."""


def read_surroundings(cache: LesionCache, rows: NDArray[np.int64]) -> Tensor:
    """Surroundings of some lesions, each share standardised over them.

    Args:
        cache: Where scans and lesions are.
        rows: Numbers of the lesions.

    Returns:
        (lesions of the cache, N_SURROUNDINGS) float32: NaN where a shell is not known, and for all other lesions.
    """
    table = np.full((len(cache.lesions), N_SURROUNDINGS), np.nan)
    wanted = [cache.lesions[row].scan for row in rows]
    for scan in sorted(set(wanted)):
        coarse = _coarse(cache.read_scan(scan))
        for row in (int(row) for row, own in zip(rows, wanted, strict=True) if own == scan):
            table[row] = describe_surroundings(coarse, cache.lesions[row].centre_zyx)
    shares = table[rows]
    known = np.isfinite(shares)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, shares, 0).sum(axis=0) / count
    deviation = np.sqrt(np.where(known, (shares - mean) ** 2, 0).sum(axis=0) / count)
    return torch.from_numpy((table - mean) / np.maximum(deviation, LEAST_DEVIATION)).float()


def describe_surroundings(coarse_hu: NDArray[np.float32], centre_zyx: Index3) -> NDArray[np.float64]:
    """Shares of each kind of tissue in each shell, shell by shell.

    Args:
        coarse_hu: (Z / 4, Y / 4, X / 4) means of the scan.
        centre_zyx: Seed, voxels of the scan.
    """
    reach = int(np.ceil(SHELLS_MM[-1] / STEP))
    centre = [c // STEP for c in centre_zyx]
    lows = [max(c - reach, 0) for c in centre]
    box = coarse_hu[tuple(slice(low, max(c + reach + 1, 0)) for low, c in zip(lows, centre, strict=True))]
    z, y, x = (
        (np.arange(low, low + n) + 0.5) * STEP - 0.5 - c for low, n, c in zip(lows, box.shape, centre_zyx, strict=True)
    )
    distances = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    kinds = np.digitize(box, LIMITS_HU)
    described = np.full((len(SHELLS_MM) - 1, len(LIMITS_HU) + 1), np.nan)
    for n, (low, high) in enumerate(pairwise(SHELLS_MM)):
        inside = (distances >= low) & (distances < high)
        whole = 4 / 3 * np.pi * (high**3 - low**3) / STEP**3
        if inside.sum() >= LEAST_KNOWN * whole:
            described[n] = np.bincount(kinds[inside], minlength=described.shape[1]) / inside.sum()
    return described.flatten()


def _coarse(voxels_hu: NDArray[np.int16]) -> NDArray[np.float32]:
    z, y, x = (size // STEP for size in voxels_hu.shape)
    whole = voxels_hu[: z * STEP, : y * STEP, : x * STEP]
    means: NDArray[np.float32] = whole.reshape(z, STEP, y, STEP, x, STEP).mean(axis=(1, 3, 5), dtype=np.float32)
    return means
