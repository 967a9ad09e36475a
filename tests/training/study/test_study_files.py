"""The example files of the analyses are read, and agree with each other and with the paper."""

from pathlib import Path

import pytest

from fmcib_module.core.variants import JITTER_SD_MM
from fmcib_module.settings import from_plain, read_yaml
from training.study.biology import BiologySettings
from training.study.efficiency import EfficiencySettings
from training.study.maps import MapsSettings
from training.study.saliency import SaliencySettings
from training.study.stability import StabilitySettings
from training.verbs import VERBS, load_verb

ROOT = Path(__file__).parents[3]
KINDS = {
    "stability": StabilitySettings,
    "saliency": SaliencySettings,
    "maps": MapsSettings,
    "biology": BiologySettings,
    "efficiency": EfficiencySettings,
}


def example(name):
    return from_plain(KINDS[name], read_yaml(ROOT / f"config/training/study/{name}.yml"), where=name)


@pytest.mark.parametrize("name", KINDS)
def test_every_verb_has_an_example_that_its_settings_take(name):
    assert example(name).output.startswith("runs/study/")
    assert callable(load_verb(name))
    assert VERBS[name] == (f"training.study.{name}", name)


def test_examples_are_the_papers_numbers_and_name_files_that_are_there():
    assert (example("stability").trials, JITTER_SD_MM**2) == (50, 16.0)
    assert example("biology").most_genes == 500
    efficiency = example("efficiency")
    assert all((ROOT / path).is_file() for path in (efficiency.features, efficiency.probe, efficiency.finetune))
