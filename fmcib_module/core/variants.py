"""The same lesion cut otherwise on purpose: from jittered seeds, and in the other modes."""

from dataclasses import replace
from typing import Final

import numpy as np

from fmcib_module.core.conventions import Mode
from fmcib_module.core.domain import Seed
from fmcib_module.core.report import tracking_uid

JITTER_SD_MM: Final = 4.0
"""Normal, variance 16 mm^2 on each axis, as the paper displaced seeds (Pai et al. 2024, Methods, stability)."""

MOST_JITTERS: Final = 999


def jitter_name(number: int) -> str:
    """Name of a jittered seed's patch and features; numbers start at 1."""
    return f"jitter-{number:03d}"


def mode_name(mode: Mode) -> str:
    """Name of a patch that was cut in another mode than the run's."""
    return f"mode-{mode.value}"


def jittered_seeds(seed: Seed, series_uid: str, count: int) -> list[Seed]:
    """Seeds around a lesion's centre.

    The generator starts from the lesion's tracking UID, so that a rerun draws the same ones, and more of them begin
    with the same ones.
    """
    number = int(tracking_uid(series_uid, seed).rpartition(".")[2])
    offsets = np.random.default_rng(number).normal(0.0, JITTER_SD_MM, (count, 3))
    x, y, z = seed.lps_mm
    return [replace(seed, lps_mm=(x + dx, y + dy, z + dz)) for dx, dy, dz in offsets.tolist()]
