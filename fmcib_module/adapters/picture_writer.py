"""Picture -> PNG of 256 colours (Pillow): greys for the scan, a few colours for what is drawn over it."""

import io
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.picture import PANEL_PIXELS, Panel, Picture

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

Canvas = NDArray[np.uint8]
Rgb = tuple[int, int, int]

GREYS: Final = 240
"""Palette entries 0..239 run from black to white; the colours below follow them."""

COLOURS: Final[dict[str, Rgb]] = {
    "roi": (255, 176, 0),
    "cross": (79, 209, 255),
    "frame": (255, 255, 255),
    "hatch": (96, 108, 128),
    "hatch ground": (34, 39, 48),
    "unread": (14, 16, 20),
}
"""Amber and cyan are told apart by readers with any form of colour blindness."""

INDEX: Final = {name: GREYS + n for n, name in enumerate(COLOURS)}

GAP, HEADER, FOOTER = 6, 20, 22
"""Pixels between panels, above them and below them."""

HATCH_PERIOD: Final = 8
CROSS_GAP, CROSS_ARM = 5, 15
"""Pixels that the cross leaves free around the seed, and where its arms end."""

BARS_MM: Final = (100, 50, 20, 10, 5, 2, 1)
"""Lengths of the scale bar; an overview takes the first that fits in half of it, the planes always 10 mm."""


def picture_png(picture: Picture, label: str | None = None) -> bytes:
    """Draw a picture.

    Args:
        picture: From `make_picture`.
        label: Written below the panels; the seed's label if None.

    Returns:
        A PNG without any metadata.
    """
    from PIL import Image  # only where pictures are written

    canvas = draw_picture(picture, picture.seed.label if label is None else label)
    image = Image.fromarray(canvas)
    image.putpalette(palette())
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=3)
    return out.getvalue()


def draw_picture(picture: Picture, label: str) -> Canvas:
    """The picture's palette indices, (height, width)."""
    n = len(picture.panels)
    canvas = np.zeros((HEADER + PANEL_PIXELS + FOOTER, n * PANEL_PIXELS + (n - 1) * GAP), dtype=np.uint8)
    for place, panel in enumerate(picture.panels):
        left = panel_left(place)
        canvas[HEADER : HEADER + PANEL_PIXELS, left : left + PANEL_PIXELS] = draw_panel(panel, picture)
    _write_texts(canvas, picture, label)
    return canvas


def panel_left(place: int) -> int:
    """Column of the canvas at which a panel starts; its rows start at `HEADER`."""
    return place * (PANEL_PIXELS + GAP)


def draw_panel(panel: Panel, picture: Picture) -> Canvas:
    """One panel's palette indices, without texts."""
    samples = panel.samples
    canvas = np.rint(picture.window.grey(samples.hu) * (GREYS - 1)).astype(np.uint8)
    canvas[samples.unread] = INDEX["unread"]
    if samples.outside.any():
        rows, columns = np.nonzero(samples.outside)
        stripes = (rows + columns) % HATCH_PERIOD < 2
        canvas[rows, columns] = np.where(stripes, INDEX["hatch"], INDEX["hatch ground"])
    canvas[outline(samples.roi)] = INDEX["roi"]
    _draw_lines(canvas, panel)
    return canvas


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a mask that have a neighbour outside it; the panel's own edge is no border."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def bar_mm(panel: Panel) -> int:
    """Length of a panel's scale bar."""
    if not panel.is_overview:
        return 10
    return next((length for length in BARS_MM if length * panel.pixels_per_mm <= PANEL_PIXELS / 2), BARS_MM[-1])


@lru_cache(maxsize=1)
def palette() -> list[int]:
    """Red, green and blue of 256 entries, one after the other."""
    greys = [round(n * 255 / (GREYS - 1)) for n in range(GREYS)]
    colours = [value for colour in COLOURS.values() for value in colour]
    return [v for grey in greys for v in (grey, grey, grey)] + colours


