"""ICC(2,1): how much of a feature's variance is the lesions' and not the repeats', lesion by lesion."""

import numpy as np
from numpy.typing import NDArray


class Agreement:
    """Intraclass correlation ICC(2,1) of many features: two-way random effects, single rater, absolute agreement.

    Rows are lesions, columns are raters (here: repeats). Only sums are kept, so a cohort of any size fits; they are
    taken about the first row's means, which keeps their digits where features vary little.

    References:
        Shrout and Fleiss 1979, doi:10.1037/0033-2909.86.2.420, case 2; McGraw and Wong 1996,
        doi:10.1037/1082-989X.1.1.30, ICC(A,1).
    """

    def __init__(self) -> None:
        """Start without rows."""
        self.n_rows = 0
        self.n_raters = 0
        self._about: NDArray[np.float64] = np.empty(0)
        self._by_rater: NDArray[np.float64] = np.empty(0)
        self._row_squares: NDArray[np.float64] = np.empty(0)
        self._squares: NDArray[np.float64] = np.empty(0)

    def add(self, values: NDArray[np.floating]) -> None:
        """Add one lesion.

        Args:
            values: (n_raters, n_features), the same shape for every lesion.
        """
        if self.n_rows == 0:
            self.n_raters = len(values)
            self._about = values.mean(axis=0, dtype=np.float64)
            self._by_rater = np.zeros(values.shape)
            self._row_squares, self._squares = np.zeros_like(self._about), np.zeros_like(self._about)
        centred = values - self._about
        self._by_rater += centred
        self._row_squares += centred.mean(axis=0) ** 2
        self._squares += (centred**2).sum(axis=0)
        self.n_rows += 1

    def icc(self) -> NDArray[np.float64]:
        """(n_features,) ICC(2,1).

        NaN for a feature that is the same everywhere, and everywhere with fewer than two rows or raters.
        """
        n, k = self.n_rows, self.n_raters
        if n < 2 or k < 2:
            return np.full(self._about.shape, np.nan)
        correction = self._by_rater.sum(axis=0) ** 2 / (n * k)
        rows = k * self._row_squares - correction
        raters = (self._by_rater**2).sum(axis=0) / n - correction
        residual = np.maximum(self._squares - correction - rows - raters, 0.0)
        ms_rows, ms_raters = rows / (n - 1), raters / (k - 1)
        ms_error = residual / ((n - 1) * (k - 1))
        total = ms_rows + (k - 1) * ms_error + k * (ms_raters - ms_error) / n
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(total > 0, (ms_rows - ms_error) / total, np.nan)
