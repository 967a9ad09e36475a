"""How far two scans of the same lesion agree: test-retest of features and predictions."""

import logging
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmcib_module.core.errors import InputError
from training.adaptation.feature_table import FeatureTable
from training.evaluation.agreement import IRR_DEFAULT, icc, icc_estimates, r_squared, spearman
from training.evaluation.metrics import Floats
from training.study.drawing import Drawing, legend_below, looks, panels

log = logging.getLogger(__name__)

PAIR, REPEAT = "pair", "repeat"
"""Columns of a test-retest table: which lesion, and 1 or 2 for which of its scans."""


def paired(table: FeatureTable, where: str) -> tuple[FeatureTable, FeatureTable]:
    """First and second scans, in the same order.

    Raises:
        InputError: The columns are missing, or no lesion has both scans.
    """
    frame = table.frame
    if missing := [name for name in (PAIR, REPEAT) if name not in frame]:
        fix = "name each lesion's two scans, as the cohort `rider` does"
        raise InputError(f"column(s) {', '.join(missing)} are missing", where, fix)
    order = frame.assign(**{name: pd.to_numeric(frame[name]) for name in (PAIR, REPEAT)})
    order = order.sort_values([PAIR, REPEAT])
    complete = order.groupby(PAIR)[REPEAT].transform(lambda repeats: sorted(repeats) == [1, 2])
    rows = order.index[complete.astype(bool)].to_numpy()
    if len(rows) < 6:
        raise InputError(f"{len(rows) // 2} lesion(s) have two scans", where, "give three pairs or more")
    if len(rows) < len(table):
        log.warning("%d scan(s) are left out: their lesion has not two", len(table) - len(rows))
    return table.take(rows[::2]), table.take(rows[1::2])


def feature_agreement(first: NDArray[np.floating], second: NDArray[np.floating]) -> dict[str, Any]:
    """Agreement of (n, d) features of the same lesions, flattened and feature by feature.

    Returns:
        spearman, r_squared and icc of all n * d values as one measurement, the form that R's `irr::icc` gives; and
        median and quartiles of the ICC of each feature, without those that are constant.
    """
    one, two = first.astype(np.float64), second.astype(np.float64)
    flat = np.stack([one.ravel(), two.ravel()], axis=1)[:, :, None]
    each = icc(np.stack([one, two], axis=1))
    each = each[np.isfinite(each)]
    low, median, high = np.quantile(each, [0.25, 0.5, 0.75]) if len(each) else (np.nan,) * 3
    return {
        "spearman": spearman(one, two),
        "r_squared": r_squared(one, two),
        "icc": float(icc(flat)[0]),
        "icc_form": IRR_DEFAULT.value,
        "feature_icc_median": float(median),
        "feature_icc_q25": float(low),
        "feature_icc_q75": float(high),
        "constant_features": one.shape[1] - len(each),
    }


def prediction_agreement(first: Floats, second: Floats) -> pd.DataFrame:
    """All six ICCs of (n,) predictions of the same lesions, with 95 % intervals (pingouin)."""
    estimates = icc_estimates(np.stack([first, second], axis=1))
    return pd.DataFrame([{**asdict(one), "form": form.value} for form, one in estimates.items()])


def draw_retest(predictions: pd.DataFrame, agreement: pd.DataFrame) -> Drawing:
    """Each model's prediction of the second scan against the first (as the paper's Fig. 5).

    Args:
        predictions: `model`, `pair`, `first`, `second`.
        agreement: `model`, `form`, `value`, `low`, `high`.
    """
    models = list(predictions["model"].drop_duplicates())
    figure, axes = panels(len(models), size=(2.9, 2.9))
    style = looks(models)
    for ax, model in zip(axes, models, strict=True):
        of = predictions[predictions["model"] == model]
        ends = [of[["first", "second"]].min(axis=None), of[["first", "second"]].max(axis=None)]
        ax.plot(ends, ends, color="#666666", linewidth=0.8, label="the same")
        ax.plot(of["first"], of["second"], **style[model] | {"linestyle": "none"})
        row = agreement[(agreement["model"] == model) & (agreement["form"] == IRR_DEFAULT.value)].iloc[0]
        ax.set_title(f"{model}\nICC {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]", wrap=True)
        ax.set_xlabel("First scan")
        ax.set_ylabel("Second scan")
    legend_below(figure, axes[0])
    caption = f"Predictions of {len(predictions) // len(models)} lesions from two scans; {IRR_DEFAULT.value} and 95 %."
    return Drawing("retest", "", "Test and retest", caption, figure, predictions)
