"""Pseudo-lesions are found where there are blobs, and nowhere else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training import scans
from training.cache import Index3, LesionCache
from training.prepare import build_cache
from training.proposals import Window, propose_seeds

BALLS: dict[Index3, tuple[float, int]] = {  # in soft tissue: centre -> (radius, HU)
    (40, 40, 40): (5.0, 130),
    (40, 90, 40): (10.0, 120),
    (80, 40, 50): (6.0, -60),
}
NODULES: dict[Index3, tuple[float, int]] = {(60, 64, 110): (4.0, 30), (90, 90, 110): (7.0, 0)}


def _phantom(*, balls: bool = True) -> NDArray[np.int16]:
    """Soft tissue of 40 HU with a lung of -850 HU beyond x = 84, in air beyond x = 136, noise of 15 HU."""
    voxels = np.full((128, 128, 150), 40.0)
    voxels[:, :, 84:136] = -850
    voxels[:, :, 136:] = -1024
    z, y, x = np.ogrid[:128, :128, :150]
    for (cz, cy, cx), (radius, hu) in (BALLS | NODULES).items() if balls else ():
        voxels[(z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = hu
    return (voxels + np.random.default_rng(0).normal(0, 15, voxels.shape)).astype(np.int16)


def test_every_ball_is_found_at_its_centre_and_nearly_its_size() -> None:
    found = propose_seeds(_phantom(), 100, np.random.default_rng(0))
    for centre, (radius, hu) in (BALLS | NODULES).items():
        near = min(found, key=lambda p: float(np.linalg.norm(np.subtract(p.centre_zyx, centre))))
        assert np.linalg.norm(np.subtract(near.centre_zyx, centre)) <= 3, centre
        assert near.radius_mm == pytest.approx(radius, rel=0.5)
        assert near.window is (Window.LUNG if centre in NODULES else Window.SOFT_TISSUE)
        assert (near.answer_hu > 0) == (hu > 0 or centre in NODULES)


def test_even_tissue_lung_and_air_have_none() -> None:
    found = propose_seeds(_phantom(balls=False), 100, np.random.default_rng(0))
    assert all(abs(p.centre_zyx[2] - 84) <= 8 for p in found)  # at most along the border of the lung


def test_the_same_generator_draws_the_same_and_never_two_at_one_place() -> None:
    first, again, other = (propose_seeds(_phantom(), 4, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len(first) == 4
    centres = np.array([p.centre_zyx for p in first])
    assert np.linalg.norm(centres[:, None] - centres[None], axis=-1)[np.triu_indices(4, 1)].min() > 3


def test_proposals_are_cached_beside_the_tables_lesions(tmp_path: Path) -> None:
    settings = replace(scans.make_inputs(tmp_path, n_scans=1), proposals=3)
    image = scans.sitk.GetImageFromArray(_phantom())
    image.SetOrigin((-10.0, 5.0, 3.0))
    scans.sitk.WriteImage(image, str(tmp_path / "s0.nrrd"))
    cache = LesionCache(build_cache(settings, tmp_path).cache)
    proposed = [lesion for lesion in cache.lesions if lesion.source == "proposal"]
    assert len(proposed) == 3
    for lesion in proposed:
        x, y, z = (c - o for c, o in zip(lesion.lps_mm, (-10, 5, 3), strict=True))  # 1 mm, axes as stored
        assert (z, y, x) == pytest.approx(lesion.centre_zyx, abs=1e-6)
        assert (lesion.patient, lesion.split) == ("p0", "train")
