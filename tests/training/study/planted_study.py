"""A whole study on phantom DICOM: how dense a lesion is decides how long its patient lives; a second outcome is chance.

Everything is made from numbers here, so that the effect is known: `write_study` writes patients, clinical tables and
the YAML file of every stage. A larger one by hand: `python -m tests.training.study.planted_study FOLDER 300`, and in
FOLDER `python -m training reproduce study.yml`.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
import yaml
from numpy.typing import NDArray

from tests import phantoms

N_PATIENTS = 40
SHAPE_KJI, SPACING_MM = (16, 28, 28), (1.8, 1.8, 3.0)

MINI, COX, RADIOMICS = "mini + logistic regression", "mini + Cox regression", "radiomics + logistic regression"
RIDGE, KNN = "mini + ridge", "mini + kNN"
TUNED, SUPERVISED = "mini fine-tuned", "supervised"

FINETUNE = {
    "augment": {"translation": 2},
    "optimiser": {"name": "adam", "learning_rate": 0.001, "reference_batch": 0},
    "trainer": {"epochs": 1, "batch_size": 5, "validate_epochs": 1, "accelerator": "cpu", "threads": 1},
}


def write_study(folder: Path, n_patients: int = N_PATIENTS) -> None:
    """Write everything into `folder`, where the study is then run."""
    rng = np.random.default_rng(0)
    density = rng.permutation(np.linspace(-600.0, 300.0, n_patients))
    (folder / "masks").mkdir(parents=True)
    for n, hu in enumerate(density):
        _write_patient(folder / "dicom", f"P{n:02d}", float(hu), n)
    z = (density - density.mean()) / density.std()
    log_years = 0.7 - 0.9 * z + rng.normal(0, 0.5, n_patients)
    _write_clinical(folder / "planted.csv", np.exp(log_years))
    # Neighbours in density take turns in dying early and living on: no threshold of it tells one from the other.
    chance = np.empty(n_patients)
    chance[np.argsort(density)] = np.resize([1.0, 3.0, 3.0, 1.0], n_patients)
    _write_clinical(folder / "chance.csv", chance + rng.uniform(0, 0.5, n_patients))
    stages = [*_outcome_stages(folder, "planted"), *_outcome_stages(folder, "chance"), *_end_stages(folder)]
    _write(folder / "study.yml", {"output": "study", "stages": stages, "expected": "expected.yml"})


def _write_patient(dicom: Path, patient: str, hu: float, seed: int) -> None:
    study = phantoms.write_study(
        dicom / patient,
        shape_kji=SHAPE_KJI,
        spacing_mm=SPACING_MM,
        lesions=(phantoms.Lesion(radius_mm=9.0, hu=hu),),
        seg=False,
        seed=seed,
        patient_id=patient,
    )
    mask = sitk.GetImageFromArray(study.masks["GTV-1"].astype(np.uint8))
    directions = study.affine[:3, :3] / np.asarray(SPACING_MM)
    mask.SetSpacing(SPACING_MM)  # type: ignore[no-untyped-call]
    mask.SetOrigin(study.affine[:3, 3].tolist())  # type: ignore[no-untyped-call]
    mask.SetDirection(directions.ravel().tolist())  # type: ignore[no-untyped-call]
    sitk.WriteImage(mask, str(dicom.parent / "masks" / f"{patient}.nrrd"))


def _write_clinical(path: Path, years: NDArray[np.float64]) -> None:
    """Followed for five years at most; `mask` is handed on to the lesion table."""
    patients = [f"P{n:02d}" for n in range(len(years))]
    columns = {"patient": patients, "time": np.minimum(years, 5.0).round(4), "event": (years < 5.0).astype(int)}
    pd.DataFrame(columns).assign(mask=[f"../masks/{patient}.nrrd" for patient in patients]).to_csv(path, index=False)


def _outcome_stages(folder: Path, name: str) -> list[dict[str, Any]]:
    """Cohort, features, every head, and for the planted one both kinds of training."""
    table, features = f"{name}/lesions.csv", {one: f"{name}/features/{one}.parquet" for one in ("mini", "radiomics")}
    data = {"table": table, "images": "dicom"}
    stage = partial(_stage, folder)
    outcome = {"table": f"{name}.csv"}
    cohort = {"kind": "dicom", "images": "dicom", "output": name, "val": 0.25, "test": 0.5, "outcome": outcome}
    extraction = {"output": f"{name}/features", "extractors": list(features), "data": data, "device": "cpu"}
    stages = [
        stage(f"{name}: cohort", "cohort", ["dicom", f"{name}.csv"], [table], cohort),
        stage(f"{name}: features", "features", ["dicom", table], list(features.values()), extraction),
    ]
    heads = [("mini", "logistic", MINI), ("mini", "cox", COX), ("radiomics", "logistic", RADIOMICS)]
    heads += [("mini", "ridge", RIDGE), ("mini", "knn", KNN)] if name == "planted" else []
    for extractor, head, method in heads:
        path, output = features[extractor], f"{name}/{extractor}_{head}"
        probe: dict[str, Any] = {
            "features": path,
            "output": output,
            "name": "alive",
            "method": method,
            "head": head,
            "trials": 8,
        }
        probe |= {"shares": [1.0, 0.5], "seeds": [1, 2]} if head == "logistic" else {}
        stages.append(stage(f"{name}: {method}", "probe", [path], [f"{output}/predictions.csv"], probe))
    networks: dict[str, dict[str, Any]] = {TUNED: {}, SUPERVISED: {"start": "random", "width": 0.25}}
    for method, model in networks.items() if name == "planted" else ():
        run = f"{name}/{method.replace(' ', '_')}"
        finetune: dict[str, Any] = {
            "run": run,
            "data": data,
            "model": {"extractor": "mini", "hidden": [8], **model},
            "method": method,
        }
        finetune |= FINETUNE
        stages.append(stage(f"{name}: {method}", "finetune", ["dicom", table], [f"{run}/predictions.csv"], finetune))
    return stages


def _end_stages(folder: Path) -> list[dict[str, Any]]:
    """Judge, draw, and compare with what was planted."""
    probes = {
        "planted": ["mini_logistic", "radiomics_logistic", "mini_ridge", "mini_knn", "mini_fine-tuned", "supervised"],
        "chance": ["mini_logistic", "radiomics_logistic"],
    }
    metrics = ["auc", "mean_average_precision", "balanced_accuracy"]
    tasks: list[dict[str, Any]] = []
    for name, methods in probes.items():
        predictions = [f"{name}/{method}/predictions.csv" for method in methods]
        tasks.append({"name": name, "predictions": predictions, "metrics": metrics})
        tasks.append({"name": f"{name} survival", "predictions": [f"{name}/mini_cox/predictions.csv"]})
    read = [path for task in tasks for path in task["predictions"]]
    wanted = [
        _expected("AUC of 1", 0.999, task="planted"),
        _expected("AUC of chance", 0.5, task="chance"),
    ]
    _write(folder / "expected.yml", {"expected": wanted})
    judged = {"tasks": tasks, "output": "results", "n_resamples": 500, "n_permutations": 200, "by_patient": True}
    drawn = {"results": "results", "output": "figures", "title": "A planted study", "expected": "expected.yml"}
    return [
        _stage(folder, "evaluate", "evaluate", read, ["results"], judged),
        _stage(folder, "figures", "figures", ["results"], ["figures"], drawn),
    ]


def _expected(name: str, value: float, **row: str) -> dict[str, Any]:
    row |= {"method": MINI, "share": "1", "metric": "auc", "class": ""}
    rows = [{"column": column, "value": text} for column, text in row.items()]
    return {"name": name, "value": value, "table": "results/metrics.csv", "rows": rows}


def _stage(
    folder: Path, name: str, verb: str, inputs: list[str], outputs: list[str], settings: dict[str, Any]
) -> dict[str, Any]:
    file = "".join(letter if letter.isalnum() else "_" for letter in name) + ".yml"
    _write(folder / file, settings)
    return {"name": name, "verb": verb, "settings": file, "inputs": inputs, "outputs": outputs}


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    write_study(Path(sys.argv[1]), int(sys.argv[2]))
