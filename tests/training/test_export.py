"""Exports are accepted where published weights are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from fmcib_module.adapters.resnet import resnet50
from fmcib_module.adapters.runner import load_encoder
from fmcib_module.core.errors import ConfigError
from training.export import export_run
from training.pretrain import run
from training.settings import (
    Accelerator,
    DataSettings,
    MethodName,
    MethodSettings,
    NetworkSettings,
    TrainerSettings,
    TrainingSettings,
)


def _settings(folder: Path, name: MethodName) -> TrainingSettings:
    return TrainingSettings(
        run=str(folder),
        data=DataSettings(batch_size=4, n_lesions=8, edge=20),
        network=NetworkSettings(widen_factor=0.0625),
        method=MethodSettings(name=name, channels=(4, 8, 8)),
        trainer=TrainerSettings(epochs=1, accelerator=Accelerator.CPU, log_steps=1),
    )


def test_both_exports_give_the_trained_features_in_the_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMCIB_CACHE", str(tmp_path / "cache"))
    settings = _settings(tmp_path / "run", MethodName.MODIFIED_SIMCLR)
    method = run(settings).method.eval()
    patches = np.random.default_rng(0).random((2, 50, 50, 50), dtype=np.float32)
    with torch.no_grad():
        expected = method.encode(torch.from_numpy(patches)[:, None]).numpy()
    for path in export_run(settings):
        encoder = load_encoder(path, device="cpu")
        torch.set_num_threads(1)
        assert encoder.n_features == 128
        np.testing.assert_allclose(encoder.encode(patches), expected, rtol=1e-4, atol=1e-5)


def test_the_published_form_holds_exactly_the_322_entries_of_the_published_checkpoint(tmp_path: Path) -> None:
    from monai.networks.nets.resnet import resnet50 as monai_resnet50  # what the published package builds

    settings = _settings(tmp_path, MethodName.MODIFIED_SIMCLR)
    run(settings)
    _, published = export_run(settings)
    checkpoint = torch.load(published, weights_only=True)
    assert list(checkpoint) == ["trunk_state_dict"]
    trunk = checkpoint["trunk_state_dict"]
    assert len(trunk) == 322
    theirs = monai_resnet50(
        spatial_dims=3, n_input_channels=1, widen_factor=0.0625, conv1_t_stride=2, feed_forward=False,
        bias_downsample=True,
    )  # fmt: skip
    result = theirs.load_state_dict(trunk, strict=True)
    assert not result.missing_keys
    assert not result.unexpected_keys
    assert list(resnet50(0.0625).state_dict()) == list(trunk)


def test_the_metadata_say_method_recipe_and_licence_of_the_data(tmp_path: Path) -> None:
    settings = _settings(tmp_path, MethodName.SIMCLR)
    run(settings)
    path, _ = export_run(settings)
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    assert metadata["method"] == "simclr"
    assert metadata["recipe_sha256"] == settings.recipe_digest()
    assert metadata["data_licence"] == "CC0-1.0"
    assert metadata["steps"] == "2"
    assert "not the published model" in metadata["note"]


def test_what_cannot_be_exported_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"last\.ckpt"):
        export_run(_settings(tmp_path / "nothing", MethodName.SIMCLR))
    settings = _settings(tmp_path / "autoencoder", MethodName.AUTOENCODER)
    run(settings)
    with pytest.raises(ConfigError, match="auto-encoder"):
        export_run(settings)
