"""Libraries that call pandas in ways of an older version: their users cannot change that, so it is not their news."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_deprecations() -> Iterator[None]:
    """Leave out warnings of what a later pandas will not take; lifelines 0.30, pingouin 0.7 and gseapy 1.3 need it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
