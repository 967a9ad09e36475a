"""Results that `evaluate` makes of simulated predictions: eight classes on shares of the data, and survival."""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from tests.training.evaluation import simulated
from training.evaluation.evaluate import evaluate
from training.evaluation.predictions import prediction_rows, write_predictions

N = 80


def lesions() -> pd.DataFrame:
    """Half tuning, half test; two lesions per patient."""
    return pd.DataFrame(
        {
            "lesion": [f"L{k:03d}" for k in range(N)],
            "patient": [f"SECRET{k // 2}" for k in range(N)],
            "split": np.where(np.arange(N) < N // 2, "val", "test"),
        }
    )


def class_table(shift: float, seed: int, method: str, share: float, n: int = 3) -> pd.DataFrame:
    """Classes drawn once; scores of the true one are `shift` higher."""
    truth = np.random.default_rng(0).integers(n, size=N)
    logits = np.random.default_rng(seed).standard_normal((N, n))
    logits[np.arange(N), truth] += shift
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = [f"c{k}" for k in range(n)]
    frame = lesions().assign(label=[classes[k] for k in truth])
    return prediction_rows(frame, probabilities, classes, method=method, share=share, seed=1)


def risk_table(method: str) -> pd.DataFrame:
    """Risks that tell when the event comes."""
    predictions = simulated.risks(N, seed=3, effect=1.5)
    frame = lesions().assign(time=predictions.time, event=predictions.event.astype(int))
    return prediction_rows(frame, predictions.risk[:, None], [], method=method, share=1.0, seed=1)


def write_results(folder: Path) -> Path:
    """Predictions and OUTPUT of `evaluate` in `folder`; returns OUTPUT. Run it in `folder`."""
    shares = (1.0, 0.5, 0.1)
    sites = [class_table(3 * share, 1, "good & <fast>", share) for share in shares]
    sites += [class_table(share, 2, "bad", share) for share in shares]
    pair = [class_table(2.0, 3, "good & <fast>", 1.0, n=2), class_table(0.0, 4, "bad", 1.0, n=2)]
    tables = {"sites": sites, "malignancy": pair, "survival": [risk_table("risk model")]}
    for name, parts in tables.items():
        (folder / name).mkdir()
        write_predictions(folder / name / "predictions.csv", parts)
    tasks = [{"name": name, "predictions": [f"{name}/predictions.csv"]} for name in tables]
    settings = {"tasks": tasks, "output": "results", "n_resamples": 100, "n_permutations": 50}
    (folder / "evaluate.yml").write_text(yaml.safe_dump(settings))
    evaluate(folder / "evaluate.yml")
    return folder / "results"
