"""Callbacks through which a run says how far it is."""

from collections.abc import Callable
from dataclasses import dataclass

from fmcib_module.core.ledger import SeriesEntry


def _ignore(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Progress:
    """What a caller may want to show.

    Attributes:
        scanned: Called with (files read, files in all) while the input is searched.
        planned: Called once with the number of series that are asked for features.
        series: Called with each series' entry when it is on the ledger.
    """

    scanned: Callable[[int, int], None] = _ignore
    planned: Callable[[int], None] = _ignore
    series: Callable[[SeriesEntry], None] = _ignore
