"""How far the features of a lesion move when its seed is jittered, or its patch is cut in another mode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.conventions import Mode

Vector = NDArray[np.float32]
"""(n_features,)."""


@dataclass(frozen=True, slots=True)
class Stability:
    """A lesion's features against those of jittered seeds.

    Attributes:
        n_seeds: Jittered seeds that were asked for.
        n_lost: Those that gave no features, because their patch lies outside the scan.
        cosine_mean: Mean cosine to the lesion's own features; None where all were lost.
        cosine_min: The lowest one.
    """

    n_seeds: int
    n_lost: int
    cosine_mean: float | None
    cosine_min: float | None


@dataclass(frozen=True, slots=True)
class ModeDrift:
    """A lesion's features in two preprocessing modes.

    Attributes:
        mode: One mode.
        other: The other one.
        cosine: Between their features.
        relative_l2: |other - mode| / |mode|.
    """

    mode: Mode
    other: Mode
    cosine: float
    relative_l2: float


def cosine(a: Vector, b: Vector) -> float:
    """Cosine of the angle between two vectors, in float64; 0 where one of them is 0."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    length = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(np.clip(x @ y / length, -1.0, 1.0)) if length > 0 else 0.0


def measure_stability(own: Vector, jittered: Sequence[Vector], n_seeds: int) -> Stability:
    """Compare a lesion's own features with those of its jittered seeds, of which `n_seeds` were asked for."""
    cosines = [cosine(own, other) for other in jittered]
    if not cosines:
        return Stability(n_seeds, n_seeds, None, None)
    return Stability(n_seeds, n_seeds - len(cosines), float(np.mean(cosines)), min(cosines))


def measure_drift(by_mode: Mapping[Mode, Vector]) -> tuple[ModeDrift, ...]:
    """Compare each two modes that have features, in the order of `Mode`."""
    pairs = combinations([mode for mode in Mode if mode in by_mode], 2)
    return tuple(_drift(a, b, by_mode[a], by_mode[b]) for a, b in pairs)


def _drift(mode: Mode, other: Mode, a: Vector, b: Vector) -> ModeDrift:
    length = float(np.linalg.norm(a.astype(np.float64)))
    moved = float(np.linalg.norm(b.astype(np.float64) - a.astype(np.float64)))
    return ModeDrift(mode, other, cosine(a, b), moved / length if length > 0 else 0.0)
