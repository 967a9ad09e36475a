"""Values that flow down the chain refuse what they cannot hold."""

import numpy as np
import pytest

from fmcib_module.core.domain import Lesion, Patch, Seed

SEED = Seed((1.0, 2.0, 3.0), "GTV-1", "1.2.3")


@pytest.mark.parametrize("lps_mm", [(1.0, 2.0), (1.0, float("nan"), 3.0), (1.0, 2.0, float("inf"))])
def test_a_seed_is_three_finite_numbers(lps_mm) -> None:
    with pytest.raises(ValueError, match="three finite numbers"):
        Seed(lps_mm, "GTV-1", "1.2.3")


@pytest.mark.parametrize("voxels", [np.zeros((50, 50, 49), np.float32), np.zeros((50, 50, 50))])
def test_a_patch_is_a_cube_of_float32(voxels) -> None:
    with pytest.raises(ValueError, match=r"float32 \(50, 50, 50\)"):
        Patch(voxels, SEED, "1.2.4")


@pytest.mark.parametrize("values", [np.zeros((2, 4), np.float32), np.zeros(4)])
def test_a_lesion_has_one_row_of_float32(values) -> None:
    with pytest.raises(ValueError, match="1-D float32"):
        Lesion(SEED, values)
