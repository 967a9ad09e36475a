"""The files of config/training/study that `features` and `finetune` read are valid, and say what the paper says."""

from pathlib import Path

import pytest

from fmcib_module.core.extractors import CARDS
from fmcib_module.settings import from_plain, read_yaml
from training.adaptation.features import FeatureSettings
from training.adaptation.finetune_settings import FinetuneSettings, Optimiser, Start, Task

STUDY = Path(__file__).parents[3] / "config/training/study"
FINETUNE = (
    *("finetune_task1", "finetune_task2", "finetune_task3", "finetune_published", "supervised_task1"),
    *("supervised_task2", "med3d_task2", "models_genesis_task2"),
)


def finetune_settings(name: str) -> FinetuneSettings:
    return from_plain(FinetuneSettings, read_yaml(STUDY / f"{name}.yml"), where=name)


@pytest.mark.parametrize("name", ["features", "features_baselines", "features_radiomics"])
def test_feature_files_name_known_extractors(name: str) -> None:
    settings = from_plain(FeatureSettings, read_yaml(STUDY / f"{name}.yml"), where=name)
    assert {wanted.partition("=")[0] for wanted in settings.extractors} <= {card.name for card in CARDS}


@pytest.mark.parametrize("name", FINETUNE)
def test_finetune_files_are_read_and_no_two_share_a_folder_or_a_method_of_one_task(name: str) -> None:
    settings = finetune_settings(name)
    others = [finetune_settings(other) for other in FINETUNE if other != name]
    assert settings.run not in {other.run for other in others}
    same = {other.method_name for other in others if Path(other.run).parent == Path(settings.run).parent}
    assert settings.method_name not in same


def test_heads_and_optimisers_are_the_papers() -> None:
    one, two, three = (finetune_settings(f"finetune_task{n}") for n in (1, 2, 3))
    assert (one.model.hidden, two.model.hidden, three.model.hidden) == ((2048,), (2048,), (2048, 512, 256))
    for settings in (one, two, three):
        assert settings.optimiser.name is Optimiser.SGD
        assert (settings.optimiser.momentum, settings.optimiser.step_epochs, settings.optimiser.gamma) == (0.9, 30, 0.1)
        assert settings.augment.translation == 10
    assert (three.task, three.horizon_years) == (Task.SURVIVAL, 2.0)
    assert finetune_settings("supervised_task1").model.start is Start.RANDOM
    transferred = finetune_settings("supervised_task2").model
    assert transferred.weights == f"{finetune_settings('supervised_task1').run}/all/best.torch"
    assert finetune_settings("finetune_published").optimiser.name is Optimiser.ADAM
