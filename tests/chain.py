"""What the tests of the chain share."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fmcib_module.adapters import pixels
from fmcib_module.core.domain import Instance
from fmcib_module.core.ledger import Ledger
from tests import phantoms
from tests.phantoms import Lesion

LESIONS = (Lesion("GTV-1", in_seg=False), replace(phantoms.DEFAULT_LESIONS[1], in_rtstruct=False))
"""One lesion drawn in the RTSTRUCT, the other in the SEG."""


def rows_of(path: Path) -> list[dict[str, str]]:
    """A table's rows."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def features_of(row: dict[str, str]) -> np.ndarray:
    """A row's features as float32."""
    return np.array([float(row[name]) for name in row if name.startswith("feature_")], dtype=np.float32)


def reasons(ledger: Ledger) -> str:
    """Every reason on a ledger, one per line."""
    entries = [*ledger.series, *ledger.problems, *(roi for entry in ledger.series for roi in entry.rois)]
    return "\n".join(str(entry.reason) for entry in entries if entry.reason)


def noting(decoded: list[Instance]) -> Callable[[Sequence[Instance]], Iterator[np.ndarray]]:
    """A decoder that notes what it decodes."""

    def decode_slices(instances):
        decoded.extend(instances)
        return pixels.decode_slices(instances)

    return decode_slices
