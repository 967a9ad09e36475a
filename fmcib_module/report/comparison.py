"""How far features move, over all lesions of a run."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.errors import OutputError
from fmcib_module.core.ledger import RoiEntry, SeriesEntry
from fmcib_module.core.naming import ICC_NAME

GOOD_ICC: Final = 0.75
"""From here on called good (Koo and Li 2016, doi:10.1016/j.jcm.2016.02.012)."""

Lesions = Sequence[tuple[SeriesEntry, RoiEntry]]


@dataclass(frozen=True, slots=True)
class StabilitySummary:
    """Stability over all lesions that have any.

    Attributes:
        n_seeds: Jittered seeds per lesion.
        n_lesions: Lesions of which at least one of them gave features.
        n_lost: Seeds without features, over all lesions.
        cosine_median: Of the lesions' mean cosines.
        cosine_lowest: Over all seeds.
        icc_median: Of the features' ICC(2,1); None where there are fewer than two lesions.
        icc_good: Share of the features above `GOOD_ICC`.
    """

    n_seeds: int
    n_lesions: int
    n_lost: int
    cosine_median: float
    cosine_lowest: float
    icc_median: float | None
    icc_good: float


@dataclass(frozen=True, slots=True)
class DriftSummary:
    """Drift between two modes over all lesions that have features in both."""

    mode: str
    other: str
    n_lesions: int
    cosine_median: float
    cosine_lowest: float
    l2_median: float
    l2_largest: float


def read_stability(output: Path, lesions: Lesions) -> StabilitySummary | None:
    """Sum up the ledger's numbers and the table of ICC; None where there are none.

    Raises:
        OutputError: The table cannot be read.
    """
    found = [roi.stability for _, roi in lesions if roi.stability is not None]
    means = [one.cosine_mean for one in found if one.cosine_mean is not None]
    lowest = [one.cosine_min for one in found if one.cosine_min is not None]
    if not means:
        return None
    iccs = _read_icc(output / ICC_NAME)
    return StabilitySummary(
        n_seeds=found[0].n_seeds,
        n_lesions=len(means),
        n_lost=sum(one.n_lost for one in found),
        cosine_median=median(means),
        cosine_lowest=min(lowest),
        icc_median=float(np.median(iccs)) if len(iccs) else None,
        icc_good=float(np.mean(iccs > GOOD_ICC)) if len(iccs) else 0.0,
    )


def summarise_drift(lesions: Lesions) -> tuple[DriftSummary, ...]:
    """One row for each two modes, in the order of the ledger."""
    drifts = [drift for _, roi in lesions for drift in roi.drift]
    rows = []
    for pair in dict.fromkeys((drift.mode, drift.other) for drift in drifts):
        here = [drift for drift in drifts if (drift.mode, drift.other) == pair]
        cosines, moved = [drift.cosine for drift in here], [drift.relative_l2 for drift in here]
        spread = (median(cosines), min(cosines), median(moved), max(moved))
        rows.append(DriftSummary(pair[0].value, pair[1].value, len(here), *spread))
    return tuple(rows)


def _read_icc(path: Path) -> NDArray[np.float64]:
    """(n,) ICC of the features that vary; empty where there is no table."""
    if not path.is_file():
        return np.empty(0)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            iccs = np.array([float(row["icc"]) for row in csv.DictReader(file)], dtype=np.float64)
    except (OSError, KeyError, TypeError, ValueError) as error:
        reason = type(error).__name__
        raise OutputError(f"the table cannot be read: {reason}", path.name, "run again with --force") from error
    return np.asarray(iccs[np.isfinite(iccs)])
