"""A cohort with a planted difference: how dense a lesion is decides its class and when its event comes."""

from pathlib import Path

import numpy as np

from tests.training import scans

SPLITS = ["train"] * 12 + ["val"] * 6 + ["test"] * 6
RADIUS_MM = 12
AIRY_HU, DENSE_HU = -600, 300
GAP = 52


def write_cohort(folder: Path) -> None:
    """Balls in noise in one image of 1 mm, one per patient; a mask that numbers them; lesions.csv.

    Every second lesion is dense: of class b, its event within a year; the others are of class a, seen for three years.
    """
    rng, rows = np.random.default_rng(0), []
    voxels = rng.normal(-300, 60, (64, 64, len(SPLITS) * GAP + 12)).astype(np.float32)
    mask = np.zeros(voxels.shape, dtype=np.uint8)
    z, y, x = np.indices(voxels.shape, dtype=np.float32)
    for n, split in enumerate(SPLITS):
        dense = n % 2
        inside = (z - 32) ** 2 + (y - 32) ** 2 + (x - (32 + GAP * n)) ** 2 < RADIUS_MM**2
        voxels[inside] += (DENSE_HU if dense else AIRY_HU) + 300
        mask[inside] = n + 1
        row = scans.lesion("scan.nrrd", (32.0 + GAP * n, 32.0, 32.0), label="ab"[dense], split=split)
        outcome = {"time": 0.5 + 0.01 * n if dense else 3.0, "event": dense}
        names = {"lesion": f"L{n:02d}", "patient": f"p{n}", "mask": "mask.nrrd", "mask_label": n + 1}
        rows.append({**row, **names, **outcome})
    for name, array in (("scan", voxels.astype(np.int16)), ("mask", mask)):
        scans.sitk.WriteImage(scans.sitk.GetImageFromArray(array), str(folder / f"{name}.nrrd"))
    scans.write_table(folder / "lesions.csv", rows)
