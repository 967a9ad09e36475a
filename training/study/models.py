"""A model of the study: an extractor, and what predicts from its features."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fmcib_module.adapters.head_file import read_head
from fmcib_module.core.conventions import Mode
from fmcib_module.core.errors import ConfigError
from fmcib_module.core.heads import check_head, head_scores
from fmcib_module.settings import Device
from training.adaptation.feature_table import FeatureTable, read_feature_table
from training.adaptation.features import FeatureSettings, compute_features
from training.adaptation.lesions import LesionSettings
from training.evaluation.metrics import Floats
from training.study.drawing import file_name


@dataclass(frozen=True, slots=True)
class StudyModel:
    """A model to compare.

    Attributes:
        name: In tables and figures.
        extractor: As in `features`: NAME, or NAME=FILE for that network with weights from a file. Not one that measures
            a mask.
        head: What predicts: a head of `probe` (heads/all.json), or best.torch of `finetune`, whose network `extractor`
            names too; "" for features only.
    """

    name: str
    extractor: str
    head: str = ""


def check_models(models: Sequence[StudyModel]) -> None:
    """Refuse names that are missing or whose files would be the same.

    Raises:
        ConfigError: They are.
    """
    names = [file_name(model.name) for model in models]
    if not names or len({*names}) < len(names):
        raise ConfigError("there is no model, or two have the same name", "models", "let names differ in letters")


def model_features(model: StudyModel, data: LesionSettings, folder: Path, device: Device) -> FeatureTable:
    """Features of a lesion table, computed once and kept in the folder.

    Raises:
        ConfigError, WeightsError, InputError, OutputError: As `compute_features`.
    """
    (path,), _ = compute_features(FeatureSettings(str(folder), data, (model.extractor,), device))
    return read_feature_table(path)


def model_scores(model: StudyModel, table: FeatureTable) -> tuple[Floats, tuple[str, ...]]:
    """What a model's head says of features.

    Returns:
        (n, k) probabilities and the k classes; (n, 1) risks and no class for a Cox head.

    Raises:
        ConfigError: The head was made for other features, or its classes are unknown.
        InputError: The head cannot be read.
        WeightsError: Likewise.
    """
    path = Path(model.head)
    if path.suffix == ".json":
        head = read_head(path)
        meta = table.meta
        check_head(head, weights=meta.extractor, weights_sha256=meta.weights_sha256, mode=Mode(meta.mode))
        return head_scores(head, table.values), head.classes
    return _finetuned_scores(path, model.extractor.partition("=")[0], table)


def binary_or_risk(scores: Floats, classes: tuple[str, ...]) -> Floats:
    """(n,): one number per lesion of a risk or of two classes.

    Raises:
        ConfigError: There are more classes.
    """
    if len(classes) > 2:
        raise ConfigError(f"the head has {len(classes)} classes", "head", "give one of two classes, or of survival")
    column: Floats = scores[:, -1]
    return column


def _finetuned_scores(path: Path, extractor: str, table: FeatureTable) -> tuple[Floats, tuple[str, ...]]:
    import torch

    from training.adaptation.finetuned import n_features, probabilities, read_finetuned

    model = read_finetuned(path, extractor)
    if n_features(model.trunk) != table.values.shape[1]:
        what = f"the head takes {n_features(model.trunk)} features, the table has {table.values.shape[1]}"
        raise ConfigError(what, path.name, f"give the same file as extractor: {extractor}=FILE")
    with torch.no_grad():
        scores = probabilities(model.heads(torch.from_numpy(table.values))).double().numpy()
    return scores, classes_of(path)


def classes_of(path: Path) -> tuple[str, ...]:
    """Classes of a best.torch, from the best.json beside it.

    Raises:
        ConfigError: It is not there.
    """
    record = path.with_name("best.json")
    try:
        return tuple(json.loads(record.read_text(encoding="utf-8"))["classes"])
    except (OSError, ValueError, KeyError) as error:
        fix = "keep best.json of `finetune` beside best.torch"
        raise ConfigError("the classes of the fine-tuned model are unknown", record.name, fix) from error
