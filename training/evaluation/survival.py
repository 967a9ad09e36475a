"""Survival by groups and covariates: Kaplan-Meier, log-rank, Cox regression (lifelines)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.errors import InputError
from training.evaluation.metrics import Floats, RiskScores
from training.evaluation.quiet import without_deprecations

if TYPE_CHECKING:
    import pandas as pd

GROUPS: Final = ("low risk", "high risk")


@dataclass(frozen=True, slots=True)
class Step:
    """A point of a Kaplan-Meier curve.

    Attributes:
        time: Years.
        survival: Estimated share still without the event, after this time.
        low: 95 % interval by Greenwood's formula on the log(-log) scale.
        high: Likewise.
        at_risk: Under observation just before.
        events: At this time.
    """

    time: float
    survival: float
    low: float
    high: float
    at_risk: int
    events: int


@dataclass(frozen=True, slots=True)
class LogRank:
    """Log-rank test between groups."""

    statistic: float
    degrees: int
    p: float


@dataclass(frozen=True, slots=True)
class Hazard:
    """A covariate of a Cox regression.

    Attributes:
        covariate: Its name; a category against the first one is "name: category".
        ratio: Hazard ratio for one unit more, or for belonging to the category.
        low: 95 % Wald interval of the ratio.
        high: Likewise.
        p: Of Wald's test, two-sided.
        n: Patients in the regression.
        events: Events among them.
    """

    covariate: str
    ratio: float
    low: float
    high: float
    p: float
    n: int
    events: int


def median_groups(risk: Floats, tuning_risk: Floats) -> NDArray[np.bool_]:
    """(n,) whether the risk is above the median of the tuning set, so that the cut knows nothing of the test set."""
    return risk > float(np.median(tuning_risk))


def kaplan_meier(time: Floats, event: NDArray[np.bool_]) -> list[Step]:
    """The Kaplan-Meier curve, a step per distinct time, starting at 0."""
    from lifelines import KaplanMeierFitter

    with without_deprecations():
        fitted = KaplanMeierFitter().fit(time, event)
    interval = fitted.confidence_interval_survival_function_.to_numpy(dtype=np.float64)
    table, survival = fitted.event_table, fitted.survival_function_.to_numpy(dtype=np.float64)[:, 0]
    at_risk, events = table["at_risk"].to_numpy(), table["observed"].to_numpy()
    return [
        Step(float(t), float(s), float(low), float(high), int(at_risk[n]), int(events[n]))
        for n, (t, s, (low, high)) in enumerate(zip(fitted.timeline, survival, interval, strict=True))
    ]


def median_survival(curve: Sequence[Step]) -> float:
    """The first time at which half or fewer are without the event; infinite where it never comes to that."""
    return next((step.time for step in curve if step.survival <= 0.5), float("inf"))


def log_rank(time: Floats, event: NDArray[np.bool_], group: NDArray[np.generic]) -> LogRank:
    """Log-rank test between two groups or more; NaN where there is only one."""
    from lifelines.statistics import multivariate_logrank_test

    degrees = len(np.unique(group)) - 1
    if degrees < 1:
        return LogRank(float("nan"), 0, float("nan"))
    with without_deprecations():
        found = multivariate_logrank_test(time, group, event)
    return LogRank(float(found.test_statistic), degrees, float(found.p_value))


def cox(time: Floats, event: NDArray[np.bool_], covariates: "pd.DataFrame", *, where: str = "cox") -> list[Hazard]:
    """Cox regression on all covariates together; Efron's method for ties, no penalty.

    Text columns become one indicator per category but the first in alphabetical order; rows with an empty cell are
    left out.

    Raises:
        InputError: There are fewer than two events, a covariate is constant, or the regression does not converge.
    """
    import pandas as pd
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning

    numeric = {name: covariates[name].dtype.kind in "fiub" for name in covariates}
    parts = [
        covariates[[name]].astype(np.float64) if numeric[name] else _indicators(covariates[name]) for name in covariates
    ]
    design = pd.concat(parts, axis=1)
    kept = design.notna().all(axis=1).to_numpy() & np.isfinite(time)
    design, time, event = design[kept], time[kept], event[kept]
    constant = [name for name in design if design[name].nunique() < 2]
    if constant or event.sum() < 2:
        what = f"{constant[0]} is constant" if constant else f"there are {int(event.sum())} events"
        raise InputError(f"no Cox regression: {what}", where, "leave the covariate out or give more patients")
    table = design.assign(_time=time, _event=event)
    try:
        with without_deprecations():
            warnings.simplefilter("error", ConvergenceWarning)  # it separates the events: its ratio has no bound
            fitted = CoxPHFitter().fit(table, duration_col="_time", event_col="_event")
    except (ConvergenceError, ConvergenceWarning) as error:
        fix = "leave out covariates that say the same or separate the events"
        raise InputError("no Cox regression: it does not converge", where, fix) from error
    columns = ["exp(coef)", "exp(coef) lower 95%", "exp(coef) upper 95%", "p"]
    rows = zip(fitted.summary.index, fitted.summary[columns].to_numpy(dtype=np.float64), strict=True)
    return [
        Hazard(str(name), float(ratio), float(low), float(high), float(p), len(design), int(event.sum()))
        for name, (ratio, low, high, p) in rows
    ]


def risk_hazard(predictions: RiskScores, tuning_risk: Floats) -> Hazard:
    """Univariate Cox regression of the high-risk group against the low-risk group.

    Raises:
        InputError: As `cox`.
    """
    import pandas as pd

    high = median_groups(predictions.risk, tuning_risk).astype(np.float64)
    return cox(predictions.time, predictions.event, pd.DataFrame({GROUPS[1]: high}), where=GROUPS[1])[0]


def _indicators(column: "pd.Series[str]") -> "pd.DataFrame":
    import pandas as pd

    known = column.where(column.notna() & (column.astype(str).str.strip() != ""))
    names = sorted(known.dropna().unique())[1:]
    found = {f"{column.name}: {name}": (known == name).astype(np.float64).where(known.notna()) for name in names}
    return pd.DataFrame(found, index=column.index)
