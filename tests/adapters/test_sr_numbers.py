import struct
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.filereader import read_sequence

from fmcib_module.adapters.sr_numbers import encode_numbers
from tests.adapters.report_builders import EXTREMES, random_features


def decoded(values: NDArray[np.float32]) -> list[Dataset]:
    encoded = encode_numbers(values)
    return list(read_sequence(BytesIO(encoded), False, True, len(encoded), ["utf-8"]))


def test_items_hold_the_float32_exactly_in_both_numbers() -> None:
    values = np.concatenate([EXTREMES, random_features(500)])
    for value, item in zip(values, decoded(values), strict=True):
        measured = item.MeasuredValueSequence[0]
        assert struct.pack("<f", measured.FloatingPointValue) == value.tobytes()
        assert np.float32(measured.NumericValue).tobytes() == value.tobytes()
        assert len(measured.NumericValue.original_string) <= 16


def test_items_are_named_in_order() -> None:
    items = decoded(random_features(4096))
    names = [item.ConceptNameCodeSequence[0] for item in items]
    assert [name.CodeValue for name in names] == [f"FEAT{n:04d}" for n in range(4096)]
    assert [name.CodeMeaning for name in names] == [f"Deep feature {n:04d}" for n in range(4096)]
    assert {name.CodingSchemeDesignator for name in names} == {"99FMCIB"}
    assert {(item.ValueType, item.RelationshipType) for item in items} == {("NUM", "CONTAINS")}
    unit = items[-1].MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("1", "UCUM")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        encode_numbers(np.array([1, bad], dtype=np.float32))
