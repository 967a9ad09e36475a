"""`python -m training stability FILE`: what features and predictions do when the seed moves, or the scan is repeated.

OUTPUT/stability.csv      per model and trial: feature MSE and AUC           (and .png, .svg)
OUTPUT/tests.csv          Wilcoxon signed-rank tests between models, over trials
OUTPUT/retest.csv         predictions of both scans of each lesion           (and .png, .svg)
OUTPUT/retest_icc.csv     their six ICCs; OUTPUT/retest_features.csv          agreement of features
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmcib_module.adapters.atomic import replacing
from fmcib_module.adapters.extractors import choose_extractor
from fmcib_module.core.domain import Seed
from fmcib_module.core.errors import ConfigError, InputError
from fmcib_module.core.variants import MOST_JITTERS, jittered_seeds
from fmcib_module.settings import Device, from_plain, read_yaml
from training.adaptation.feature_table import FeatureTable
from training.adaptation.lesions import LesionSettings
from training.evaluation.metrics import ClassScores, mean_auc, once
from training.lesion_table import LesionRow, read_lesion_table
from training.study.drawing import Drawing, file_name, panels, save_drawing, styled
from training.study.models import StudyModel, binary_or_risk, check_models, model_features, model_scores
from training.study.retest import PAIR, draw_retest, feature_agreement, paired, prediction_agreement
from training.study.signed_rank import signed_rank_tests

log = logging.getLogger(__name__)

MEASURES: Final = {"mse": "Feature MSE", "mse_standardised": "Feature MSE, standardised", "auc": "AUC"}


@dataclass(frozen=True, slots=True)
class StabilitySettings:
    """The keys of the YAML file are exactly these fields; paths relative to where it is run.

    Attributes:
        output: Folder for tables, figures and the features.
        models: To compare.
        data: A lesion table whose seeds are moved; absent to leave that out. A cache holds too little around a lesion.
        split: Whose lesions; "" for all.
        trials: Displacements of each lesion, from N(0, 16 mm^2) on each axis.
        retest: A lesion table with two scans of each lesion (columns `pair`, and `repeat` of 1 and 2); absent to leave
            that out.
        device: auto, cpu or cuda.
    """

    output: str
    models: tuple[StudyModel, ...]
    data: tuple[LesionSettings, ...] = ()
    split: str = "test"
    trials: int = 50
    retest: tuple[LesionSettings, ...] = ()
    device: Device = Device.AUTO

    def __post_init__(self) -> None:
        check_models(self.models)
        if len(self.data) > 1 or len(self.retest) > 1 or not self.data + self.retest:
            raise ConfigError("there must be one table to move seeds in, one of retests, or both", "data", "give them")
        if any(data.cache for data in self.data):
            raise ConfigError("seeds cannot be moved in a cache", "data", "give the lesion table")
        if not 1 <= self.trials <= MOST_JITTERS:
            raise ConfigError(f"trials is {self.trials}", "trials", f"use 1 to {MOST_JITTERS}")


def stability(settings_path: Path) -> None:
    """The verb.

    Raises:
        ConfigError: The settings are wrong.
        WeightsError: Weights are absent or do not fit.
        InputError: The lesions cannot be used.
        OutputError: The folder cannot be written.
    """
    settings = from_plain(StabilitySettings, read_yaml(settings_path), where=settings_path.name)
    for model in settings.models:
        if choose_extractor(model.extractor).card.form.needs_mask:
            raise ConfigError("it measures a mask, whatever the seed is", model.extractor, "leave it out")
    output = Path(settings.output)
    with styled():
        for data in settings.data:
            trials = pd.concat([_trials(model, rows) for model, rows in _moved(settings, data)], ignore_index=True)
            _write(output / "tests.csv", signed_rank_tests(trials[trials["trial"] > 0], MEASURES, "trial"))
            save_drawing(output, draw_stability(trials))
        for data in settings.retest:
            _retest(settings, data, output)


def _retest(settings: StabilitySettings, data: LesionSettings, output: Path) -> None:
    agreement, icc_rows, predictions = [], [], []
    for model in settings.models:
        table = model_features(model, data, output / "features" / "retest" / file_name(model.name), settings.device)
        first, second = paired(table, Path(data.table or data.cache).name)
        agreement.append({"model": model.name, "n": len(first), **feature_agreement(first.values, second.values)})
        if model.head:
            one, two = (binary_or_risk(*model_scores(model, part)) for part in (first, second))
            icc_rows.append(prediction_agreement(one, two).assign(model=model.name, n=len(first)))
            columns = {"model": model.name, PAIR: first.frame[PAIR], "first": one, "second": two}
            predictions.append(pd.DataFrame(columns))
    _write(output / "retest_features.csv", pd.DataFrame(agreement))
    if predictions:
        all_icc = pd.concat(icc_rows, ignore_index=True)
        _write(output / "retest_icc.csv", all_icc[["model", *all_icc.columns.drop("model")]])
        save_drawing(output, draw_retest(pd.concat(predictions, ignore_index=True), all_icc))


def moved_rows(rows: Sequence[LesionRow], trials: int) -> list[LesionRow]:
    """Every lesion as it is (trial 0) and with its seed moved; named by `origin` and `trial`."""
    moved = []
    for row in rows:
        seed = Seed(row.lps_mm, row.lesion, "")
        for trial, at in enumerate((seed, *jittered_seeds(seed, row.image, trials))):
            origin = {"origin": row.lesion, "trial": trial}
            moved.append(replace(row, lps_mm=at.lps_mm, lesion=f"{row.lesion}, {trial}", others=origin))
    return moved


def _moved(settings: StabilitySettings, data: LesionSettings) -> list[tuple[StudyModel, FeatureTable]]:
    """Each model's features of all moved lesions; those that one trial of one model lacks are left out of all."""
    path = Path(data.table)
    rows = read_lesion_table(path, shared_patients=data.shared_patients).rows
    rows = tuple(row for row in rows if not settings.split or row.split == settings.split)
    if not rows:
        raise InputError(f"no lesion is in the split {settings.split!r}", path.name, "name another split")
    found = []
    with TemporaryDirectory() as folder:  # image paths may be of this machine: they do not stay
        table = Path(folder) / path.with_suffix(".csv").name
        _lesion_csv(table, moved_rows(rows, settings.trials))
        moved = replace(data, table=str(table), images=data.images or str(path.parent))
        for model in settings.models:
            kept = Path(settings.output) / "features" / "moved" / file_name(model.name)
            found.append((model, model_features(model, moved, kept, settings.device)))
    wanted = settings.trials + 1
    complete = set.intersection(*({*_complete(table, wanted)} for _, table in found))
    if len(complete) < 2:
        raise InputError(f"{len(complete)} lesion(s) have features in every trial", path.name, "give more lesions")
    if len(complete) < len(rows):
        log.warning("%d lesion(s) are left out: a seed of theirs leaves the scan", len(rows) - len(complete))
    return [(model, table.take(table.frame["origin"].isin(complete).to_numpy())) for model, table in found]


