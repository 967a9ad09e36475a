"""Draw docs/images: the example patient with the cubes that the network sees, a lesion's picture, the report.

Run: `python -m docs.make_images` (needs matplotlib and Chromium).
"""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from fmcib_module import Seed, Volume, extract_patch, find_seeds, read_studies, read_volume, run
from fmcib_module.adapters.example import write_example
from fmcib_module.core.conventions import AIR_HU, HU_RANGE, PATCH_SIZE

IMAGES = Path(__file__).parent / "images"
WINDOW_HU = (-1000, 400)


def main() -> None:
    """Write the pictures."""
    with TemporaryDirectory() as folder:
        write_example(Path(folder))
        draw_report(Path(folder))
        series = next(s for study in read_studies(folder) for s in study.series if s.modality == "CT")
        volume = read_volume(series)
        seeds = find_seeds(series)
        figure, axes = plt.subplots(2, len(seeds), figsize=(3 * len(seeds), 6), facecolor="black")
        for column, seed in zip(axes.T, seeds, strict=True):
            draw_slice(column[0], volume, seed)
            draw_patch(column[1], volume, seed)
        figure.tight_layout(pad=0.4)
        figure.savefig(IMAGES / "example.png", dpi=80)


def draw_report(folder: Path) -> None:
    """A lesion's picture, and the report as a browser shows it, pointing at a lesion on the map."""
    output = folder / "results"
    run(folder, output)
    [picture] = output.glob("*/qc/*-GTV-1.png")
    (IMAGES / "lesion.png").write_bytes(picture.read_bytes())
    page = (output / "report.html").read_text(encoding="utf-8")
    hovered = folder / "hovered.html"
    hovered.write_text(page.replace("</body>", "<script>showTip(LESIONS[1])</script></body>"), encoding="utf-8")
    shot = folder / "report.png"
    options = [
        "--headless",
        "--no-sandbox",
        "--hide-scrollbars",
        "--virtual-time-budget=5000",
        "--window-size=1500,960",
    ]
    options += [f"--user-data-dir={folder / 'profile'}", f"--screenshot={shot}", hovered.as_uri()]
    subprocess.run(["chromium", *options], check=True, capture_output=True)
    Image.open(shot).convert("RGB").save(IMAGES / "report.png", optimize=True)


def draw_slice(axis: plt.Axes, volume: Volume, seed: Seed) -> None:
    """The axial slice through the seed, with the patch's frame."""
    i, j, k = (np.linalg.inv(volume.affine) @ [*seed.lps_mm, 1.0])[:3]
    hu = volume.read_slab(round(k), round(k) + 1)[0]
    axis.imshow(hu, cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1])
    width, height, _ = (PATCH_SIZE / spacing for spacing in volume.grid.spacing_mm)
    axis.add_patch(plt.Rectangle((i - width / 2, j - height / 2), width, height, fill=False, color="#ffd24a", lw=1.5))
    axis.set_title(f"{seed.label} ({seed.kind})", color="white", fontsize=10)
    axis.axis("off")


def draw_patch(axis: plt.Axes, volume: Volume, seed: Seed) -> None:
    """The middle of the patch, as the network gets it."""
    patch = extract_patch(volume, seed)
    low, high = ((hu - AIR_HU) / HU_RANGE for hu in WINDOW_HU)
    axis.imshow(patch.voxels[patch.seed_index_kji[0]], cmap="gray", vmin=low, vmax=high)
    axis.plot(*patch.seed_index_kji[:0:-1], "+", color="#ffd24a", ms=14)
    axis.set_title("50 mm patch", color="white", fontsize=10)
    axis.axis("off")


if __name__ == "__main__":
    main()
