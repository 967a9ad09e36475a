"""Agreement of repeated measurements: the six intraclass correlations, Spearman's correlation, R-squared."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from training.evaluation.metrics import Floats
from training.evaluation.quiet import without_deprecations


class Icc(StrEnum):
    """The six forms of Shrout and Fleiss 1979, with McGraw and Wong's names and the call of R's `irr::icc`."""

    ONE_WAY = "ICC(1,1)"  # ICC(1); model="oneway", unit="single": the call's defaults
    TWO_WAY_AGREEMENT = "ICC(2,1)"  # ICC(A,1); model="twoway", type="agreement"
    TWO_WAY_CONSISTENCY = "ICC(3,1)"  # ICC(C,1); model="twoway", type="consistency"
    ONE_WAY_MEAN = "ICC(1,k)"  # ICC(k); unit="average"
    TWO_WAY_AGREEMENT_MEAN = "ICC(2,k)"  # ICC(A,k)
    TWO_WAY_CONSISTENCY_MEAN = "ICC(3,k)"  # ICC(C,k)


IRR_DEFAULT: Final = Icc.ONE_WAY
"""What R's `irr::icc(ratings)` gives: model "oneway", type "consistency", unit "single"."""


@dataclass(frozen=True, slots=True)
class IccEstimate:
    """One form with its F test and exact 95 % interval (pingouin)."""

    form: Icc
    value: float
    low: float
    high: float
    f: float
    df1: int
    df2: int
    p: float


def icc(values: Floats, form: Icc = IRR_DEFAULT) -> Floats:
    """Intraclass correlation of each feature.

    Args:
        values: (n lesions, k repeats, d features).
        form: Which of the six.

    Returns:
        (d,); NaN for a feature that is constant.

    References:
        Shrout and Fleiss 1979, doi:10.1037/0033-2909.86.2.420.
    """
    n, k, _ = values.shape
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    grand = columns.mean(axis=0)
    between = k * ((rows - grand) ** 2).sum(axis=0) / (n - 1)
    raters = n * ((columns - grand) ** 2).sum(axis=0) / (k - 1)
    within = ((values - rows[:, None]) ** 2).sum(axis=(0, 1)) / (n * (k - 1))
    rest = ((values - rows[:, None] - columns + grand) ** 2).sum(axis=(0, 1)) / ((n - 1) * (k - 1))
    parts = {
        Icc.ONE_WAY: (between - within, between + (k - 1) * within),
        Icc.TWO_WAY_AGREEMENT: (between - rest, between + (k - 1) * rest + k * (raters - rest) / n),
        Icc.TWO_WAY_CONSISTENCY: (between - rest, between + (k - 1) * rest),
        Icc.ONE_WAY_MEAN: (between - within, between),
        Icc.TWO_WAY_AGREEMENT_MEAN: (between - rest, between + (raters - rest) / n),
        Icc.TWO_WAY_CONSISTENCY_MEAN: (between - rest, between),
    }
    above, below = parts[form]
    out: Floats = np.full(above.shape, np.nan)
    np.divide(above, below, out=out, where=below > 0)
    return out


def icc_estimates(values: Floats) -> dict[Icc, IccEstimate]:
    """All six forms of one measurement, with intervals.

    Args:
        values: (n lesions, k repeats).
    """
    import pandas as pd
    import pingouin

    n, k = values.shape
    lesions, repeats = np.repeat(np.arange(n), k), np.tile(np.arange(k), n)
    long = pd.DataFrame({"lesion": lesions, "repeat": repeats, "value": values.ravel()})
    rounding = pingouin.options["round.column.CI95"]
    pingouin.options["round.column.CI95"] = None  # else its intervals have two digits
    try:
        with without_deprecations(), np.errstate(divide="ignore", invalid="ignore"):  # repeats that are all the same
            table = pingouin.intraclass_corr(long, targets="lesion", raters="repeat", ratings="value")
    finally:
        pingouin.options["round.column.CI95"] = rounding
    return {form: _estimate(form, row) for form, row in zip(Icc, table.to_dict("records"), strict=True)}


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation of two arrays of one shape, flattened; NaN where one is constant."""
    from scipy.stats import rankdata

    return _correlation(rankdata(a.ravel()), rankdata(b.ravel()))


def r_squared(a: Floats, b: Floats) -> float:
    """Share of the variance of b that a straight line of a explains: Pearson's correlation, squared."""
    return _correlation(a.ravel(), b.ravel()) ** 2


def _correlation(a: Floats, b: Floats) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.asarray(np.corrcoef(a, b))[0, 1])


def _estimate(form: Icc, row: dict[str, object]) -> IccEstimate:
    low, high = np.asarray(row["CI95"], dtype=float)
    numbers = [float(np.asarray(row[name])) for name in ("ICC", "F", "df1", "df2", "pval")]
    value, f, df1, df2, p = numbers
    return IccEstimate(form, value, float(low), float(high), f, int(df1), int(df2), p)
