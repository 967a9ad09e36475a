"""Augmentation does to a cube what geometry says, the same for a lesion whatever is beside it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fmcib_module.core.errors import ConfigError
from fmcib_module.core.extractors import CARDS, Axes, InputForm
from training.adaptation.augment import AugmentSettings, Rotations, as_input, augmented
from training.view_settings import Flips

FORM = InputForm(edge=8)
NONE = AugmentSettings(
    translation=3, translation_probability=0, flip_probability=0, rotation_probability=0, smooth_probability=0
)


def crops(n=4, depth=14):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-1000, 1000, (n, 1, depth, depth, depth), generator=generator, dtype=torch.int16)


def run(settings, *, form=FORM, hu=None, rows=None, epoch=0, seed=1):
    hu = crops() if hu is None else hu
    rows = torch.arange(len(hu)) if rows is None else rows
    return augmented(hu, rows, form, settings, seed=seed, epoch=epoch)


def test_without_anything_it_is_the_middle_as_the_extractor_takes_it():
    for card in CARDS:
        form = replace(card.form, edge=8)
        expected = np.stack([form.from_hu(cube[0, 3:11, 3:11, 3:11].numpy().astype(np.float32)) for cube in crops()])
        np.testing.assert_allclose(as_input(crops(), form)[:, 0], expected, atol=1e-6)
        np.testing.assert_allclose(run(NONE, form=form)[:, 0], expected, atol=1e-5)


def test_translation_moves_the_surroundings_in_by_as_much_on_every_axis():
    z, y, x = np.indices((14, 14, 14), dtype=np.float32)
    ramps = torch.from_numpy(np.stack([z, y, x])[:, None] * 100)
    settings = replace(NONE, translation_probability=1)
    moves = []
    for epoch in range(60):  # one lesion, so that the three ramps are moved alike
        cubes = run(settings, hu=ramps, rows=torch.zeros(3, dtype=torch.int64), epoch=epoch)[:, 0]
        back = cubes * 3072 - 1024
        steps = [(ramp - ramps[axis, 0, 3:11, 3:11, 3:11]) / 100 for axis, ramp in enumerate(back)]
        assert all(float(step.max() - step.min()) < 1e-3 for step in steps)
        moves.append([float(step.mean()) for step in steps])
    found = np.array(moves)
    assert np.abs(found).max() <= 3
    assert (np.ptp(found, axis=0) > 4).all()
    assert np.abs(np.corrcoef(found.T) - np.eye(3)).max() < 0.4


def test_a_flip_reverses_one_axis_and_each_comes_up():
    settings = replace(NONE, flip_probability=1)
    plain = run(NONE)[:, 0]
    seen = set()
    for epoch in range(12):
        for cube, original in zip(run(settings, epoch=epoch)[:, 0], plain, strict=True):
            (axis,) = (axis for axis in range(3) if torch.allclose(cube, original.flip(axis), atol=1e-5))
            seen.add(axis)
    assert seen == {0, 1, 2}


def test_flips_of_each_axis_by_itself_are_all_eight():
    settings = replace(NONE, flips=Flips.EACH_AXIS, flip_probability=0.5)
    original = run(NONE)[0, 0]
    sets = [tuple(axis for axis in range(3) if bits >> axis & 1) for bits in range(8)]
    seen = set()
    for epoch in range(80):
        cube = run(settings, epoch=epoch)[0, 0]
        seen |= {axes for axes in sets if torch.allclose(cube, original.flip(axes) if axes else original, atol=1e-5)}
    assert len(seen) == 8


@pytest.mark.parametrize("rotations", list(Rotations))
def test_a_rotation_is_by_quarters_in_a_plane(rotations):
    settings = replace(NONE, rotation_probability=1, rotations=rotations)
    planes = [(0, 1)] if rotations is Rotations.FIRST else [(0, 1), (0, 2), (1, 2)]
    original, seen = run(NONE)[0, 0], set()
    for epoch in range(60):
        cube = run(settings, epoch=epoch)[0, 0]
        (found,) = (
            (plane, k)
            for plane in planes
            for k in (1, 2, 3)
            if torch.allclose(cube, torch.rot90(original, k, plane), atol=1e-5)
        )
        seen.add(found)
    assert len(seen) == 3 * len(planes)


def test_smoothing_keeps_the_mean_and_lowers_the_variance():
    settings = replace(NONE, smooth_probability=1)
    uniform = torch.full((1, 1, 14, 14, 14), 300, dtype=torch.int16)
    np.testing.assert_allclose(run(settings, hu=uniform), (300 + 1024) / 3072, rtol=1e-4)  # the kernel ends at 4 sigma
    assert (run(settings).var(dim=(1, 2, 3, 4)) < run(NONE).var(dim=(1, 2, 3, 4))).all()


def test_what_is_done_depends_on_seed_epoch_and_lesion_alone():
    settings = AugmentSettings(translation=3, smooth_probability=0.5)
    hu = crops()
    together = run(settings, hu=hu)
    alone = run(settings, hu=hu[2:3], rows=torch.tensor([2]))
    torch.testing.assert_close(alone[0], together[2])
    assert not torch.equal(run(settings, hu=hu, epoch=1), together)
    assert not torch.equal(run(settings, hu=hu, seed=2), together)


def test_axes_are_ordered_last_so_that_a_turn_is_the_same_anatomy():
    settings = AugmentSettings(translation=3)
    turned = run(settings, form=replace(FORM, axes=Axes.XYZ))
    torch.testing.assert_close(turned[:, 0].permute(0, 3, 2, 1), run(settings)[:, 0])


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="translation is -1"):
        AugmentSettings(translation=-1)
    with pytest.raises(ConfigError, match="flip_probability is 2"):
        AugmentSettings(flip_probability=2)
