"""Draw docs/images/gallery-*.png: the report of eight made-up chests with 40 lesions, and a seed in a wrong place.

Run: `python -m docs.make_gallery` (needs Chromium; about a minute).
"""

import subprocess
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from fmcib_module import run
from fmcib_module.adapters.chest_phantom import Ellipsoid, chest_hu
from fmcib_module.adapters.example import GRID, TAGS
from fmcib_module.adapters.study_writer import ct_datasets
from fmcib_module.core.domain import Point

IMAGES = Path(__file__).parent / "images"
CHESTS = 8

PLACES: dict[str, tuple[Point, float]] = {
    "nodule, right lung": ((-80.0, 10.0, 40.0), 35.0),
    "nodule, left lung": ((84.0, 28.0, -8.0), 35.0),
    "node": ((-24.0, 4.0, 26.0), 60.0),
    "liver lesion": ((-72.0, -8.0, -80.0), 25.0),
    "vertebra": ((0.0, 68.0, 0.0), 700.0),
}
"""Where lesions lie, and their Hounsfield units."""

SHOTS = {
    "gallery-tsne": "chooseTsne();",
    "gallery-pca-dark": "setTheme('dark'); showTip(LESIONS[3]);",
    "gallery-enlarged": "openViewer(LESIONS[2]);",
}
"""Picture -> what a reader does on the page."""


def main() -> None:
    """Write the pictures."""
    with TemporaryDirectory() as folder:
        cohort, output = Path(folder) / "cohort", Path(folder) / "results"
        for number in range(CHESTS):
            write_chest(cohort, number)
        run(cohort, output)
        page = (output / "report.html").read_text(encoding="utf-8")
        for name, script in SHOTS.items():
            shoot(page, script, Path(folder), IMAGES / f"{name}.png")
        write_chest(Path(folder) / "moved", 0, moved_mm=-60.0)
        run(Path(folder) / "moved", Path(folder) / "moved results", report=False)
        [picture] = (Path(folder) / "moved results").glob("*/qc/*right*.png")
        (IMAGES / "gallery-wrong-seed.png").write_bytes(picture.read_bytes())


def write_chest(folder: Path, number: int, *, moved_mm: float = 0.0) -> None:
    """Write a chest of its own patient with a lesion at each place, and their points, `moved_mm` towards the head."""
    rng = np.random.default_rng(number)
    lesions = {
        name: Ellipsoid(tuple(rng.normal(centre, 4.0)), tuple(rng.uniform(6.0, 14.0, 3)), hu)
        for name, (centre, hu) in PLACES.items()
    }
    tags = replace(TAGS, key=f"gallery {number}", patient_id=f"GALLERY-{number}")
    ct = ct_datasets(chest_hu(GRID, tuple(lesions.values()), seed=number), GRID, tags)
    (folder / f"{number}").mkdir(parents=True)
    for k, ds in enumerate(ct):
        ds.save_as(folder / f"{number}" / f"{k:03d}.dcm", enforce_file_format=True)
    rows = [
        f'{x},{y},{z + moved_mm},"{name}",{ct[0].SeriesInstanceUID}'
        for name, (x, y, z) in ((name, lesion.centre) for name, lesion in lesions.items())
    ]
    table = "\n".join(['coordX,coordY,coordZ,"Mhub ROI",series_uid', *rows, ""])
    (folder / f"{number}" / "seeds.csv").write_text(table, encoding="utf-8")


def shoot(page: str, script: str, folder: Path, path: Path) -> None:
    """A screenshot after a script, lesions coloured by the ROI's name."""
    setup = "byId('colour').value = 'ROI name'; paint();"
    setup += "const chooseTsne = () => document.querySelector('[name=map][value=tsne]').click();"
    hooked, shot = folder / "hooked.html", folder / "shot.png"
    hooked.write_text(page.replace("</body>", f"<script>{setup}{script}</script></body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--virtual-time-budget=5000", "--disable-gpu"]
    options += ["--window-size=1500,960", f"--user-data-dir={folder / 'profile'}", f"--screenshot={shot}"]
    subprocess.run(["chromium", *options, hooked.as_uri()], check=True, capture_output=True)
    Image.open(shot).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)


if __name__ == "__main__":
    main()
