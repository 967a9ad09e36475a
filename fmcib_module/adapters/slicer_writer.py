"""Files for 3D Slicer: seeds as a markups file, a patch as NRRD where it lies in the patient."""

import gzip
import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.conventions import AIR_HU, HU_RANGE
from fmcib_module.core.domain import Patch, Seed
from fmcib_module.core.report import tracking_identifier

SEEDS_NAME: Final = "seeds.mrk.json"

_SCHEMA: Final = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)


def seeds_markup(seeds: Sequence[Seed]) -> bytes:
    """Seeds as one list of points, LPS millimetres, in their order; flags stand in the description.

    Returns:
        A .mrk.json file (Slicer's markups schema 1.0.3), which `fmcib run` also reads.
    """
    points = [
        {
            "id": str(number),
            "label": tracking_identifier(seed),
            "description": ", ".join(flag.replace("_", " ") for flag in seed.flags),
            "position": list(seed.lps_mm),
            "selected": True,
            "locked": True,  # a slip of the mouse shall not move a lesion
            "visibility": True,
            "positionStatus": "defined",
        }
        for number, seed in enumerate(seeds, start=1)
    ]
    markup: dict[str, Any] = {
        "type": "Fiducial",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": True,
        "labelFormat": "%N-%d",
        "controlPoints": points,
    }
    document = {"@schema": _SCHEMA, "markups": [markup]}
    return json.dumps(document, indent=1, ensure_ascii=False).encode()


def patch_nrrd(patch: Patch, affine: NDArray[np.float64]) -> bytes:
    """A patch in Hounsfield units, so that it has the window of the scan that it is laid over.

    Args:
        patch: As the network sees it.
        affine: (4, 4), patch index (x, y, z, 1) to LPS mm, from `core.patch.patch_affine`.

    Returns:
        An NRRD file (format 4, float, gzip). It is written here and not by ITK, since the published sampling of an
        oblique scan is not exactly a rotation, which ITK's images cannot express.
    """
    columns = " ".join(_vector(affine[:3, axis]) for axis in range(3))
    header = [
        "NRRD0004",
        "type: float",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(n) for n in patch.voxels.shape[::-1])}",
        f"space directions: {columns}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(affine[:3, 3])}",
    ]
    hu = patch.voxels * np.float32(HU_RANGE) + np.float32(AIR_HU)
    return "\n".join([*header, "", ""]).encode("ascii") + gzip.compress(hu.astype("<f4").tobytes(), mtime=0)


def _vector(values: NDArray[np.float64]) -> str:
    return f"({','.join(repr(float(value)) for value in values)})"
