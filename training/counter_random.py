"""Random numbers that are a function of a key: the same for a sample whatever else is in its batch."""

from typing import Final

import torch
from torch import Tensor

_GOLDEN: Final = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_MIX_1: Final = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2: Final = -7723592293110705685  # 0x94D049BB133111EB


def derive_keys(base: Tensor, rows: Tensor, stream: int) -> Tensor:
    """A key for each row.

    Args:
        base: () or (1,) int64: another base gives other numbers.
        rows: (n,) int64.
        stream: Tells the uses of one row apart.

    Returns:
        (n,) int64.
    """
    counter = torch.full_like(rows, stream) * _GOLDEN  # a tensor: its product wraps around
    return _mix(_mix(_mix(base + _GOLDEN) ^ rows) + counter)


def uniform(keys: Tensor, count: int) -> Tensor:
    """Numbers in [0, 1) for each key, (n, count) float32, on the keys' device and the same on every device.

    References:
        Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195 (SplitMix64: a counter, well mixed).
    """
    counter = torch.arange(1, count + 1, device=keys.device) * _GOLDEN
    bits = _mix(keys[:, None] + counter) >> 40
    return (bits & 0xFFFFFF).float() * 2.0**-24


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser; int64 arithmetic wraps around as the unsigned one does."""
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Without the sign, which `>>` carries along."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
