"""What `python -m training` can do. A verb takes the path of a YAML file; adding one is adding a line."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

Verb = Callable[[Path], Any]

VERBS: Final[dict[str, tuple[str, str]]] = {
    "cohort": ("training.cohorts.cohort", "cohort"),
    "manifest": ("training.cohorts.manifest", "manifest"),
    "prepare": ("training.prepare", "prepare"),
    "pretrain": ("training.pretrain", "pretrain"),
    "compare": ("training.compare", "compare"),
    "export": ("training.export", "export"),
    "features": ("training.adaptation.features", "features"),
    "finetune": ("training.adaptation.finetune", "finetune"),
    "quality": ("training.quality", "quality"),
    "probe": ("training.adaptation.probe", "probe"),
    "evaluate": ("training.evaluation.evaluate", "evaluate"),
    "figures": ("training.study.figures", "figures"),
    "reproduce": ("training.study.reproduce", "reproduce"),
    "stability": ("training.study.stability", "stability"),
    "saliency": ("training.study.saliency", "saliency"),
    "maps": ("training.study.maps", "maps"),
    "biology": ("training.study.biology", "biology"),
    "efficiency": ("training.study.efficiency", "efficiency"),
}
"""Verb -> (module, function). Modules are imported when their verb is used: each brings its own libraries."""


def load_verb(name: str) -> Verb:
    """The function behind a verb of `VERBS`."""
    module, function = VERBS[name]
    return cast("Verb", getattr(import_module(module), function))
