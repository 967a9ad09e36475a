"""One slice, decoded by itself."""

import numpy as np
from numpy.typing import NDArray

from fmcib_module.adapters.pixels import decode_slices
from fmcib_module.core.domain import Instance


def decode_slice(instance: Instance) -> NDArray[np.float32]:
    """(rows, columns) Hounsfield units."""
    (hu,) = decode_slices([instance])
    return hu.astype(np.float32, copy=False)
