"""How much faster metrics on a thousand resamples are than a loop over scikit-learn, and how far from it.

Run: `python -m benchmarks.statistics [RESAMPLES]` (default 1000, as many lesions and classes as the paper's task 1).
Times are of the processor, all threads together, so that other programs on the machine hardly count.
"""

import sys
import time
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

from training.evaluation.estimates import draw_counts
from training.evaluation.metrics import (
    ClassScores,
    auc_of,
    average_precision_of,
    balanced_accuracy_of_scores,
    per_class,
)

N_LESIONS: Final = 1221
PREVALENCES: Final = np.array([0.3, 0.2, 0.15, 0.12, 0.1, 0.06, 0.04, 0.03])

Floats = NDArray[np.float64]


def predictions() -> ClassScores:
    """Probabilities of eight classes that are right more often than not."""
    rng = np.random.default_rng(0)
    truth = rng.choice(8, size=N_LESIONS, p=PREVALENCES)
    logits = rng.standard_normal((N_LESIONS, 8))
    logits[np.arange(N_LESIONS), truth] += 1.5
    return ClassScores(truth, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


def loop(rows: list[NDArray[np.int64]], found: ClassScores, metric: str) -> Floats:
    """A metric of scikit-learn on every resample: (r,), or (8, r) where it is of each class."""
    if metric == "balanced accuracy":
        predicted = found.scores.argmax(axis=1)
        return np.array([sk.balanced_accuracy_score(found.truth[r], predicted[r]) for r in rows])
    function = sk.average_precision_score if metric == "average precision" else sk.roc_auc_score
    each = [[function(found.truth[r] == k, found.scores[r, k]) for k in range(8)] for r in rows]
    return np.array(each).T


def main() -> None:
    """Print a row per metric: seconds of both, ratio, largest difference."""
    n_resamples = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    found = predictions()
    ours: dict[str, Callable[..., Floats]] = {
        "balanced accuracy": balanced_accuracy_of_scores,
        "average precision": lambda p, counts: per_class(average_precision_of, p, counts),
        "AUC": lambda p, counts: per_class(auc_of, p, counts),
    }
    draw_counts(10, n_resamples=10, seed=1)  # what is loaded at the first call
    started = time.process_time()
    counts = draw_counts(N_LESIONS, n_resamples=n_resamples, seed=1)
    drawn_s = time.process_time() - started
    rows = [np.repeat(np.arange(N_LESIONS), times.astype(int)) for times in counts.T]
    print(f"{N_LESIONS} lesions x 8 classes x {n_resamples} resamples; drawing them took {drawn_s:.3f} s")
    print("| Metric | scikit-learn, s | ours, s | Ratio | Largest difference |\n|---|---|---|---|---|")
    total = np.array([0.0, drawn_s])
    for name, metric in ours.items():
        spent = []
        values = []
        metric(found, counts[:, :10])
        for compute in (lambda m=name: loop(rows, found, m), lambda m=metric: m(found, counts)):
            started = time.process_time()
            values.append(compute())
            spent.append(time.process_time() - started)
        total += spent
        difference = float(np.abs(values[0] - values[1]).max())
        print(f"| {name} | {spent[0]:.2f} | {spent[1]:.4f} | {spent[0] / spent[1]:.0f} | {difference:.1e} |")
    print(f"| together, with the draws | {total[0]:.2f} | {total[1]:.3f} | {total[0] / total[1]:.0f} | |")


if __name__ == "__main__":
    main()
