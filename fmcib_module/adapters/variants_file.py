"""Features of jittered seeds and other modes: one npz per series, beside its table."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.core.domain import Lesion
from fmcib_module.core.errors import OutputError

VARIANTS_NAME: Final = "variants.npz"


def write_variants(lesions: tuple[Lesion, ...], path: Path) -> None:
    """Write the features of all lesions and of their variants.

    Arrays: `lesion` (row of the series' features.csv, from 0), `variant` ("" for the lesion's own features) and
    `features` (n, n_features) float32.

    Raises:
        OutputError: The file cannot be written.
    """
    rows = [
        (place, name, values)
        for place, lesion in enumerate(lesions)
        for name, values in [("", lesion.values), *sorted(lesion.variants.items())]
    ]
    places, names, values = zip(*rows, strict=True)
    buffer = BytesIO()
    np.savez(buffer, lesion=np.array(places), variant=np.array(names), features=np.stack(values))
    write_bytes(path, buffer.getvalue())


def read_variants(path: Path) -> Iterator[dict[str, NDArray[np.float32]]]:
    """For each lesion of a series that was written, variant -> features.

    Raises:
        OutputError: The file is absent or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            places, names, features = stored["lesion"], stored["variant"], stored["features"]
    except (EOFError, OSError, KeyError, ValueError, BadZipFile) as error:
        where = f"{path.parent.name}/{path.name}"
        raise OutputError(f"cannot be read: {type(error).__name__}", where, "run again with --force") from error
    for place in np.unique(places):
        rows = np.flatnonzero(places == place)
        yield {str(names[row]): features[row] for row in rows}
