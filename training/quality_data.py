"""Patches that features are judged on: labelled points, and lesions with their views, displaced and noisy repeats."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmcib_module.core.conventions import AIR_HU, HU_RANGE, PATCH_SIZE
from training.cache import LesionCache
from training.counter_random import derive_keys
from training.view_settings import ViewSettings
from training.views import draw_parameters, make_view

JITTER_MM: Final = 4
"""Farthest that a seed is displaced."""

NOISE_HU: Final = 25.0
"""Standard deviation of the white noise of the repeats."""

N_REPEATS: Final = 2
"""Beside the patch itself."""

CROP: Final = ViewSettings(
    scale=(0.8, 1.0), flip_probability=0.0, shift_probability=0.0, smooth_probability=0.5, sigma=(0.25, 1.0)
)
"""Another crop of the same lesion."""


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Points of known tissue.

    Attributes:
        patches_hu: (n, 1, 50, 50, 50).
        labels: Of each.
        patients: Of each.
        splits: Of each: train, val or test.
        centres_mm: (n, 3) LPS.
    """

    patches_hu: Tensor
    labels: list[str]
    patients: list[str]
    splits: list[str]
    centres_mm: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Repeats:
    """Lesions, each several times.

    Attributes:
        patches_hu: (n, 1, 50, 50, 50), as they are.
        crops_hu: Likewise, another crop with noise.
        displaced_hu: One per repeat, the seed up to `JITTER_MM` away.
        noisy_hu: One per repeat, with white noise.
        patients: Of each lesion.
    """

    patches_hu: Tensor
    crops_hu: Tensor
    displaced_hu: tuple[Tensor, ...]
    noisy_hu: tuple[Tensor, ...]
    patients: list[str]


def read_labelled(cache: LesionCache) -> Labelled:
    """All lesions of a cache that have a label."""
    rows = [n for n, lesion in enumerate(cache.lesions) if lesion.label]
    lesions = [cache.lesions[row] for row in rows]
    return Labelled(
        patches_hu=_stack([cache.read_crop(row, PATCH_SIZE) for row in rows]),
        labels=[lesion.label for lesion in lesions],
        patients=[lesion.patient for lesion in lesions],
        splits=[lesion.split for lesion in lesions],
        centres_mm=np.array([lesion.lps_mm for lesion in lesions]),
    )


def read_repeats(cache: LesionCache, split: str, n_per_patient: int, seed: int) -> Repeats:
    """Lesions and pseudo-lesions of a split, the same number of each patient, drawn by a seed.

    Raises:
        InputError: The split has none.
    """
    rng = np.random.default_rng(seed)
    rows_of: dict[str, list[int]] = {}
    for row in (row for row in cache.rows(split).tolist() if cache.lesions[row].source != "tissue"):
        rows_of.setdefault(cache.lesions[row].patient, []).append(row)
    rows = [int(row) for name in sorted(rows_of) for row in rng.permutation(rows_of[name])[:n_per_patient]]
    patches = _stack([cache.read_crop(row, PATCH_SIZE) for row in rows])
    generator = torch.Generator().manual_seed(seed)
    return Repeats(
        patches_hu=patches,
        crops_hu=_noisy(_cropped(patches, rows, seed), generator),
        displaced_hu=tuple(_stack([_displaced(cache, row, rng) for row in rows]) for _ in range(N_REPEATS)),
        noisy_hu=tuple(_noisy(patches, generator) for _ in range(N_REPEATS)),
        patients=[cache.lesions[row].patient for row in rows],
    )


def _displaced(cache: LesionCache, row: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Cut anew from the scan, the seed moved by whole millimetres within a ball."""
    lesion = cache.lesions[row]
    step = rng.integers(-JITTER_MM, JITTER_MM + 1, size=3)
    while not 0 < np.linalg.norm(step) <= JITTER_MM:
        step = rng.integers(-JITTER_MM, JITTER_MM + 1, size=3)
    z, y, x = (int(c + s) for c, s in zip(lesion.centre_zyx, step, strict=True))
    return cache.read_box(lesion.scan, (z, y, x), PATCH_SIZE)


def _cropped(patches_hu: Tensor, rows: list[int], seed: int) -> Tensor:
    parameters = draw_parameters(derive_keys(torch.tensor([seed]), torch.tensor(rows), 0), PATCH_SIZE, CROP)
    return make_view(patches_hu, parameters, CROP, size=PATCH_SIZE) * HU_RANGE + AIR_HU


def _noisy(patches_hu: Tensor, generator: torch.Generator) -> Tensor:
    return patches_hu.float() + NOISE_HU * torch.randn(patches_hu.shape, generator=generator)


def _stack(patches: list[NDArray[np.int16]]) -> Tensor:
    return torch.from_numpy(np.stack(patches))[:, None]
