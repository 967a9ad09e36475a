"""Figures of classes: performance and data, average precision per class, tests between methods, calibration, worth."""

import textwrap
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from training.study.drawing import GREY, Drawing, file_name, legend_below, looks, panels
from training.study.study_results import StudyResults

METRIC_NAMES: Final = {
    "balanced_accuracy": "Balanced accuracy",
    "mean_average_precision": "Mean average precision",
    "auc": "AUC",
    "c_index": "C-index",
}

DODGE: Final = 0.08
"""Between methods at the same place of an axis, whose places are 1 apart."""


def draw_performance(results: StudyResults, task: str) -> Drawing:
    """Each metric with its interval, by share of the training data (as Fig. 2 to 4 of the paper)."""
    rows = results.of("metrics", task, **{"class": ""})
    metrics, shares = list(rows["metric"].unique()), sorted(rows["share"].unique())
    figure, axes = panels(len(metrics))
    for ax, metric in zip(axes, metrics, strict=True):
        chosen = rows[rows["metric"] == metric]
        if len(shares) == 1:
            _ranged(ax, chosen, results.methods(task))
        else:
            _over_shares(ax, chosen, results.methods(task), shares)
        ax.set_title(METRIC_NAMES.get(str(metric), str(metric)))
    if len(shares) > 1:
        legend_below(figure, axes[0])
    caption = (
        f"{task}: {', '.join(METRIC_NAMES.get(m, m) for m in metrics)} of {_counts(rows)}, "
        f"by method{' and share of the training data' if len(shares) > 1 else ''}. Bars are 95 % intervals."
    )
    return Drawing(file_name("performance", task), task, "Performance", caption, figure, rows)


def draw_class_precision(results: StudyResults, task: str) -> Drawing | None:
    """Average precision class by class; None for two classes, whose second one is the mean itself."""
    rows = results.of_most_data("metrics", task)
    rows = rows[(rows["metric"] == "average_precision") & (rows["class"] != "")].reset_index(drop=True)
    if rows.empty:
        return None
    classes = list(rows["class"].unique())
    figure, (ax,) = panels(1, size=(1.5 + 0.8 * len(classes), 3.2))
    style = looks(results.methods(task))
    methods = [method for method in style if (rows["method"] == method).any()]
    for k, method in enumerate(methods):
        of = rows[rows["method"] == method].set_index("class").reindex(classes)
        _bars(ax, np.arange(len(classes)) + _dodge(k, len(methods)), of, style[method] | {"linestyle": "none"}, method)
    ax.set_xticks(range(len(classes)), [textwrap.fill(str(name), 14) for name in classes])
    ax.set_ylabel("Average precision")
    ax.set_ylim(0, 1.02)
    ax.grid(axis="y", alpha=0.3)
    legend_below(figure, ax)
    caption = f"{task}: average precision of each class against the rest, with 95 % intervals, all training data."
    return Drawing(file_name("average-precision", task), task, "Average precision by class", caption, figure, rows)


def draw_p_values(results: StudyResults, task: str) -> Drawing | None:
    """Heat maps of the tests between methods, a panel per metric and share; None with one method."""
    rows = results.of("pairwise", task)
    if rows.empty:
        return None
    shown = list(rows.groupby(["metric", "share"], sort=False))
    n = len(results.methods(task))
    figure, axes = panels(len(shown), size=(1.7 + 0.62 * n, 1.5 + 0.5 * n))
    for ax, ((metric, share), pairs) in zip(axes, shown, strict=True):
        methods = [method for method in results.methods(task) if method in {*pairs["a"], *pairs["b"]}]
        _heat(ax, pairs, methods)
        ax.set_title(f"{METRIC_NAMES.get(str(metric), metric)}, {share:.0%} of the data")
    sides = str(rows["sides"].iloc[0])
    caption = (
        f"{task}: p of {sides} permutation tests between methods ({int(rows['n_permutations'].iloc[0])} permutations), "
        "not corrected for their number. The darker, the smaller."
    )
    if sides == "one-sided":
        caption += " A row's method against a column's: small where the row is better."
    return Drawing(file_name("p-values", task), task, "Differences between methods", caption, figure, rows)


def draw_calibration(results: StudyResults, task: str) -> Drawing | None:
    """What was observed against what was predicted; None where nothing was calibrated."""
    rows = results.of_most_data("calibration_bins", task)
    if rows.empty:
        return None
    classes = list(rows["class"].unique())
    figure, axes = panels(len(classes), size=(2.9, 2.9), most=4)
    style = looks(results.methods(task))
    for ax, name in zip(axes, classes, strict=True):
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, label="as predicted")
        for method, of in rows[rows["class"] == name].groupby("method", sort=False):
            ax.plot(of["predicted"], of["observed"], label=method, **style[str(method)])
        ax.set_title(f"class {name}")
        ax.set_xlabel("Predicted")
        ax.set_ylabel("Observed")
        ax.set_aspect("equal")
    legend_below(figure, axes[0])
    caption = (
        f"{task}: share of lesions that are of the class against the probability predicted, in bins of equal size."
    )
    return Drawing(file_name("calibration", task), task, "Calibration", caption, figure, rows)


