"""What is judged of each method alone: classes one by one, calibration, decision curves, survival of risk groups."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from fmcib_module.core.errors import InputError
from training.evaluation.calibration import calibrate, decision_curve
from training.evaluation.compare import add_metric
from training.evaluation.methods import Judged, Metric
from training.evaluation.metrics import ClassScores, Counts, Floats, RiskScores, auc_of, average_precision_of
from training.evaluation.predictions import Run
from training.evaluation.results import Results
from training.evaluation.survival import (
    GROUPS,
    cox,
    kaplan_meier,
    log_rank,
    median_groups,
    median_survival,
    risk_hazard,
)

THRESHOLDS: Final = np.linspace(0.01, 0.99, 99)
"""Of the decision curves."""


def judge_classes(judged: Judged, counts: Counts, results: Results) -> None:
    """Per-class metrics, calibration and, of two classes, the decision curve (of the first seed)."""
    for key, run in judged.runs.items():
        named: dict[str, Any] = {"task": judged.task, "method": key.method, "share": key.share}
        scores: ClassScores = judged.methods[key][0]
        numbers = range(len(run.classes)) if len(run.classes) > 2 else [1]
        for number in numbers:
            if len(run.classes) > 2:
                for name, metric in (("average_precision", average_precision_of), ("auc", auc_of)):
                    add_metric(judged, key, name, run.classes[number], _of_class(metric, number), counts, results)
            positive, probability = scores.truth == number, scores.scores[:, number]
            class_ = {"class": run.classes[number]}
            found = calibrate(probability, positive)
            results.add("calibration", **named, **class_, calibration=found, n=len(positive))
            for bin_ in found.bins:
                results.add("calibration_bins", **named, **class_, bin=bin_)
            for point in decision_curve(probability, positive, THRESHOLDS) if len(run.classes) == 2 else ():
                results.add("decision_curves", **named, **class_, point=point)


def judge_survival(judged: Judged, clinical: Path | None, covariates: Sequence[str], results: Results) -> None:
    """Groups cut at the tuning set's median risk: Kaplan-Meier, log-rank, Cox (of the first seed)."""
    for key, run in judged.runs.items():
        named: dict[str, Any] = {"task": judged.task, "method": key.method, "share": key.share}
        tuning = judged.tuning[key]
        if not len(tuning.frame):
            results.add("notes", **named, note="no risk groups: no lesion of the tuning split was predicted")
            continue
        scores = run.risk_scores()
        high = median_groups(scores.risk, tuning.risk)
        for group, inside in zip(GROUPS, (~high, high), strict=True):
            curve = kaplan_meier(scores.time[inside], scores.event[inside]) if inside.any() else []
            facts = {"n": int(inside.sum()), "events": int(scores.event[inside].sum())}
            cut = float(np.median(tuning.risk))
            results.add("groups", **named, cut=cut, group=group, **facts, median_survival=median_survival(curve))
            for step in curve:
                results.add("kaplan_meier", **named, group=group, step=step)
        results.add("log_rank", **named, test=log_rank(scores.time, scores.event, high))
        _add_cox(run, scores, tuning.risk, clinical, covariates, named, results)


def _add_cox(
    run: Run,
    scores: RiskScores,
    tuning_risk: Floats,
    clinical: Path | None,
    covariates: Sequence[str],
    named: Mapping[str, Any],
    results: Results,
) -> None:
    """Univariate and, with clinical covariates, multivariate; a regression that cannot be done is a note."""
    where = f"{named['task']}, {named['method']}"
    try:
        results.add("cox", **named, model="univariate", hazard=risk_hazard(scores, tuning_risk))
    except InputError as error:
        results.add("notes", **named, note=str(error))
    if clinical is None:
        return
    table = _covariates(clinical, covariates, run.frame, where)
    table.insert(0, GROUPS[1], median_groups(scores.risk, tuning_risk).astype(np.float64))
    try:
        for hazard in cox(scores.time, scores.event, table, where=where):
            results.add("cox", **named, model="multivariate", hazard=hazard)
    except InputError as error:
        results.add("notes", **named, note=str(error))


def _covariates(path: Path, names: Sequence[str], frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """The covariates of each lesion, joined by `lesion` or `patient`."""
    try:
        table = pd.read_csv(path, dtype={"lesion": str, "patient": str})
    except (OSError, ValueError) as error:
        reason = type(error).__name__
        raise InputError(f"the covariates cannot be read: {reason}", path.name, "give a CSV file") from error
    key = next((name for name in ("lesion", "patient") if name in table), "lesion")
    if missing := [name for name in (key, *names) if name not in table]:
        raise InputError(f"column(s) {', '.join(missing)} are missing", path.name, f"they are wanted by {where}")
    if table[key].duplicated().any():
        raise InputError(f"a {key} is there twice", path.name, "give one row each")
    return table.set_index(key)[list(names)].reindex(frame[key]).reset_index(drop=True)


def _of_class(metric: Callable[..., Floats], number: int) -> Metric:
    return lambda scores, counts: metric(scores.scores[:, number], scores.truth == number, counts)
