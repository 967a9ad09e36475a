"""The methods of a study in words, filled from its settings and records: what a paper would say of it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from training.study.records import FitRecord
from training.study.study_results import StudyResults

HEADS: Final = {
    "logistic": "logistic regression",
    "ridge": "ridge regression on coded classes",
    "knn": "k nearest neighbours",
    "cox": "Cox regression with a ridge penalty",
}
OPTIMISERS: Final = {"sgd": "stochastic gradient descent with momentum {momentum:g}", "adam": "Adam"}
HASH_SHOWN: Final = 12
"""Characters of a SHA-256 in a sentence; the table of fits has them all."""


def methods_paragraphs(results: StudyResults, tasks: Sequence[str], records: Sequence[FitRecord]) -> list[str]:
    """One paragraph on each task's methods, and one on how all were judged."""
    paragraphs = []
    for task in tasks:
        of_task = [record for record in records if record.task == task]
        paragraphs.append(" ".join([_lesions(results, task), *(_method(record) for record in of_task)]))
    return [*paragraphs, _judging(results.settings)]


def _lesions(results: StudyResults, task: str) -> str:
    row = results.of("metrics", task).iloc[0]
    split = results.settings["split"]
    judged = f"{_count(row['n'], 'lesion')} of {_count(row['n_patients'], 'patient')}"
    return f"{task}: methods were compared on {judged} ({split} split)."


def _method(record: FitRecord) -> str:
    if record.kind == "probe":
        return _probe(record)
    if record.kind == "finetune":
        return _finetune(record)
    return "How one table of predictions was made is not recorded."


def _probe(record: FitRecord) -> str:
    settings = record.settings
    chosen = {
        "tuning": "on the tuning split",
        "cross-validation": f"by {settings['folds']}-fold cross-validation over training patients",
        "auto": f"on the tuning split, or without one by {settings['folds']}-fold cross-validation",
    }[settings["search"]]
    kind = HEADS[settings["head"]]
    return (
        f"“{record.method}”: features of {_network(record)} were standardised by the training lesions, and {kind} was "
        f"fitted on {_trained_on(record)}; the strength of its penalty (or k) was chosen {chosen} in "
        f"{_count(settings['trials'], 'trial')}.{_shares(settings)}{_shared(record)}"
    )


def _finetune(record: FitRecord) -> str:
    settings, model = record.settings, record.settings["model"]
    trainer, optimiser, augment = settings["trainer"], settings["optimiser"], settings["augment"]
    start = "from random weights" if model["start"] == "random" else f"from {_network(record)}"
    how = OPTIMISERS[optimiser["name"]].format(**optimiser)
    rate = f"{optimiser['learning_rate']:g}"
    if optimiser["reference_batch"]:
        rate += f" x batch / {optimiser['reference_batch']}"
    hidden = " and ".join(map(str, model["hidden"]))
    views = [
        text
        for text, wanted in (
            (f"shifts of up to {augment['translation']} voxels", augment["translation_probability"]),
            ("flips", augment["flip_probability"]),
            ("turns by 90 degrees", augment["rotation_probability"]),
            ("Gaussian smoothing", augment["smooth_probability"]),
        )
        if wanted
    ]
    return (
        f"“{record.method}”: all layers of the network {record.extractor} and a head"
        f"{f' with {hidden} hidden units' if hidden else ''} were trained {start} on {_trained_on(record)} by {how}, "
        f"rate {rate}, multiplied by {optimiser['gamma']:g} every {optimiser['step_epochs']} epochs, for up to "
        f"{_count(trainer['epochs'], 'epoch')} in batches of {trainer['batch_size']}, with "
        f"{', '.join(views) or 'no augmentation'}; the best model on the tuning split was kept."
        f"{_shares(settings)}{_shared(record)}"
    )


def _judging(settings: Mapping[str, Any]) -> str:
    unit = "patients" if settings["by_patient"] else "lesions"
    return (
        f"Intervals are 95 % percentile intervals of {settings['n_resamples']} bootstrap resamples of {unit}. Methods "
        f"were compared by {settings['sides']} permutation tests with {settings['n_permutations']} exchanges of "
        f"{unit}, not corrected for the number of comparisons. Risk groups were cut at the median risk of the split "
        f"{settings['tuning_split']}."
    )


def _network(record: FitRecord) -> str:
    weights = f" (weights {record.weights_sha256[:HASH_SHOWN]})" if record.weights_sha256 else ""
    return f"{record.extractor}{weights}"


def _trained_on(record: FitRecord) -> str:
    return f"{_count(record.lesions, 'lesion')} of {_count(record.patients, 'patient')}"


def _shares(settings: Mapping[str, Any]) -> str:
    smaller = [share for share in settings["shares"] if share < 1]
    if not smaller:
        return ""
    seeds = _count(len(settings["seeds"]), "draw")
    return f" It was repeated on {', '.join(f'{share:.0%}' for share in smaller)} of the training data, {seeds} each."


def _shared(record: FitRecord) -> str:
    if not record.shared_patients:
        return ""
    return f" {_count(record.shared_patients, 'patient')} of the training split are in another split too."


def _count(n: float, of: str) -> str:
    return f"{int(n):,} {of}{'' if n == 1 else 's'}"
