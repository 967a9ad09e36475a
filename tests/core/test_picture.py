"""Pictures against geometry: where the seed, the scan's ends, the patch and the outline must appear."""

import numpy as np
import pytest

from fmcib_module.core.conventions import Mode
from fmcib_module.core.domain import Seed
from fmcib_module.core.patch import extract_patch
from fmcib_module.core.picture import PANEL_PIXELS, Panel, make_picture
from fmcib_module.core.picture_window import BONE, LUNG, SOFT_TISSUE, choose_window
from fmcib_module.core.volume import Volume
from tests import phantoms
from tests.phantoms import ORIENTATIONS, Orientation

SPACING = (1.5, 1.2, 2.5)
STEPS = {"axial": ((1, 0, 0), (0, 1, 0)), "coronal": ((1, 0, 0), (0, 0, -1)), "sagittal": ((0, 1, 0), (0, 0, -1))}
"""Right and down of each plane in LPS, as radiologists look at CT."""


def ball(orientation="axial", *, centre=phantoms.CENTRE_LPS, radius_mm=6.0, shape=(50, 90, 90), spacing=SPACING):
    """A bright ball in water, its mask, and the voxels' LPS positions."""
    grid = phantoms.phantom_grid(shape, spacing, orientation)
    k, j, i = np.indices(shape)
    lps = np.stack([i, j, k, np.ones(shape)], axis=-1) @ grid.matrix.T
    mask = np.linalg.norm(lps[..., :3] - centre, axis=-1) <= radius_mm
    volume = Volume.from_array(np.where(mask, 900.0, 0.0).astype(np.float32), grid.matrix, "1.2.3")
    return volume, mask


def seed_at(centre=phantoms.CENTRE_LPS, *, moved=(0.0, 0.0, 0.0)):
    return Seed(tuple(np.add(centre, moved)), "GTV-1", "")


def bright_middle(panel: Panel) -> np.ndarray:
    """(x, y) of the bright pixels' middle."""
    rows, columns = np.nonzero(panel.samples.hu > 450)
    return np.array([columns.mean(), rows.mean()])


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
@pytest.mark.parametrize("mode", list(Mode))
def test_a_bright_ball_at_the_seed_appears_under_the_cross_in_every_panel(orientation, mode):
    volume, _ = ball(orientation)
    for panel in make_picture(volume, seed_at(), mode).panels:
        x, y = panel.cross_xy
        assert panel.samples.hu[round(y), round(x)] == pytest.approx(900, abs=1)
        assert np.hypot(*(bright_middle(panel) - panel.cross_xy)) < 0.8 * panel.pixels_per_mm


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
@pytest.mark.parametrize("plane", [0, 1])
def test_right_and_down_of_every_plane_are_those_of_a_radiologist(orientation, plane):
    for number, (name, directions) in enumerate(STEPS.items(), start=1):
        centre = np.add(phantoms.CENTRE_LPS, 10.0 * np.array(directions[plane]))
        volume, _ = ball(orientation, centre=tuple(centre))
        panel = make_picture(volume, seed_at(), Mode.CENTRED).panels[number]
        assert panel.plane.name == name
        moved_mm = (bright_middle(panel) - panel.cross_xy) / panel.pixels_per_mm
        np.testing.assert_allclose(moved_mm, [10.0, 0.0] if plane == 0 else [0.0, 10.0], atol=0.5)


def test_a_lesion_moved_by_60_mm_is_plainly_not_under_the_cross():
    volume, _ = ball(shape=(80, 120, 120))
    picture = make_picture(volume, seed_at(moved=(60.0, 0.0, 0.0)), Mode.PUBLISHED)
    for panel in picture.panels[1:]:
        assert panel.samples.hu.max() < 450
    overview = picture.panels[0]
    left, top, right, bottom = overview.frame
    x, y = bright_middle(overview)
    assert not (left <= x <= right and top <= y <= bottom)
    assert (overview.cross_xy[0] - x) / overview.pixels_per_mm == pytest.approx(60.0, abs=1.5)


@pytest.mark.parametrize("mode", list(Mode))
def test_the_frame_shows_as_much_of_the_outside_as_the_patch_holds(mode):
    volume, _ = ball(spacing=(1.0, 1.0, 1.0), shape=(90, 90, 90))
    low = np.array(volume.affine[:3, 3])
    seed = seed_at((low[0] + 12.0, phantoms.CENTRE_LPS[1], phantoms.CENTRE_LPS[2]))
    patch = extract_patch(volume, seed, mode)
    panel = make_picture(volume, seed, mode).panels[1]
    left, top, right, bottom = (round(v) for v in panel.frame)
    inside = panel.samples.outside[top + 1 : bottom, left + 1 : right]
    assert patch.outside_share > 0.1
    # published modes pad evenly: the outside that the patch holds on the far side is inside the scan here
    expected = patch.outside_share if mode is Mode.CENTRED else patch.outside_share / 2
    assert inside.mean() == pytest.approx(expected, abs=0.03)


