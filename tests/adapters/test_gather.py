"""The compiled sampler of oblique scans gives the same patches as the plain one."""

import numpy as np
import pytest

from fmcib_module.adapters.gather import gather_compiled
from fmcib_module.core.domain import Seed
from fmcib_module.core.patch import extract_patch
from fmcib_module.core.volume import Volume
from tests.core.test_patch_golden import TOLERANCE, golden_cases, golden_volume
from tests.shared import GOLDEN, needs_shared

OBLIQUE = [case for case in golden_cases() if case["id"].startswith(("oblique", "dirnoise")) and not case["error"]]


@needs_shared
@pytest.mark.parametrize("case", OBLIQUE, ids=lambda case: case["id"])
def test_oblique_patches_equal_the_published_implementation(case):
    patch = extract_patch(golden_volume(case), Seed(tuple(case["seed_lps"]), "x", ""), gather=gather_compiled)
    assert np.abs(patch.voxels - np.load(GOLDEN / case["patch"])["patch"][0]).max() <= TOLERANCE


@pytest.mark.parametrize("index", [(60, 60, 50), (2, 3, 1), (119, 118, 99), (-8, 60, 50), (60, 60, 115)])
def test_patches_are_the_same_to_the_last_float32_bit_also_at_the_border(index):
    angle = np.deg2rad(17)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] = affine[:3, :3] @ np.diag([0.8, 0.9, 1.25])
    hu = np.random.default_rng(0).normal(0, 500, (100, 120, 120)).astype(np.float32)
    volume = Volume.from_array(hu, affine, "1.2.840.1")
    seed = Seed(tuple((affine @ [*index, 1])[:3]), "x", "")
    plain, compiled = (extract_patch(volume, seed, gather=gather).voxels for gather in (None, gather_compiled))
    assert np.abs(plain).max() > 0
    np.testing.assert_allclose(compiled, plain, atol=1.2e-7)
