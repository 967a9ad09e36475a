"""A volume around voxels that are in memory."""

import numpy as np

from fmcib_module.core.volume import Grid, Volume

AFFINE = np.array([[0.0, -0.8, 0.0, 5.0], [0.6, 0.0, 0.0, -7.0], [0.0, 0.0, 2.5, 9.0], [0.0, 0.0, 0.0, 1.0]])


def test_voxels_of_any_type_are_read_in_parts_as_float32():
    voxels = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    volume = Volume.from_array(voxels, AFFINE, "1.2")
    part = volume.read_slab(1, 3, slice(2, 4), slice(1, 6))
    assert part.dtype == volume.voxels_hu.dtype == np.float32
    assert (part == voxels[1:3, 2:4, 1:6]).all()
    assert (volume.voxels_hu == voxels).all()
    assert volume.series_uid == "1.2"


def test_the_grid_of_a_volume_is_that_of_its_affine():
    volume = Volume.from_array(np.zeros((4, 5, 6), dtype=np.float32), AFFINE, "1.2")
    assert volume.grid == Grid.from_matrix((4, 5, 6), AFFINE)
    assert volume.grid.shape == (4, 5, 6)
    assert (volume.affine == AFFINE).all()
    np.testing.assert_allclose(volume.grid.spacing_mm, (0.6, 0.8, 2.5))
