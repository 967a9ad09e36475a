"""What features are asked: lesion or other tissue, which organ, the same lesion again, stability, effective rank."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from training.evaluation.agreement import icc
from training.evaluation.metrics import Floats, Index, auc, balanced_accuracy
from training.monitors import effective_rank
from training.quality_data import Labelled, Repeats
from training.quality_models import Model
from training.quality_probe import held_out_scores

LEAST_FITTED: Final = 2
"""Patients that a probe of patients is fitted on."""

BLOCK_MM: Final = 45.0
"""Edge of the blocks that stand for patients where one scan alone has a task's labels."""

APART_MM: Final = 25.0
"""Least distance between a block's points and those that its probe is fitted on: half a patch."""

Metric = Callable[[Index], float]
"""Numbers of the items drawn -> value."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A task, done by every model.

    Attributes:
        name: Of the task.
        what: The measure.
        clusters: Of each item: its patient, or its block.
        metrics: Model -> measure.
    """

    name: str
    what: str
    clusters: list[str]
    metrics: Mapping[str, Metric]

    @property
    def all_items(self) -> Index:
        """Numbers of all items."""
        return np.arange(len(self.clusters))


def read_classes(task: str) -> tuple[str, tuple[str, ...]]:
    """Name and classes of "name: class, class"."""
    name, _, classes = task.partition(":")
    return name.strip(), tuple(part.strip() for part in classes.split(",") if part.strip())


def tell_classes(
    points: Labelled, models: Mapping[str, Model], classes: Sequence[str], split: str, name: str
) -> Outcome:
    """A linear probe per patient of the split, fitted on all other patients but those of the test split.

    Patients of the test split are only ever fitted on to judge another of them. A probe fitted on one scan alone would
    know that scan: where there are not `LEAST_FITTED` patients to fit on, blocks of space stand for patients, each
    judged by a probe fitted on its own patients' points that lie `APART_MM` away. Where the split has no point of
    these classes, the training patients' blocks are judged.

    Args:
        points: Labelled points.
        models: Name -> model.
        classes: Two: AUC of the first against the second. More: balanced accuracy.
        split: Whose patients are judged.
        name: Of the task.
    """
    chosen = [n for n, label in enumerate(points.labels) if label in classes]
    labels = np.array([classes.index(points.labels[n]) for n in chosen])
    splits = np.array([points.splits[n] for n in chosen])
    patients = np.array([points.patients[n] for n in chosen])
    judged = splits == split
    usable = judged | (splits != "test")
    if judged.any() and len(set(patients[usable])) > LEAST_FITTED:
        groups = patients
        fitted = {group: usable & (groups != group) for group in sorted(set(groups[judged]))}
    else:
        judged = judged if judged.any() else splits == "train"
        groups = _blocks(points.centres_mm[chosen], patients)
        centres_mm = points.centres_mm[chosen]
        fitted = {group: judged & _apart(centres_mm, groups == group) for group in sorted(set(groups[judged]))}
    items = np.flatnonzero(judged)
    patches = points.patches_hu[chosen]

    def metric_of(model: Model) -> Metric:
        scores = held_out_scores(model(patches), labels, groups, fitted)[items]
        truth = labels[items]
        if len(classes) == 2:
            return lambda drawn: auc(-scores[drawn, 1], truth[drawn] == 0)
        predicted = scores.argmax(axis=1)
        return lambda drawn: balanced_accuracy(predicted[drawn], truth[drawn])

    what = "AUC" if len(classes) == 2 else "balanced accuracy"
    metrics = {model_name: metric_of(model) for model_name, model in models.items()}
    return Outcome(name, what, [str(group) for group in groups[items]], metrics)


def judge_repeats(lesions: Repeats, models: Mapping[str, Model]) -> list[Outcome]:
    """Retrieval of the same lesion, stability under a displaced seed and noise, effective rank."""
    own: dict[str, dict[str, Metric]] = {}
    for model_name, model in models.items():
        plain, cropped = model(lesions.patches_hu), model(lesions.crops_hu)
        displaced = np.stack([plain, *(model(patches) for patches in lesions.displaced_hu)], axis=1)
        noisy = np.stack([plain, *(model(patches) for patches in lesions.noisy_hu)], axis=1)
        found = _found_again(plain, cropped)
        own[model_name] = {
            "retrieval": _mean_of(found),
            "icc_displaced": _median_icc(displaced),
            "icc_noise": _median_icc(noisy),
            "effective_rank": _rank_of(plain),
        }
    described = {
        "retrieval": "share of lesions whose other crop is nearest to themselves",
        "icc_displaced": "median ICC of the features, seed up to 4 mm away",
        "icc_noise": "median ICC of the features, white noise of 25 HU",
        "effective_rank": "exp of the entropy of the singular values",
    }
    return [
        Outcome(name, what, lesions.patients, {model_name: metrics[name] for model_name, metrics in own.items()})
        for name, what in described.items()
    ]


def _blocks(centres_mm: Floats, patients: NDArray[np.str_]) -> NDArray[np.str_]:
    cells = np.floor(centres_mm / BLOCK_MM).astype(int)
    return np.array([f"{patient} {x} {y} {z}" for patient, (x, y, z) in zip(patients, cells, strict=True)])


def _apart(centres_mm: Floats, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which points lie `APART_MM` or more from all of a group's."""
    distances = np.linalg.norm(centres_mm[:, None] - centres_mm[inside][None], axis=-1)
    return np.asarray(distances.min(axis=1) >= APART_MM)


def _found_again(plain: Floats, cropped: Floats) -> Floats:
    """(n,) 1 where a lesion's other crop is nearer to it than to all other lesions, by cosine of z-scores."""
    mean, deviation = plain.mean(axis=0), plain.std(axis=0)
    deviation[deviation == 0] = 1.0
    unit = [
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in ((plain - mean) / deviation, (cropped - mean) / deviation)
    ]
    nearest: Index = (unit[1] @ unit[0].T).argmax(axis=1)
    return np.asarray(nearest == np.arange(len(plain)), dtype=np.float64)


def _mean_of(values: Floats) -> Metric:
    return lambda drawn: float(values[drawn].mean())


def _median_icc(values: Floats) -> Metric:
    return lambda drawn: float(np.nanmedian(icc(values[drawn])))


def _rank_of(rows: Floats) -> Metric:
    tensor = torch.from_numpy(rows)
    return lambda drawn: effective_rank(tensor[torch.from_numpy(drawn)])
