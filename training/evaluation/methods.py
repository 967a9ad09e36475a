"""Methods side by side: the fits of a task as scores of the same lesions, with what is measured of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from fmcib_module.core.errors import InputError
from training.evaluation.metrics import CLASS_METRICS, RISK_METRICS, Counts, Floats
from training.evaluation.predictions import Run

Scores = Any
"""`ClassScores` or `RiskScores`; all of one task and kind are the same."""

Metric = Callable[[Scores, Counts], Floats]


class Key(NamedTuple):
    """A method at a share of the training data."""

    method: str
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """All methods of a task on the same lesions.

    Attributes:
        task: Its name.
        is_survival: Whether risks are judged, or classes.
        metrics: Name -> function.
        methods: Method and share -> scores of each seed.
        seeds: Method and share -> seeds, in the same order.
        runs: Method and share -> the run of the first seed, on the judged split.
        tuning: Likewise, on the tuning split.
        patients: Of each lesion.
    """

    task: str
    is_survival: bool
    metrics: Mapping[str, Metric]
    methods: Mapping[Key, list[Scores]]
    seeds: Mapping[Key, list[int]]
    runs: Mapping[Key, Run]
    tuning: Mapping[Key, Run]
    patients: list[str]


def gather_methods(
    runs: Sequence[Run], split: str, tuning_split: str, task: str, metrics: Sequence[str]
) -> Iterator[Judged]:
    """The runs of a task as methods: once as classes, once as risks, as far as there is data for each.

    Args:
        runs: All fits.
        split: Whose lesions are judged.
        tuning_split: Whose risks cut them into groups.
        task: Name.
        metrics: Wanted; empty for all.

    Raises:
        InputError: Runs do not have the same lesions with the same outcomes, one is there twice, or there is nothing
            for a metric that is wanted.
    """
    kinds: tuple[tuple[bool, Mapping[str, Metric]], ...] = ((False, CLASS_METRICS), (True, RISK_METRICS))
    found: set[str] = set()
    for is_survival, all_metrics in kinds:
        chosen = {name: metric for name, metric in all_metrics.items() if not metrics or name in metrics}
        usable = [run for run in runs if (run.has_outcomes if is_survival else run.classes)]
        if chosen and usable:
            found |= set(chosen)
            yield _judged(usable, split, tuning_split, task, chosen, is_survival=is_survival)
    if missing := (set(metrics) - found) or ({"any metric"} if not found else set()):
        fix = "class metrics need label and p_<class>; c_index needs time, event and risk or two classes"
        raise InputError(f"no predictions for {', '.join(sorted(missing))}", task, fix)


def _judged(
    runs: Sequence[Run], split: str, tuning_split: str, task: str, metrics: Mapping[str, Metric], *, is_survival: bool
) -> Judged:
    methods: dict[Key, list[Scores]] = {}
    seeds: dict[Key, list[int]] = {}
    first: dict[Key, Run] = {}
    tuning: dict[Key, Run] = {}
    known: pd.DataFrame | None = None
    for run in sorted(runs, key=lambda run: run.seed):
        key = Key(run.method, run.share)
        part = run.split(split)
        part = part.with_outcomes() if is_survival else part.labelled()
        columns = ["lesion", "patient", *(("time", "event") if is_survival else ("label",))]
        known = part.frame[columns] if known is None else known
        _check_same(known, part.frame[columns], f"{task}, {run.method}, share {run.share:g}, seed {run.seed}", split)
        if run.seed in seeds.setdefault(key, []):
            raise InputError("the same fit is there twice", f"{task}, {run.method}, seed {run.seed}", "name it once")
        seeds[key].append(run.seed)
        methods.setdefault(key, []).append(part.risk_scores() if is_survival else part.class_scores())
        first.setdefault(key, part)
        tuning.setdefault(key, run.split(tuning_split))
    assert known is not None
    ordered = {key: methods[key] for run in runs if (key := Key(run.method, run.share)) in methods}
    return Judged(task, is_survival, metrics, ordered, seeds, first, tuning, known["patient"].tolist())


def _check_same(expected: pd.DataFrame, found: pd.DataFrame, where: str, split: str) -> None:
    if not len(found):
        raise InputError(f"no lesion of the split {split} has an outcome", where, "predict this split")
    if not expected.equals(found):
        what = f"its lesions or outcomes are not those of the first method ({len(found)} and {len(expected)})"
        raise InputError(what, where, "predict the same lesions with every method")
