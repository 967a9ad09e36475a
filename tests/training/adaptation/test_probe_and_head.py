"""The whole way: DICOM -> `fmcib run` -> `probe` on its OUTPUT -> `fmcib run --head`, with one number at both ends."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fmcib_module import run
from tests import phantoms
from tests.chain import rows_of
from tests.phantoms import Lesion
from training.__main__ import main
from training.evaluation.metrics import mean_auc, once
from training.evaluation.predictions import read_predictions

N_PATIENTS = 30


def write_cohort(folder: Path) -> list[dict[str, str]]:
    """Patients with one lesion each, dense or not; returns the labels."""
    labels = []
    for number in range(N_PATIENTS):
        dense = number % 2
        lesion = Lesion("GTV-1", radius_mm=6.0 + number % 3, hu=150.0 if dense else 60.0, in_seg=False)
        study = phantoms.write_study(folder / f"{number}", lesions=[lesion], seg=False, seed=number)
        split = "train" if number < 16 else "val" if number < 22 else "test"
        row = {"series_uid": study.series_uid, "roi_number": "1", "patient": f"P{number}"}
        labels.append({**row, "split": split, "label": "dense" if dense else "soft"})
    return labels


@pytest.mark.slow
def test_the_chain_gives_the_probability_that_the_probe_predicted(tmp_path: Path) -> None:
    labels = write_cohort(tmp_path / "in")
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(labels[0]))
        writer.writeheader()
        writer.writerows(labels)
    plain: dict[str, Any] = {"pictures": False, "sr": False, "seg": False, "report": False}
    run(tmp_path / "in", tmp_path / "out", **plain)
    settings = {
        "features": str(tmp_path / "out"),
        "labels": str(tmp_path / "labels.csv"),
        "output": str(tmp_path / "probe"),
        "name": "density",
        "trials": 10,
    }
    (tmp_path / "probe.yml").write_text(yaml.safe_dump(settings))
    assert main(["probe", str(tmp_path / "probe.yml")]) == 0
    (found,) = read_predictions([tmp_path / "probe" / "predictions.csv"])
    test = found.split("test")
    assert mean_auc(test.class_scores(), once(8))[0] == 1.0

    head = str(tmp_path / "probe" / "heads" / "all.json")
    run(tmp_path / "in", tmp_path / "with_head", heads=[head], **plain)
    chain = {r["series_uid"]: float(r["head.density.soft"]) for r in rows_of(tmp_path / "with_head" / "features.csv")}
    patients = {row["patient"]: row["series_uid"] for row in labels}
    expected = test.probabilities[:, 1]
    np.testing.assert_allclose([chain[patients[name]] for name in test.frame["patient"]], expected, rtol=1e-6)
