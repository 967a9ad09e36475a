"""`python -m training`: verbs, settings, exit codes, and the shipped recipes."""

import logging
from pathlib import Path

import pytest
import torch
import yaml

from fmcib_module.core.errors import ConfigError
from training.__main__ import main
from training.methods import make_method
from training.optim import scaled_learning_rate
from training.settings import MethodName, NetworkSettings, TrainingSettings, read_training_settings
from training.verbs import VERBS, load_verb

CONFIG = Path(__file__).parents[2] / "config/training"
RECIPES = {
    "fmcib": MethodName.MODIFIED_SIMCLR,
    "simclr": MethodName.SIMCLR,
    "swav": MethodName.SWAV,
    "nnclr": MethodName.NNCLR,
    "autoencoder": MethodName.AUTOENCODER,
}


@pytest.mark.parametrize("arguments", [[], ["pretrain"], ["sing", "config.yml"], ["pretrain", "absent.yml"]])
def test_wrong_usage_ends_with_2_and_one_line(arguments: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert main(arguments) == 2
    (record,) = caplog.records
    assert "Traceback" not in record.message


def test_every_verb_is_a_function() -> None:
    assert {"pretrain", "export"} <= VERBS.keys()
    assert all(callable(load_verb(name)) for name in VERBS)


@pytest.mark.parametrize(("text", "message"), [
    ("run: a\nspeed: 3", "unknown key"),
    ("run: a\ndata: {batchsize: 3}", r"batchsize.*known keys.*batch_size"),
    ("run: a\nmethod: {name: moco}", "modified-simclr"),
    ("run: a\nmethod: {temperature: 0}", "temperature"),
    ("run: a\ntrainer: {epochs: 0}", "epochs is 0"),
    ("run: a\ntrainer: {epochs: ten}", "type int"),
    ("run: a\ndata: 3", "data is 3"),
    ("seed: 1", "'run'"),
])  # fmt: skip
def test_wrong_settings_say_what_is_allowed(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_training_settings(path)


def test_settings_survive_yaml(tmp_path: Path) -> None:
    settings = TrainingSettings(run="runs/x")
    path = tmp_path / "settings.yml"
    path.write_text(yaml.safe_dump(settings.to_dict()))
    assert read_training_settings(path) == settings


def test_the_recipe_s_digest_knows_what_changes_weights() -> None:
    base = TrainingSettings(run="a")
    assert TrainingSettings(run="b").recipe_digest() == base.recipe_digest()
    assert TrainingSettings(run="a", seed=2).recipe_digest() != base.recipe_digest()
    here, there, nowhere = (
        TrainingSettings(run="a", network=NetworkSettings(start_from=path)).recipe_digest() for path in ("x", "y", "")
    )
    assert here == there != nowhere


@pytest.mark.parametrize(("recipe", "name"), RECIPES.items())
def test_shipped_recipes_are_the_papers(recipe: str, name: MethodName) -> None:
    settings = read_training_settings(CONFIG / f"{recipe}.yml")
    assert settings.method.name is name
    assert settings.trainer.epochs == 100
    assert settings.trainer.devices * settings.data.batch_size == 64
    with torch.device("meta"):
        method = make_method(settings.network, settings.method)
    n_parameters = sum(p.numel() for p in method.parameters())
    assert 180e6 < n_parameters < 230e6


def test_the_papers_own_recipe() -> None:
    settings = read_training_settings(CONFIG / "fmcib.yml")
    optimiser = settings.optimiser
    assert scaled_learning_rate(optimiser, 64) == pytest.approx(0.3 * 64 / 256)
    assert (optimiser.name.value, optimiser.momentum, optimiser.weight_decay) == ("lars", 0.9, 1e-6)
    assert settings.method.temperature == 0.1
    assert settings.network.projection == 128
    assert settings.trainer.sync_batch_norm
    assert optimiser.warmup_epochs > 0


def test_swav_s_recipe() -> None:
    method = read_training_settings(CONFIG / "swav.yml").method
    assert (method.n_prototypes, method.queue_length, method.queue_from_epoch) == (3000, 3840, 15)
    assert method.prototypes_frozen_steps > 0
