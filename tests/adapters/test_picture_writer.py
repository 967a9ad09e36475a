"""The PNG of a picture: what is drawn where, and that it carries nothing else."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fmcib_module.adapters import picture_writer as writer
from fmcib_module.core.conventions import Mode
from fmcib_module.core.domain import Seed
from fmcib_module.core.picture import PANEL_PIXELS, Picture, make_picture
from fmcib_module.core.volume import Volume
from tests import phantoms


@pytest.fixture(scope="module")
def picture() -> Picture:
    """A bright voxel at the seed, 12 mm from the scan's lower end; a box-shaped ROI around it."""
    grid = phantoms.phantom_grid((40, 80, 80), (1.0, 1.0, 1.0), "axial")
    voxels = np.zeros(grid.shape, dtype=np.float32)
    voxels[12, 40, 40] = 1000.0
    mask = np.zeros((8, 80, 80), dtype=bool)
    mask[:, 35:46, 35:46] = True
    x, y, z, _ = grid.matrix @ [40, 40, 12, 1]
    seed = Seed((float(x), float(y), float(z)), "GTV-1", "")
    return make_picture(Volume.from_array(voxels, grid.matrix, "1.2.3"), seed, Mode.CENTRED, (8, mask))


def pixels(picture: Picture, label: str | None = None) -> np.ndarray:
    """(height, width, 3) as any reader of PNG sees them."""
    return np.asarray(Image.open(io.BytesIO(writer.picture_png(picture, label))).convert("RGB"))


def chunks(png: bytes) -> list[str]:
    """Names of the PNG's chunks (PNG specification, 5.3)."""
    names, at = [], 8
    while at < len(png):
        length, name = struct.unpack(">I4s", png[at : at + 8])
        names.append(name.decode("ascii"))
        at += 12 + length
    return names


def test_the_png_holds_nothing_but_the_picture(picture):
    assert set(chunks(writer.picture_png(picture))) == {"IHDR", "PLTE", "IDAT", "IEND"}


def test_the_seeds_own_pixel_stays_free_and_bright_in_every_plane(picture):
    image = pixels(picture)
    for place, panel in enumerate(picture.panels[1:], start=1):
        x, y = (round(v) for v in panel.cross_xy)
        left = writer.panel_left(place)
        assert (image[writer.HEADER + y, left + x] == 255).all()
        arm = image[writer.HEADER + y, left + x + writer.CROSS_ARM]
        assert tuple(arm) == writer.COLOURS["cross"]


def test_what_is_outside_the_scan_is_hatched_and_nothing_else_is(picture):
    panel = picture.panels[2]
    drawn = writer.draw_panel(panel, picture)
    below = panel.samples.outside
    assert 0.1 < below.mean() < 0.5
    hatched = np.isin(drawn, [writer.INDEX["hatch"], writer.INDEX["hatch ground"]])
    assert not hatched[~below].any()
    row = drawn[PANEL_PIXELS - 30, 20:220]  # below the scan, left and right of nothing else that is drawn
    assert {writer.INDEX["hatch"], writer.INDEX["hatch ground"]} <= set(row.tolist())


def test_the_scale_bar_is_as_long_as_it_says(picture):
    for place, panel in enumerate(picture.panels):
        millimetres = 20.0 if place == 0 else 10.0  # the scan is 80 mm wide: 50 mm are more than half of it
        row = pixels(picture)[writer.HEADER + PANEL_PIXELS - 9, writer.panel_left(place) :][:PANEL_PIXELS]
        white = np.flatnonzero((row == 255).all(axis=1))
        run = white[: np.argmax(np.diff(white, append=10**6) > 1) + 1]
        assert len(run) == pytest.approx(millimetres * panel.pixels_per_mm, abs=1)


def test_the_outline_is_the_masks_border_and_not_the_panels(picture):
    drawn = writer.draw_panel(picture.panels[1], picture)
    rows, columns = np.nonzero(drawn == writer.INDEX["roi"])
    width_mm = (columns.max() - columns.min() + 1) / picture.panels[1].pixels_per_mm
    assert width_mm == pytest.approx(11.0, abs=0.6)
    assert (rows.max() - rows.min() + 1) == pytest.approx(columns.max() - columns.min() + 1, abs=1)
    assert not writer.outline(np.ones((9, 9), dtype=bool)).any()


def test_the_frame_is_dashed_and_50_mm_wide(picture):
    panel = picture.panels[1]
    drawn = writer.draw_panel(panel, picture)
    _, columns = np.nonzero(drawn == writer.INDEX["frame"])
    assert (columns.max() - columns.min()) / panel.pixels_per_mm == pytest.approx(50.0, abs=0.6)


@pytest.mark.parametrize("label", ["", "a" * 500, "two\nlines\x00", "腫瘍 ‮abc", "<script>"])
def test_any_label_can_be_drawn(picture, label):
    assert pixels(picture, label).shape == pixels(picture).shape


def test_a_label_becomes_one_short_line():
    assert writer.printable("GTV\r\n 1\x00") == "GTV 1"
    assert len(writer.printable("x" * 500)) == 60


def test_a_seed_beyond_the_panel_is_cut_off_and_not_wrapped_around(picture):
    far = replace(picture.panels[0], cross_xy=(PANEL_PIXELS + 100.0, -50.0), frame=(-900.0, -900.0, -800.0, -800.0))
    drawn = writer.draw_panel(far, picture)
    assert not np.isin(drawn, [writer.INDEX["cross"], writer.INDEX["frame"]]).any()
