"""The baselines run through the same commands, and all find what is planted: how dense a lesion is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.training.adaptation import planted
from training.__main__ import main
from training.adaptation.feature_table import read_feature_table
from training.evaluation.metrics import auc
from training.evaluation.predictions import read_predictions


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planted.write_cohort(tmp_path)


def do(verb: str, **settings: object) -> None:
    path = Path(f"{verb}.yml")
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert main([verb, str(path)]) == 0


@pytest.mark.slow
def test_radiomics_and_logistic_regression_and_the_supervised_network_find_it(cohort):
    do("features", output="features", data={"table": "lesions.csv"}, extractors=["radiomics", "mini"], device="cpu")
    predictions = []
    for name in ("radiomics", "mini"):
        table = read_feature_table(Path(f"features/{name}.parquet"))
        assert table.frame["lesion"].tolist() == [f"L{n:02d}" for n in range(24)]
        do("probe", features=f"features/{name}.parquet", output=f"probe/{name}", name="density", trials=5)
        predictions.append(Path(f"probe/{name}/predictions.csv"))
    do(
        "finetune",
        run="supervised",
        data={"table": "lesions.csv"},
        model={"extractor": "mini", "start": "random", "width": 0.25, "hidden": [8]},
        augment={"translation": 2},
        optimiser={"name": "adam", "learning_rate": 0.003, "reference_batch": 0},
        trainer={"epochs": 4, "batch_size": 4, "validate_epochs": 1, "accelerator": "cpu"},
        method="supervised",
    )
    runs = read_predictions([*predictions, Path("supervised/predictions.csv")])
    assert [run.method for run in runs] == ["radiomics + logistic", "mini + logistic", "supervised"]
    for run in (run.split("test") for run in runs):
        assert len(run.frame) == 6
        assert auc(run.probabilities[:, 1], (run.frame["label"] == "b").to_numpy()) == 1.0, run.method


@pytest.mark.slow
def test_radiomics_measure_the_planted_density(cohort):
    do("features", output="features", data={"table": "lesions.csv"}, extractors=["radiomics"])
    table = read_feature_table(Path("features/radiomics.parquet"))
    names = pd.read_csv("features/radiomics.names.csv")["name"].tolist()
    means = table.values[:, names.index("firstorder_Mean")]
    np.testing.assert_allclose(means, np.where(np.arange(24) % 2, planted.DENSE_HU, planted.AIRY_HU), atol=10)
    sizes = table.values[:, names.index("shape_MeshVolume")]
    np.testing.assert_allclose(sizes, 4 / 3 * np.pi * planted.RADIUS_MM**3, rtol=0.02)
