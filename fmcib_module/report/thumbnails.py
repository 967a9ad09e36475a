"""Pictures of lesions, small enough that thousands fit on one page (Pillow)."""

import base64
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from PIL import Image, UnidentifiedImageError

from fmcib_module.core.picture import PANEL_PIXELS


class Size(NamedTuple):
    """How a picture goes onto the page.

    Attributes:
        most: Lesions up to which this size is taken.
        width: Pixels.
        quality: WebP quality, 0..100.
    """

    most: int
    width: int
    quality: int


SIZES: Final = (
    Size(500, 4 * PANEL_PIXELS + 18, 80),  # as drawn, about 40 kB
    Size(1500, 720, 70),  # about 19 kB
    Size(5500, 400, 40),  # about 5 kB
)
"""Beyond the last size the page links to the pictures' files instead of holding them."""

ALL_PICTURES: Final = 45_000_000
"""Characters of all pictures together, so that the page stays under 50 MB; none may take more than its share."""

SMALLER: Final = (1.0, 0.75, 0.55, 0.4, 0.3)
"""What width and quality are multiplied by, in turn, until a picture (a noisy scan) is within its share."""

NONE: Final = ""


def embed_pictures(paths: Sequence[Path | None]) -> Iterator[str]:
    """A data URI for each picture, in order; "" where there is none, it cannot be read, or there are too many."""
    size = next((size for size in SIZES if len(paths) <= size.most), None)
    if size is None:
        yield from (NONE for _ in paths)
        return
    with ThreadPoolExecutor() as pool:  # Pillow works outside the interpreter's lock
        yield from pool.map(lambda path: _embed(path, size), paths)


def _embed(path: Path | None, size: Size) -> str:
    if path is None:
        return NONE
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            image = picture.convert("RGB")
    except (OSError, UnidentifiedImageError):
        return NONE
    uris = (_data_uri(image, round(size.width * f), round(size.quality * f)) for f in SMALLER)
    return next((uri for uri in uris if len(uri) <= ALL_PICTURES // size.most), NONE)


def _data_uri(image: Image.Image, width: int, quality: int) -> str:
    if image.width > width:
        image = image.resize(
            (width, round(image.height * width / image.width)), Image.Resampling.LANCZOS, reducing_gap=2.0
        )
    out = io.BytesIO()
    image.save(out, "WEBP", quality=quality, method=2)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode("ascii")
