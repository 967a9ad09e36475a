"""NUM content items by the thousand: one is encoded with pydicom, the others are copies with their numbers changed."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from fmcib_module.adapters.derived import code_item
from fmcib_module.adapters.encoded_items import encode_item
from fmcib_module.core.report import NO_UNITS, Concept, feature_concept

DS_LENGTH = 16
"""Longest Decimal String (PS3.5 6.2); "-1.17549435e-38", the longest float32 in nine digits, takes 15."""

_TOKEN_DS = "-1.23456789e-123"
_TOKEN_FD = -1.23456789e-123


def encode_numbers(values: NDArray[np.float32]) -> bytes:
    """Encode one NUM item per feature (TID 300, row 1): Explicit VR Little Endian, items of defined length.

    Args:
        values: (n_features,) finite float32.

    Returns:
        n_features sequence items. NumericValue (DS) holds nine digits, which name a float32 uniquely;
        FloatingPointValue (FD) holds the float32 exactly (PS3.3 C.18.1).

    Raises:
        ValueError: A value is not finite: a Decimal String cannot hold it.
    """
    if not np.isfinite(values).all():
        msg = "a Decimal String cannot hold values that are not finite"
        raise ValueError(msg)
    items, ds_at, fd_at = _template(len(values))
    items = items.copy()
    digits = (f"%-{DS_LENGTH}.9g" * len(values)) % tuple(values.tolist())
    items[:, ds_at : ds_at + DS_LENGTH] = np.frombuffer(digits.encode("ascii"), np.uint8).reshape(-1, DS_LENGTH)
    items[:, fd_at : fd_at + 8] = values.astype("<f8").view(np.uint8).reshape(-1, 8)
    return items.tobytes()


def number_item(concept: Concept) -> Dataset:
    """A NUM item whose value stands for the numbers to come."""
    value = Dataset()
    value.MeasurementUnitsCodeSequence = [code_item(NO_UNITS)]
    value.FloatingPointValue = _TOKEN_FD
    value.NumericValue = DSfloat(_TOKEN_DS)
    item = Dataset()
    item.RelationshipType = "CONTAINS"
    item.ValueType = "NUM"
    item.ConceptNameCodeSequence = [code_item(concept)]
    item.MeasuredValueSequence = [value]
    return item


@lru_cache(maxsize=4)
def _template(n_features: int) -> tuple[NDArray[np.uint8], int, int]:
    """All items with their names but without values, (n_features, bytes per item), and where DS and FD start.

    All items are equally long because codes and meanings have a fixed number of digits.
    """
    first = feature_concept(0)
    item = encode_item(number_item(first))
    items = np.tile(np.frombuffer(item, np.uint8), (n_features, 1))
    for position, text in ((item.index(first.value.encode()), 0), (item.index(first.meaning.encode()), 2)):
        names = "".join(feature_concept(index)[text] for index in range(n_features)).encode("ascii")
        width = len(first[text])
        items[:, position : position + width] = np.frombuffer(names, np.uint8).reshape(n_features, width)
    items.setflags(write=False)
    return items, item.index(_TOKEN_DS.encode()), item.index(np.float64(_TOKEN_FD).tobytes())