def draw_decisions(results: StudyResults, task: str) -> Drawing | None:
    """Net benefit over thresholds; None where there are not two classes."""
    rows = results.of_most_data("decision_curves", task)
    if rows.empty:
        return None
    figure, (ax,) = panels(1, size=(4.4, 3.2))
    style = looks(results.methods(task))
    first = rows[rows["method"] == rows["method"].iloc[0]]
    ax.plot(first["threshold"], first["treat_all"], color=GREY, linewidth=0.8, label="all")
    ax.axhline(0, color=GREY, linewidth=0.8, linestyle=":", label="nobody")
    for method, of in rows.groupby("method", sort=False):
        ax.plot(of["threshold"], of["model"], label=method, **style[str(method)] | {"marker": ""})
    top = max(float(rows["model"].max()), float(rows["treat_all"].max()), 0.01)
    ax.set_ylim(-0.15 * top, 1.08 * top)
    ax.set_xlabel("Threshold probability")
    ax.set_ylabel("Net benefit")
    legend_below(figure, ax)
    caption = f"{task}: net benefit of acting on class {rows['class'].iloc[0]}, on all and on nobody."
    return Drawing(file_name("decision-curves", task), task, "Decision curves", caption, figure, rows)


def _ranged(ax: Axes, rows: pd.DataFrame, methods: list[str]) -> None:
    """One share: a method per line of the panel."""
    style = looks(methods)
    shown = [method for method in methods if (rows["method"] == method).any()]
    for place, method in enumerate(shown):
        of = rows[rows["method"] == method].iloc[0]
        error = _reach(of["value"], of["low"], of["high"])
        look = style[method] | {"linestyle": "none"}
        ax.errorbar(of["value"], place, xerr=error, capsize=2, **look)
    ax.set_yticks(range(len(shown)), [textwrap.fill(method, 26) for method in shown])
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.grid(axis="x", alpha=0.3)


def _over_shares(ax: Axes, rows: pd.DataFrame, methods: list[str], shares: list[float]) -> None:
    style = looks(methods)
    for k, (method, look) in enumerate(style.items()):
        of = rows[rows["method"] == method].set_index("share").reindex(shares)
        _bars(ax, np.arange(len(shares)) + _dodge(k, len(methods)), of, look, method)
    ax.set_xticks(range(len(shares)), [f"{share:.0%}" for share in shares])
    ax.set_xlabel("Share of the training data")
    ax.grid(axis="y", alpha=0.3)


def _bars(ax: Axes, x: np.ndarray, rows: pd.DataFrame, look: dict[str, Any], label: str) -> None:
    known = rows["value"].notna().to_numpy()
    of = rows[known]
    ax.errorbar(x[known], of["value"], yerr=_reach(of["value"], of["low"], of["high"]), label=label, capsize=2, **look)


def _reach(value: pd.Series, low: pd.Series, high: pd.Series) -> np.ndarray:
    """(2, n) how far an interval reaches down and up; 0 where there is none. Resamples may all lie on one side."""
    down, up = np.atleast_1d(value - low), np.atleast_1d(high - value)
    return np.maximum(np.nan_to_num(np.stack([down, up]).astype(np.float64)), 0.0)


def _dodge(k: int, n: int) -> float:
    return DODGE * (k - (n - 1) / 2)


def _heat(ax: Axes, pairs: pd.DataFrame, methods: list[str]) -> None:
    place = {method: k for k, method in enumerate(methods)}
    p = np.full((len(methods), len(methods)), np.nan)
    for a, b, value, sides in pairs[["a", "b", "p", "sides"]].itertuples(index=False):
        p[place[a], place[b]] = value
        if sides == "two-sided":
            p[place[b], place[a]] = value
    ax.imshow(np.log10(np.clip(p, 1e-3, 1)), cmap="cividis", vmin=-3, vmax=0)
    for row, column in np.argwhere(np.isfinite(p)):
        value = p[row, column]
        ink = "white" if value < 0.05 else "black"
        ax.text(column, row, "<0.001" if value < 0.001 else f"{value:.3f}", ha="center", va="center", color=ink)
    names = [textwrap.fill(method, 16) for method in methods]
    ax.set_xticks(range(len(methods)), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(methods)), names)
    ax.spines[:].set_visible(False)


def _counts(rows: pd.DataFrame) -> str:
    lesions, patients = int(rows["n"].iloc[0]), int(rows["n_patients"].iloc[0])
    return f"{lesions} lesions of {patients} patients"
