"""`python -m training probe FILE`: fit heads on features, on shares of the training data, and predict."""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmcib_module import __version__
from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.adapters.head_file import write_head
from fmcib_module.core.errors import ConfigError, InputError
from fmcib_module.core.heads import Head, HeadKind, head_scores
from fmcib_module.settings import from_plain, read_yaml, to_plain
from training.adaptation.class_names import class_order
from training.adaptation.feature_table import FeatureTable, read_feature_table
from training.adaptation.fitting import Outcomes, Standardised, fit_head
from training.adaptation.search import Fold, Found, Score, patient_folds, search_strength
from training.adaptation.subsets import check_leakage, training_subset
from training.evaluation.predictions import prediction_rows, write_predictions
from training.run_folder import git_revision

log = logging.getLogger(__name__)

Mask = NDArray[np.bool_]


class Search(StrEnum):
    """On what the penalty is chosen."""

    AUTO = "auto"  # the tuning set where there is one, else cross-validation
    TUNING = "tuning"  # split "val"
    CROSS_VALIDATION = "cross-validation"  # folds of the training patients


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """What is fitted; the keys of the YAML file are exactly these fields, paths relative to where it is run.

    Attributes:
        features: Feature table, or OUTPUT of `fmcib run`.
        output: Folder for predictions.csv, probe.json and heads/.
        name: What outputs of `fmcib run --head` call the head: "malignancy".
        labels: CSV with labels to join (`read_feature_table`); empty where the table has them.
        method: In the predictions; "<extractor> + <head>" where empty.
        head: logistic, ridge, knn or cox.
        search: auto, tuning or cross-validation.
        score: What the search maximises.
        folds: Of cross-validation.
        trials: Of the search.
        shares: Of the training data; the tuning set stays whole.
        seeds: Of the subsets; all of the data is fitted once, with the first.
        predict: Splits to predict.
        shared_patients: Take a published split that shares patients, and say how many.
    """

    features: str
    output: str
    name: str
    labels: str = ""
    method: str = ""
    head: HeadKind = HeadKind.LOGISTIC
    search: Search = Search.AUTO
    score: Score = Score.AUTO
    folds: int = 5
    trials: int = 50
    shares: tuple[float, ...] = (1.0,)
    seeds: tuple[int, ...] = (1,)
    predict: tuple[str, ...] = ("val", "test")
    shared_patients: bool = False

    def __post_init__(self) -> None:
        if not self.shares or not all(0 < share <= 1 for share in self.shares) or not self.seeds:
            raise ConfigError(f"shares are {self.shares}", "shares", "give shares above 0 and up to 1, and a seed")
        if self.folds < 2 or self.trials < 1:
            raise ConfigError("folds or trials are too few", "probe", "use at least 2 folds and 1 trial")
        if not self.name.strip():
            raise ConfigError("the head has no name", "name", "say what it predicts")
        if strange := set(self.predict) - {"train", "val", "test"}:
            raise ConfigError(f"no such split: {', '.join(sorted(strange))}", "predict", "use train, val, test")


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A head and how it came about."""

    share: float
    seed: int
    head: Head
    found: Found
    n_lesions: int
    n_patients: int


def probe(settings_path: Path) -> None:
    """The verb.

    Raises:
        ConfigError: The settings are wrong.
        InputError: The features or labels cannot be used.
        OutputError: The output cannot be written.
    """
    settings = from_plain(ProbeSettings, read_yaml(settings_path), where=settings_path.name)
    table = read_feature_table(Path(settings.features), Path(settings.labels) if settings.labels else None)
    run_probe(settings, table)


def run_probe(settings: ProbeSettings, table: FeatureTable) -> list[Fit]:
    """Fit, predict, write; returns the fits in the order of `shares` and `seeds`."""
    where = Path(settings.features).name
    known = _known(table.frame, settings.head, where)
    shared = check_leakage(table.frame, shared_patients=settings.shared_patients, where=where)
    outcomes = _outcomes(table.frame, known, settings.head)
    method = settings.method or f"{table.meta.extractor} + {settings.head.value}"
    output, fits, rows = Path(settings.output), [], []
    for share, seed in _runs(settings):
        fit = _fit(settings, table, outcomes, known, share, seed)
        head = write_head(output / "heads" / head_file_name(share, seed), fit.head)
        fits.append(replace(fit, head=head))
        judged = table.take(table.frame["split"].isin(settings.predict).to_numpy())
        scores = head_scores(head, judged.values)
        rows.append(prediction_rows(judged.frame, scores, head.classes, method=method, share=share, seed=seed))
        log.info("%s: share %g, seed %d: %s", method, share, seed, _summary(fits[-1]))
    write_predictions(output / "predictions.csv", rows)
    record = {"settings": to_plain(settings), "features": asdict(table.meta), "shared_patients": shared}
    record |= {
        "version": __version__,
        "git_revision": git_revision(),
        "method": method,
        "fits": [_record(fit) for fit in fits],
    }
    write_bytes(output / "probe.json", (json.dumps(record, indent=1) + "\n").encode())
    return fits


def head_file_name(share: float, seed: int) -> str:
    """heads/: all.json for the whole training data, else the share in percent and the seed."""
    return "all.json" if share == 1 else f"{100 * share:g}-percent.seed-{seed}.json"


def _runs(settings: ProbeSettings) -> Iterator[tuple[float, int]]:
    for share in settings.shares:
        for seed in settings.seeds[:1] if share == 1 else settings.seeds:
            yield share, seed


def _fit(settings: ProbeSettings, table: FeatureTable, outcomes: Outcomes, known: Mask, share: float, seed: int) -> Fit:
    frame = table.frame
    training = frame[known & (frame["split"] == "train")]
    strata = [str(outcomes.labels[row]) for row in training.index]
    rows = training.index.to_numpy()[training_subset(training["patient"].tolist(), strata, share, seed)]
    values, fitted = table.values[rows], outcomes.take(rows)
    patients = frame["patient"].to_numpy(dtype=str)[rows]
    tuning = np.flatnonzero(known & (frame["split"] == "val").to_numpy())
    if settings.search is Search.CROSS_VALIDATION or (settings.search is Search.AUTO and not len(tuning)):
        folds = patient_folds(values, fitted, patients, folds=settings.folds, seed=seed)
    elif len(tuning):
        folds = [Fold.of(values, fitted, table.values[tuning], outcomes.take(tuning))]
    else:
        raise InputError("there is no tuning set", settings.features, "use search: cross-validation")
    found = search_strength(settings.head, folds, score=settings.score, n_trials=settings.trials, seed=seed)
    head = replace(
        fit_head(settings.head, Standardised.of(values), fitted, found.strength),
        name=settings.name,
        extractor=table.meta.extractor,
        weights_sha256=table.meta.weights_sha256,
        mode=table.meta.mode,
        table_sha256=table.meta.table_sha256,
        training_sha256=_training_sha256(frame.iloc[rows], table.take(rows), fitted),
        version=__version__,
    )
    return Fit(share, seed, head, found, len(rows), len(set(patients)))


def _known(frame: pd.DataFrame, kind: HeadKind, where: str) -> Mask:
    """(n,) the lesions with an outcome; others are predicted, but nothing is fitted or chosen on them."""
    needed = ["time", "event"] if kind is HeadKind.COX else ["label"]
    missing = [name for name in ("split", *needed) if name not in frame]
    if missing:
        raise InputError(f"column(s) {', '.join(missing)} are missing", where, "give them in the table or in `labels`")
    known: Mask = (frame[needed].notna() & (frame[needed] != "")).all(axis=1).to_numpy()
    if not (known & (frame["split"] == "train")).any():
        raise InputError("no training lesion has an outcome", where, "give lesions of the split train")
    if not known.all():
        log.info("%d lesions have no outcome; nothing is fitted on them", int((~known).sum()))
    return known


def _outcomes(frame: pd.DataFrame, known: Mask, kind: HeadKind) -> Outcomes:
    """Outcomes of all lesions; where they are not known they are never looked at."""
    if kind is HeadKind.COX:
        time = frame["time"].fillna(0.0).to_numpy(dtype=np.float64)
        return Outcomes((), frame["event"].fillna(0.0).to_numpy(dtype=np.int64), time)
    names = sorted(set(frame.loc[known & frame["split"].isin(["train", "val"]), "label"]), key=class_order)
    if len(names) < 2:
        raise InputError(f"training lesions have {len(names)} class", "label", "give two classes or more")
    numbers = {name: number for number, name in enumerate(names)}
    labels = np.array([numbers.get(label, -1) for label in frame["label"]], dtype=np.int64)
    return Outcomes(tuple(names), labels, np.empty(0))


def _training_sha256(frame: pd.DataFrame, table: FeatureTable, outcomes: Outcomes) -> str:
    named = [frame["lesion"].tolist(), outcomes.labels.tolist(), [repr(t) for t in outcomes.time.tolist()]]
    return hashlib.sha256(json.dumps(named).encode() + table.values.tobytes()).hexdigest()


def _record(fit: Fit) -> dict[str, Any]:
    return {
        "share": fit.share,
        "seed": fit.seed,
        "lesions": fit.n_lesions,
        "patients": fit.n_patients,
        "head": f"heads/{head_file_name(fit.share, fit.seed)}",
        "head_sha256": fit.head.sha256,
        **asdict(fit.found),
    }


def _summary(fit: Fit) -> str:
    return f"{fit.n_lesions} lesions, strength {fit.found.strength:.3g}, tuning score {fit.found.score:.3f}"
