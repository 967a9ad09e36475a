"""Gene expression: a matrix of genes and samples, the filter, and its correlation with numbers of the same patients."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmcib_module.core.errors import InputError
from training.evaluation.metrics import Floats


class Correlation(StrEnum):
    """How two columns of numbers are compared."""

    SPEARMAN = "spearman"
    PEARSON = "pearson"


def read_expression(path: Path, *, missing_as_zero: bool) -> pd.DataFrame:
    """Read a table of genes (rows, named by the first column) and samples (columns): CSV, or TSV by its ending.

    Args:
        path: The file; .gz is unpacked.
        missing_as_zero: Take a value that is not there as 0; else its gene is left out.

    Raises:
        InputError: It cannot be read, holds text, or a gene or sample is there twice.
    """
    separator = "\t" if {".tsv", ".txt"} & set(path.suffixes) else ","
    try:
        table = pd.read_csv(path, sep=separator, index_col=0).astype(np.float64)
    except (OSError, ValueError) as error:
        fix = "give a CSV or TSV file of genes (rows) and samples (columns)"
        raise InputError(f"the expression cannot be read: {type(error).__name__}", path.name, fix) from error
    table.index, table.columns = table.index.map(str), table.columns.map(str)
    if table.index.has_duplicates or table.columns.has_duplicates or table.empty:
        raise InputError("a gene or a sample is there twice, or there is none", path.name, "merge them first")
    complete: pd.DataFrame = table.fillna(0.0) if missing_as_zero else table.dropna()
    return complete


def filter_genes(expression: pd.DataFrame, most: int) -> pd.DataFrame:
    """Genes whose mean over samples is above the overall mean; of those, the ones that vary most.

    Args:
        expression: Genes and samples.
        most: How many, by standard deviation.

    References:
        Pai et al. 2024, Methods, biological associations.
    """
    expressed = expression.loc[expression.mean(axis=1) > expression.to_numpy().mean()]
    order = expressed.std(axis=1, ddof=1).sort_values(ascending=False, kind="stable")
    kept: pd.DataFrame = expressed.loc[order.index[order > 0][:most]]
    return kept


def correlate(genes: Floats, numbers: NDArray[np.floating], kind: Correlation) -> Floats:
    """Correlation of every gene with every number.

    Args:
        genes: (g, n) expression of n samples.
        numbers: (n, d) of the same samples.
        kind: Spearman's or Pearson's.

    Returns:
        (g, d); NaN where one of both is constant.
    """
    from scipy.stats import rankdata

    rows, columns = genes, numbers.astype(np.float64).T
    if kind is Correlation.SPEARMAN:
        rows, columns = rankdata(rows, axis=1), rankdata(columns, axis=1)
    unit = [_unit(part) for part in (rows, columns)]
    found: Floats = np.clip(unit[0] @ unit[1].T, -1.0, 1.0)
    return found


def p_of_correlation(r: Floats, n: int) -> Floats:
    """Two-sided p of correlations of n pairs, by Student's t with n - 2 degrees of freedom, as scipy has it."""
    from scipy.stats import t

    with np.errstate(divide="ignore"):
        statistic = np.abs(r) * np.sqrt((n - 2) / (1.0 - r**2))
    p: Floats = 2.0 * t.sf(statistic, n - 2)
    return p


def mean_by_sample(frame: pd.DataFrame, values: NDArray[np.floating], samples: Sequence[str]) -> Floats:
    """(samples, d): the mean over each patient's lesions, in the order of the samples.

    Args:
        frame: `sample` of every lesion; "" of those without expression.
        values: (n, d) of the lesions.
        samples: In their order.
    """
    sample = frame["sample"].to_numpy(dtype=str)
    return np.stack([values[sample == name].mean(axis=0, dtype=np.float64) for name in samples])


def _unit(rows: Floats) -> Floats:
    """Rows without their mean, of length 1; NaN where they are constant."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    varies = length > 1e-12 * np.abs(rows).max(axis=1, keepdims=True)
    unit: Floats = centred / np.where(varies, length, np.nan)
    return unit
