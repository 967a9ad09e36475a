"""Wilcoxon signed-rank tests between models that were measured on the same things."""

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pandas as pd


def signed_rank_tests(table: pd.DataFrame, measures: Iterable[str], by: str) -> pd.DataFrame:
    """Two-sided tests between every two models, of each measure that both have.

    Args:
        table: `model`, what pairs the rows of two models, and the measures.
        measures: Columns.
        by: What pairs the rows: a trial, a gene.

    Returns:
        `measure`, `a`, `b`, `median_difference` (a - b), `statistic`, `p`, `n`; p is 1 where nothing differs.
    """
    from scipy.stats import wilcoxon

    rows = []
    for measure in measures:
        wide = table.pivot(index=by, columns="model", values=measure)
        for a, b in combinations(table["model"].drop_duplicates(), 2):
            difference = (wide[a] - wide[b]).dropna().to_numpy()
            if not len(difference):
                continue
            statistic, p = wilcoxon(difference) if difference.any() else (0.0, 1.0)
            rows.append([measure, a, b, float(np.median(difference)), float(statistic), float(p), len(difference)])
    return pd.DataFrame(rows, columns=["measure", "a", "b", "median_difference", "statistic", "p", "n"])
