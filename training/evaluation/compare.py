"""Every method's metrics with intervals, and every pair of methods compared, all on the same resamples."""

from itertools import combinations, cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation.estimates import Sides, estimate, permutation_p, swapped_differences
from training.evaluation.methods import Judged, Key, Metric
from training.evaluation.metrics import Counts, Floats, once
from training.evaluation.results import Results


def compare_methods(judged: Judged, counts: Counts, swaps: NDArray[np.bool_], sides: Sides, results: Results) -> None:
    """Fill the tables `metrics` (of all classes), `seeds` and `pairwise`.

    A method that was fitted with several seeds is judged by the mean over them, on every resample. A pair is
    compared within a share of the training data, seed by seed in their order; a method with fewer seeds than the
    other repeats them.
    """
    for name, metric in judged.metrics.items():
        resampled = {key: add_metric(judged, key, name, "", metric, counts, results) for key in judged.methods}
        for a, b in combinations(judged.methods, 2):
            if a.share == b.share:
                observed, permuted = _swapped(judged, a, b, metric, swaps)
                interval = estimate(observed, resampled[a] - resampled[b])
                results.add(
                    "pairwise",
                    **{"task": judged.task, "share": a.share, "metric": name, "a": a.method, "b": b.method},
                    difference=observed,
                    low=interval.low,
                    high=interval.high,
                    p=permutation_p(observed, permuted, sides),
                    sides=sides.value,
                    n_permutations=swaps.shape[1],
                    n=len(judged.patients),
                )


def add_metric(
    judged: Judged, key: Key, name: str, class_: str, metric: Metric, counts: Counts, results: Results
) -> Floats:
    """Add a method's metric to the tables `metrics` and `seeds`; returns it on the resamples, (n_resamples,)."""
    scores = judged.methods[key]
    plain = np.array([metric(of_seed, once(len(of_seed)))[0] for of_seed in scores])
    resampled: Floats = np.mean([metric(of_seed, counts) for of_seed in scores], axis=0)
    finite = resampled[np.isfinite(resampled)]
    named: dict[str, Any] = {"task": judged.task, "method": key.method, "share": key.share}
    named |= {"metric": name, "class": class_}
    results.add(
        "metrics",
        **named,
        estimate=estimate(float(plain.mean()), resampled),
        resample_mean=float(finite.mean()) if len(finite) else float("nan"),
        n=len(judged.patients),
        n_patients=len(set(judged.patients)),
        n_seeds=len(scores),
        seed_sd=float(plain.std(ddof=1)) if len(plain) > 1 else float("nan"),
    )
    for seed, value in zip(judged.seeds[key], plain, strict=True):
        results.add("seeds", **named, seed=seed, value=float(value))
    if len(finite) < len(resampled):
        note = f"{name} {class_}: {len(resampled) - len(finite)} of {len(resampled)} resamples lack a class or a pair"
        results.add("notes", task=judged.task, method=key.method, share=key.share, note=note)
    return resampled


def _swapped(judged: Judged, a: Key, b: Key, metric: Metric, swaps: NDArray[np.bool_]) -> tuple[float, Floats]:
    """The mean over seeds of the observed and the permuted differences."""
    first, second = judged.methods[a], judged.methods[b]
    n = max(len(first), len(second))
    pairs = zip(islice(cycle(first), n), islice(cycle(second), n), strict=True)
    found = [swapped_differences(metric, x, y, swaps) for x, y in pairs]
    permuted: Floats = np.mean([differences for _, differences in found], axis=0)
    return float(np.mean([observed for observed, _ in found])), permuted
