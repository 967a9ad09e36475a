"""Figures of survival (Kaplan-Meier curves of risk groups, hazard ratios) and of feature maps."""

from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from training.evaluation.survival import GROUPS
from training.study.drawing import COLOURS, GREY, MARKERS, Drawing, file_name, legend_below, panels
from training.study.study_results import StudyResults

GROUP_LOOKS: Final = dict(zip(GROUPS, ((COLOURS[0], "-"), (COLOURS[1], "--")), strict=True))


def draw_survival(results: StudyResults, task: str) -> Drawing | None:
    """Kaplan-Meier curves of the risk groups, a panel per method; None where there are none."""
    rows = results.of_most_data("kaplan_meier", task)
    if rows.empty:
        return None
    shown = list(rows.groupby("method", sort=False))
    figure, axes = panels(len(shown), size=(3.4, 3.3))
    for ax, (method, of) in zip(axes, shown, strict=True):
        for group, curve in of.groupby("group", sort=False):
            colour, line = GROUP_LOOKS[str(group)]
            label = f"{group} (n = {int(curve['at_risk'].iloc[0])})"
            ax.step(curve["time"], curve["survival"], where="post", color=colour, linestyle=line, label=label)
            known = curve[curve["low"].notna()]
            ax.fill_between(known["time"], known["low"], known["high"], step="post", color=colour, alpha=0.15, lw=0)
            censored = curve[curve["at_risk"].diff(-1).fillna(curve["at_risk"]) > curve["events"]]
            ax.plot(censored["time"], censored["survival"], "|", color=colour, markersize=5)
        ax.set_title("\n".join([str(method), _test_text(results, task, str(method))]))
        ax.set_xlabel("Years")
        ax.set_ylabel("Survival")
        ax.set_ylim(0, 1.03)
        ax.set_xlim(left=0)
        ax.legend(loc="upper right", fontsize=7)
    caption = (
        f"{task}: Kaplan-Meier curves with 95 % bands of lesions above and below the median risk of the tuning split; "
        "ticks are censored. p of the log-rank test; hazard ratio of Cox regression, high against low risk."
    )
    return Drawing(file_name("survival", task), task, "Survival by risk group", caption, figure, rows)


def draw_hazards(results: StudyResults, task: str) -> Drawing | None:
    """Hazard ratios of the multivariate regressions; None where there are none."""
    rows = results.of_most_data("cox", task)
    rows = rows[rows["model"] == "multivariate"].reset_index(drop=True)
    if rows.empty:
        return None
    shown = list(rows.groupby("method", sort=False))
    figure, axes = panels(len(shown), size=(3.8, 1.2 + 0.3 * int(rows["covariate"].nunique())))
    for ax, (method, of) in zip(axes, shown, strict=True):
        reach = np.stack([of["ratio"] - of["low"], of["high"] - of["ratio"]])
        ax.errorbar(of["ratio"], range(len(of)), xerr=reach, fmt="o", color=COLOURS[0], capsize=2)
        ax.axvline(1, color=GREY, linewidth=0.8)
        ax.set_xscale("log")
        ax.set_yticks(range(len(of)), of["covariate"].tolist())
        ax.set_ylim(len(of) - 0.5, -0.5)
        ax.set_xlabel("Hazard ratio")
        ax.set_title(str(method), wrap=True)
    caption = f"{task}: hazard ratios of multivariate Cox regression with 95 % Wald intervals."
    return Drawing(file_name("hazard-ratios", task), task, "Hazard ratios", caption, figure, rows)


def draw_map(name: str, points: pd.DataFrame) -> Drawing:
    """Feature maps, a panel each.

    Args:
        name: Of the task.
        points: `x`, `y`, `label` and `map` of every lesion.
    """
    shown = list(points.groupby("map", sort=False))
    labels = sorted(points["label"].unique())
    figure, axes = panels(len(shown), size=(3.2, 3.0))
    for ax, (title, of) in zip(axes, shown, strict=True):
        for k, label in enumerate(labels):
            chosen = of[of["label"] == label]
            look: dict[str, Any] = {
                "c": COLOURS[k % len(COLOURS)],
                "marker": MARKERS[(k + k // len(COLOURS)) % len(MARKERS)],
            }
            ax.scatter(chosen["x"], chosen["y"], s=12, linewidths=0, label=label or "no label", **look)
        ax.set_title(str(title), wrap=True)
        _without_numbers(ax)
    legend_below(figure, axes[0])
    caption = f"{name}: features of {len(points) // len(shown)} lesions on a plane; axes have no unit."
    return Drawing(file_name("map", name), name, "Feature map", caption, figure, points[["map", "x", "y", "label"]])


def _test_text(results: StudyResults, task: str, method: str) -> str:
    test = results.of_most_data("log_rank", task)
    test = test[test["method"] == method]
    hazard = results.of_most_data("cox", task)
    hazard = hazard[(hazard["method"] == method) & (hazard["model"] == "univariate")]
    lines = [f"log-rank p {p_text(value)}" for value in test["p"].dropna()[:1]]
    for ratio, low, high in hazard[["ratio", "low", "high"]][:1].itertuples(index=False):
        lines.append(f"HR {ratio:.2f} [{low:.2f}, {high:.2f}]")
    return ", ".join(lines)


def p_text(p: float) -> str:
    """As it is printed behind "p": "< 0.001", "= 0.020"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _without_numbers(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[["top", "right"]].set_visible(True)