def test_what_is_outside_the_scan_is_marked_to_the_half_voxel():
    volume, _ = ball(spacing=(1.0, 1.0, 1.0), shape=(90, 90, 90))
    edge_mm = volume.affine[0, 3] - 0.5
    panel = make_picture(volume, seed_at((edge_mm + 10.0, *phantoms.CENTRE_LPS[1:])), Mode.CENTRED).panels[1]
    x, _ = panel.cross_xy
    columns_outside = np.flatnonzero(panel.samples.outside.all(axis=0))
    assert (x - (columns_outside.max() + 0.5)) / panel.pixels_per_mm == pytest.approx(10.0, abs=1 / panel.pixels_per_mm)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
def test_the_roi_in_a_plane_has_the_area_of_its_section(orientation):
    volume, mask = ball(orientation, radius_mm=12.0, spacing=(1.0, 1.0, 1.0), shape=(60, 60, 60))
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    cut = (int(slices[0]), mask[slices[0] : slices[-1] + 1])
    for panel in make_picture(volume, seed_at(), Mode.CENTRED, cut).panels[1:]:
        area_mm2 = panel.samples.roi.sum() / panel.pixels_per_mm**2
        assert area_mm2 == pytest.approx(np.pi * 12.0**2, rel=0.05)


def test_the_scale_is_the_distance_between_two_known_points():
    near, far = phantoms.CENTRE_LPS, tuple(np.add(phantoms.CENTRE_LPS, (20.0, 0.0, 0.0)))
    first, second = (ball(centre=centre, radius_mm=3.0)[0].voxels_hu for centre in (near, far))
    grid = phantoms.phantom_grid((50, 90, 90), SPACING, "axial")
    volume = Volume.from_array(np.maximum(first, second), grid.matrix, "1.2.3")
    panel = make_picture(volume, seed_at(), Mode.CENTRED).panels[1]
    bright = panel.samples.hu > 450
    middle = round(panel.cross_xy[0] + 10 * panel.pixels_per_mm)
    columns = np.arange(PANEL_PIXELS)
    weights = bright.sum(axis=0)
    distance = np.average(columns[middle:], weights=weights[middle:]) - np.average(
        columns[:middle], weights=weights[:middle]
    )
    assert distance == pytest.approx(20.0 * panel.pixels_per_mm, abs=1.0 * panel.pixels_per_mm)
    left, top, right, bottom = panel.frame
    assert (right - left) / panel.pixels_per_mm == pytest.approx(50.0, abs=1.0)
    assert (bottom - top) / panel.pixels_per_mm == pytest.approx(50.0, abs=1.0)


def test_only_slices_under_the_patch_are_read_and_others_are_marked():
    volume, _ = ball()
    asked: list[tuple[int, int]] = []

    def noting(first: int, stop: int, *region: slice) -> np.ndarray:
        asked.append((first, stop))
        return volume.read_slab(first, stop, *region)

    noted = Volume(volume.grid, "1.2.3", noting)
    extract_patch(noted, seed_at())
    picture = make_picture(noted, seed_at(), Mode.PUBLISHED)
    assert (min(first for first, _ in asked[1:]), max(stop for _, stop in asked[1:])) == asked[0]
    assert picture.panels[2].samples.unread[0].all()
    assert not picture.panels[2].samples.unread[PANEL_PIXELS // 2].any()


def test_a_seed_outside_a_single_slice_has_a_picture_without_a_slice():
    grid = phantoms.phantom_grid((1, 60, 60), (1.0, 1.0, 5.0), Orientation.AXIAL)
    volume = Volume.from_array(np.zeros((1, 60, 60), dtype=np.float32), grid.matrix, "1.2.3")
    picture = make_picture(volume, seed_at(moved=(0.0, 0.0, 10.0)), Mode.CENTRED)
    assert picture.panels[1].samples.outside.all()
    assert 0.02 < 1 - picture.panels[2].samples.outside.mean() < 0.15


@pytest.mark.parametrize(
    ("around", "middle", "window"),
    [(-850.0, 40.0, LUNG), (40.0, 40.0, SOFT_TISSUE), (-1000.0, 40.0, SOFT_TISSUE), (40.0, 700.0, BONE)],
    ids=["lung", "soft tissue", "air around the patient", "bone"],
)
def test_the_window_follows_the_content(around, middle, window):
    assert choose_window(np.full(100, around, np.float32), np.full(100, middle, np.float32)) is window


def test_a_window_maps_its_ends_to_black_and_white():
    np.testing.assert_allclose(SOFT_TISSUE.grey(np.array([-160.0, 40.0, 240.0, 999.0], np.float32)), [0, 0.5, 1, 1])
