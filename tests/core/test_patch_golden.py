"""Every published reference patch is reproduced from the slices under it."""

import json
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from fmcib_module.core.conventions import Mode
from fmcib_module.core.domain import Seed
from fmcib_module.core.errors import SeedOutsideVolumeError
from fmcib_module.core.patch import extract_patch
from fmcib_module.core.patch_grid import patch_grid
from fmcib_module.core.volume import Volume
from tests.shared import GOLDEN, needs_shared

TOLERANCE = 2.5e-7  # golden README: official float32 arithmetic against direct float64 sampling


def golden_cases() -> list[dict[str, Any]]:
    path = GOLDEN / "cases.json"
    return json.loads(path.read_text())["patch_cases"] if path.is_file() else []


def golden_volume(case: dict[str, Any]) -> Volume:
    image = sitk.ReadImage(str(GOLDEN / case["volume"]))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return Volume.from_array(sitk.GetArrayFromImage(image).astype(np.float32), affine, case["id"])


@needs_shared
@pytest.mark.parametrize(("mode", "key"), [("published", "patch"), ("published-monai16", "patch_monai16")])
@pytest.mark.parametrize("case", golden_cases(), ids=lambda case: case["id"])
def test_patch_equals_the_published_implementation(case, mode, key):
    volume = golden_volume(case)
    seed = Seed(tuple(case["seed_lps"]), label=case["id"], source_uid="")
    if case["error"]:
        with pytest.raises(SeedOutsideVolumeError, match=case["id"]):
            extract_patch(volume, seed, mode)
        return
    expected = np.load(GOLDEN / case["patch"])[key][0]
    found = extract_patch(volume, seed, mode).voxels
    assert np.abs(found - expected).max() <= TOLERANCE


@needs_shared
@pytest.mark.parametrize("case", golden_cases(), ids=lambda case: case["id"])
def test_grid_equals_the_published_grid(case):
    target = patch_grid(golden_volume(case).grid, Mode.PUBLISHED)
    assert list(target.size) == case["resampled_lps_shape"]
    assert target.resampled is not case["resample_skipped"]
    np.testing.assert_allclose(target.to_ras_mm, case["resampled_ras_affine"], atol=1e-9)