def _draw_lines(canvas: Canvas, panel: Panel) -> None:
    """Patch frame, dashed; seed cross with a free middle; scale bar. What lies outside the panel is cut off."""
    left, top, right, bottom = (round(v) for v in panel.frame)
    dash = (np.arange(PANEL_PIXELS) // 4) % 2 == 0
    across = dash & (np.arange(PANEL_PIXELS) >= left) & (np.arange(PANEL_PIXELS) <= right)
    down = dash & (np.arange(PANEL_PIXELS) >= top) & (np.arange(PANEL_PIXELS) <= bottom)
    for row in (row for row in (top, bottom) if 0 <= row < PANEL_PIXELS):
        canvas[row, across] = INDEX["frame"]
    for column in (column for column in (left, right) if 0 <= column < PANEL_PIXELS):
        canvas[down, column] = INDEX["frame"]
    x, y = (round(v) for v in panel.cross_xy)
    offsets = np.arange(-CROSS_ARM, CROSS_ARM + 1)
    offsets = offsets[np.abs(offsets) >= CROSS_GAP]
    _dots(canvas, np.full_like(offsets, y), x + offsets, INDEX["cross"])
    _dots(canvas, y + offsets, np.full_like(offsets, x), INDEX["cross"])
    length = round(bar_mm(panel) * panel.pixels_per_mm)
    canvas[PANEL_PIXELS - 11 : PANEL_PIXELS - 6, 7 : 9 + length] = 0
    canvas[PANEL_PIXELS - 10 : PANEL_PIXELS - 7, 8 : 8 + length] = GREYS - 1


def _dots(canvas: Canvas, rows: NDArray[np.int_], columns: NDArray[np.int_], index: int) -> None:
    inside = (rows >= 0) & (rows < PANEL_PIXELS) & (columns >= 0) & (columns < PANEL_PIXELS)
    canvas[rows[inside], columns[inside]] = index


def _write_texts(canvas: Canvas, picture: Picture, label: str) -> None:
    """White letters with a dark rim, so that they read on any grey."""
    for place, panel in enumerate(picture.panels):
        _label_panel(canvas, panel, panel_left(place))
    below = HEADER + PANEL_PIXELS + FOOTER // 2
    _text(canvas, (2, below), printable(label), "lm")
    _text(
        canvas, (canvas.shape[1] - 2, below), f"{picture.window}  ·  dashed: patch  ·  hatched: outside the scan", "rm"
    )


def _label_panel(canvas: Canvas, panel: Panel, left: int) -> None:
    name = f"overview, {panel.plane.name}" if panel.is_overview else panel.plane.name
    middle, end = PANEL_PIXELS // 2, PANEL_PIXELS
    _text(canvas, (left + 2, HEADER // 2), name, "lm")
    places = ((4, middle, "lm"), (end - 4, middle, "rm"), (middle, 3, "ma"), (middle, end - 4, "md"))
    for letter, (x, y, anchor) in zip(panel.plane.letters, places, strict=True):
        _text(canvas, (left + x, HEADER + y), letter, anchor)
    _text(canvas, (left + 8, HEADER + end - 13), f"{bar_mm(panel)} mm", "ld")


def _text(canvas: Canvas, place: tuple[int, int], text: str, anchor: str) -> None:
    """Put a text on the canvas; what lies outside is cut off."""
    letters, rim, (left, top) = _drawn_text(text, anchor)
    first_row, first_column = max(place[1] + top, 0), max(place[0] + left, 0)
    rows, columns = slice(first_row - place[1] - top, None), slice(first_column - place[0] - left, None)
    under = canvas[first_row : place[1] + top + len(rim), first_column : place[0] + left + rim.shape[1]]
    white, dark = (drawn[rows, columns][: under.shape[0], : under.shape[1]] for drawn in (letters, rim))
    under[dark > 127] = 0
    under[white > 0] = (white[white > 0].astype(np.uint16) * (GREYS - 1) // 255).astype(np.uint8)


@lru_cache(maxsize=256)
def _drawn_text(text: str, anchor: str) -> tuple[Canvas, Canvas, tuple[int, int]]:
    """Letters and their rim, 0..255, and where they start from the anchor (x, y): most texts are on every picture."""
    from PIL import Image, ImageDraw

    box = _font().getbbox(text, anchor=anchor, stroke_width=1)
    left, top, right, bottom = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
    letters, rim = (Image.new("L", (max(right - left, 1), max(bottom - top, 1))) for _ in range(2))
    start = (-left, -top)
    ImageDraw.Draw(letters).text(start, text, fill=255, font=_font(), anchor=anchor)
    ImageDraw.Draw(rim).text(start, text, fill=255, font=_font(), anchor=anchor, stroke_width=1)
    return np.asarray(letters), np.asarray(rim), (left, top)


def printable(text: str, most: int = 60) -> str:
    """One short line: no control characters, cut with an ellipsis."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


@lru_cache(maxsize=1)
def _font() -> "FreeTypeFont | ImageFont":
    from PIL import ImageFont

    return ImageFont.load_default(12)
