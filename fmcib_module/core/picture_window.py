"""Which window a picture is shown in, by what it shows."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Window(NamedTuple):
    """Hounsfield units from black to white."""

    name: str
    width: int
    level: int

    def __str__(self) -> str:
        return f"{self.name} W{self.width} L{self.level}"

    def grey(self, hu: NDArray[np.float32]) -> NDArray[np.float32]:
        """0 (black) ... 1 (white)."""
        return np.clip((hu - (self.level - self.width / 2)) / self.width, 0.0, 1.0).astype(np.float32)


LUNG: Final = Window("lung", 1500, -600)
SOFT_TISSUE: Final = Window("soft tissue", 400, 40)
BONE: Final = Window("bone", 1800, 400)

LUNG_HU: Final = (-970.0, -400.0)
"""Aerated lung; the air around the patient lies below."""

BONE_HU: Final = 200.0
"""Above this, a large share of a lesion is bone or calcification; contrast-filled vessels mostly lie below."""


def choose_window(around_hu: NDArray[np.float32], middle_hu: NDArray[np.float32]) -> Window:
    """Bone if 25 % of the middle is bone, else lung if 25 % of all that is shown is lung, else soft tissue.

    Args:
        around_hu: Values that the picture shows.
        middle_hu: Values near its middle.
    """
    if middle_hu.size and np.mean(middle_hu > BONE_HU) >= 0.25:
        return BONE
    if around_hu.size and np.mean((around_hu > LUNG_HU[0]) & (around_hu < LUNG_HU[1])) >= 0.25:
        return LUNG
    return SOFT_TISSUE