def _complete(table: FeatureTable, wanted: int) -> list[str]:
    counts = table.frame["origin"].value_counts()
    return [str(name) for name in counts.index[counts == wanted]]


def _lesion_csv(path: Path, rows: Sequence[LesionRow]) -> None:
    x, y, z = zip(*(row.lps_mm for row in rows), strict=True)
    columns = {"image_path": [row.image for row in rows], "coordX": x, "coordY": y, "coordZ": z}
    columns |= {name: [getattr(row, name) for row in rows] for name in ("lesion", "patient", "split", "label")}
    columns |= {name: [row.others[name] for row in rows] for name in ("origin", "trial")}
    pd.DataFrame(columns).to_csv(path, index=False)


def _trials(model: StudyModel, table: FeatureTable) -> pd.DataFrame:
    """Rows of stability.csv."""
    trial = table.frame["trial"].astype(int)
    order = table.frame["origin"]
    parts = {int(t): table.take(order[trial == t].sort_values().index.to_numpy()) for t in set(trial)}
    original = parts[0]
    rows = []
    for t in sorted(parts.keys() - {0}):
        errors = feature_errors(original.values, parts[t].values)
        rows.append({"model": model.name, "trial": t, **errors, "auc": _auc(model, parts[t]), "n": len(original)})
    unmoved = {"mse": 0.0, "mse_standardised": 0.0, "auc": _auc(model, original), "n": len(original)}
    return pd.DataFrame([{"model": model.name, "trial": 0, **unmoved}, *rows])


def feature_errors(original: NDArray[np.floating], moved: NDArray[np.floating]) -> Mapping[str, float]:
    """Mean squared error over (n, d) features, as they are, and in standard deviations of each feature over lesions.

    Networks give numbers of different size: only the second compares them. Constant features do not enter it.
    """
    squared = (moved.astype(np.float64) - original) ** 2
    variance = original.astype(np.float64).var(axis=0)
    varies = variance > 0
    return {
        "mse": float(squared.mean()),
        "mse_standardised": float((squared / np.where(varies, variance, 1))[:, varies].mean()),
    }


def _auc(model: StudyModel, table: FeatureTable) -> float:
    """Of the labelled lesions; NaN without a head of classes, or without labels of theirs."""
    if not model.head or "label" not in table.frame:
        return float("nan")
    scores, classes = model_scores(model, table)
    numbers = {name: number for number, name in enumerate(classes)}
    truth = np.array([numbers.get(label, -1) for label in table.frame["label"]], dtype=np.int64)
    known = truth >= 0
    if len(classes) < 2 or not known.any():
        return float("nan")
    return float(mean_auc(ClassScores(truth[known], scores[known]), once(int(known.sum())))[0])


def draw_stability(trials: pd.DataFrame) -> Drawing:
    """Each measure over the trials, a box per model; the AUC of the seeds as they are is a line."""
    moved, unmoved = trials[trials["trial"] > 0], trials[trials["trial"] == 0]
    shown = [measure for measure in MEASURES if moved[measure].notna().any()]
    figure, axes = panels(len(shown), size=(2.9, 3.0))
    for ax, measure in zip(axes, shown, strict=True):
        of = moved[moved[measure].notna()]
        models = list(of["model"].drop_duplicates())
        ax.boxplot([of.loc[of["model"] == model, measure] for model in models], tick_labels=models, widths=0.5)
        ax.set_ylabel(MEASURES[measure])
        ax.tick_params(axis="x", rotation=20)
        if measure == "auc":
            places = range(1, len(models) + 1)
            values = unmoved.set_index("model").loc[models, measure]
            ax.hlines(values, [n - 0.35 for n in places], [n + 0.35 for n in places], linestyles=":")
    caption = f"{trials['n'].iloc[0]} lesions, {moved['trial'].nunique()} displacements each."
    return Drawing("stability", "", "Stability of seeds", caption, figure, trials)


def _write(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)
