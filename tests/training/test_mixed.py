"""The mixed method: pasted lesions, views with noise, the spread of features, and going on from another run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fmcib_module.core.errors import ConfigError
from tests.training import scans
from training.batches import PatchBatch
from training.cache import LesionCache
from training.counter_random import derive_keys
from training.data import open_cache
from training.methods import make_method
from training.methods.mixed import disagreement, variance_and_covariance
from training.mixed_views import MixedViews, add_noise
from training.pasted_lesions import KINDS_HU, TEXTURE_HU, paste_lesions, paste_pairs
from training.pretrain import run, start_from
from training.settings import (
    Accelerator,
    DataSettings,
    MethodName,
    MethodSettings,
    NetworkSettings,
    Source,
    TrainerSettings,
    TrainingSettings,
    read_training_settings,
)
from training.view_settings import ViewSettings

CONFIG = Path(__file__).parents[2] / "config/training"
TINY = NetworkSettings(widen_factor=0.0625, projection=16, joint_passes=True)
EVEN = torch.full((6, 1, 58, 58, 58), -800, dtype=torch.int16)


def _keys(n: int = 6, stream: int = 0) -> Tensor:
    return derive_keys(torch.tensor([4]), torch.arange(n), stream)


def test_a_pasted_lesion_is_at_the_seed_and_of_a_grey_value_that_there_is() -> None:
    pasted = paste_lesions(EVEN.float(), _keys())
    lowest, highest = min(low for low, _ in KINDS_HU) - TEXTURE_HU, max(high for _, high in KINDS_HU) + TEXTURE_HU
    for patch in pasted[:, 0]:
        middle = patch[28:31, 28:31, 28:31].mean()
        assert middle != -800
        assert lowest - 60 <= middle <= highest  # a small one is mixed with its surroundings there
        assert (patch[0] + 800).abs().max() < 1  # nothing of it at the border
        changed = (patch + 800).abs() > 20
        radius = (3 * changed.sum().item() / 4 / np.pi) ** (1 / 3)
        assert 0.5 < radius < 20


def test_two_rows_share_their_surroundings_and_have_a_lesion_each() -> None:
    patches = EVEN + 100 * torch.arange(6, dtype=torch.int16)[:, None, None, None, None]
    pasted = paste_pairs(patches, _keys(), 1.0)
    borders = pasted[:, 0, 0, 0, 0]
    torch.testing.assert_close(borders, torch.tensor([-800.0, -800, -600, -600, -400, -400]), atol=1.0, rtol=0)
    assert not torch.allclose(pasted[0], pasted[1], atol=5)
    assert torch.equal(paste_pairs(patches, _keys(), 0.0), patches.float())
    assert torch.equal(paste_pairs(patches, _keys(), 1.0), pasted)
    assert not torch.equal(paste_pairs(patches, _keys(stream=1), 1.0), pasted)


def test_noise_is_as_strong_as_the_settings_allow_and_its_samples_differ() -> None:
    settings = ViewSettings(noise_probability=1.0, noise_hu=60.0)
    noise = add_noise(torch.zeros(40, 1, 32, 32, 32), _keys(40), settings) * 3072
    deviations = noise.std(dim=(1, 2, 3, 4))
    assert 0 <= deviations.min() < 10
    assert 50 < deviations.max() <= 61
    half = add_noise(torch.zeros(200, 1, 8, 8, 8), _keys(200), ViewSettings(noise_probability=0.5))
    assert 70 < (half.abs().amax(dim=(1, 2, 3, 4)) > 0).sum() < 130


def test_the_target_is_the_patch_with_its_lesion_as_both_views_see_it() -> None:
    quiet = ViewSettings(
        scale=(1, 1),
        flip_probability=0,
        shift_probability=0,
        smooth_probability=0,
        paste_probability=1.0,
        threshold=True,
    )
    views = MixedViews(quiet)(
        PatchBatch(EVEN[:, :, 4:54, 4:54, 4:54], torch.arange(6)), torch.Generator().manual_seed(1)
    )
    assert views.target is not None
    assert views.negatives == ()
    for view in views.lesions:
        torch.testing.assert_close(view, views.target, atol=1e-5, rtol=1e-5)


def test_views_can_be_smaller_and_still_hold_the_seed() -> None:
    patches = EVEN.clone()
    patches[:, :, 28:31, 28:31, 28:31] = 1000
    settings = ViewSettings(scale=(0.54, 0.7), keep_radius=12, jitter=4, full_size=32, shift_probability=0)
    views = MixedViews(settings)(PatchBatch(patches, torch.arange(6)), torch.Generator().manual_seed(1))
    assert views.lesions[0].shape == (6, 1, 32, 32, 32)
    assert (views.lesions[0].amax(dim=(1, 2, 3, 4)) > 0.2).all()


def test_spread_is_0_for_independent_features_of_deviation_1_and_high_for_copies() -> None:
    rows = torch.linalg.qr(torch.randn(64, 9, generator=torch.Generator().manual_seed(0)))[0]
    rows = rows - rows.mean(dim=0)
    independent = torch.linalg.qr(rows)[0][:, :8] * 8 * 1.5
    centred = independent - independent.mean(dim=0)
    assert variance_and_covariance(centred).item() == pytest.approx(0, abs=0.02)
    assert variance_and_covariance(centred[:, :1].repeat(1, 8)).item() == pytest.approx(56 / 64, rel=0.01)
    assert variance_and_covariance(torch.zeros(64, 8)).item() == pytest.approx(0.99, abs=0.01)


def test_disagreement_is_0_for_equal_views_1_for_unrelated_and_2_for_opposite_ones() -> None:
    first, other = torch.randn(2, 500, 6, generator=torch.Generator().manual_seed(0))
    assert disagreement(first, 3 * first + 1).item() == pytest.approx(0, abs=1e-3)
    assert disagreement(first, -first).item() == pytest.approx(2, abs=1e-3)
    assert disagreement(first, other).item() == pytest.approx(1, abs=0.05)


def _settings(folder: Path, cache: LesionCache, **network: object) -> TrainingSettings:
    return TrainingSettings(
        run=str(folder),
        data=DataSettings(source=Source.CACHE, path=str(cache.folder), batch_size=4, margin=4),
        views=ViewSettings(scale=(0.8, 1.0), jitter=4, paste_probability=0.5, noise_probability=0.5),
        network=NetworkSettings(widen_factor=0.0625, projection=16, joint_passes=True, **network),  # type: ignore[arg-type]
        method=MethodSettings(name=MethodName.MIXED),
        trainer=TrainerSettings(epochs=1, accelerator=Accelerator.CPU, log_steps=1),
    )


def test_a_run_starts_with_the_weights_of_another(tmp_path: Path) -> None:
    cache = scans.make_cache(tmp_path / "data", n_scans=2, lesions_per_scan=4)
    first = run(_settings(tmp_path / "first", cache))
    checkpoint = tmp_path / "first/checkpoints/last.ckpt"
    method = make_method(TINY, MethodSettings(name=MethodName.MIXED))
    start_from(method, checkpoint)
    for name, tensor in method.state_dict().items():
        assert torch.equal(tensor, first.method.state_dict()[name]), name
    second = run(_settings(tmp_path / "second", cache, start_from=str(checkpoint)))
    assert second.global_step == 2
    other = make_method(TINY, MethodSettings(name=MethodName.SIMCLR))
    with pytest.raises(ConfigError, match="another method's"):
        start_from(other, checkpoint)


def test_the_recipe_of_mini_is_the_mixed_method_at_a_quarter_of_the_width(tmp_path: Path) -> None:
    stages = [CONFIG / f"mini/{name}_stage.yml" for name in ("first", "second", "third", "fourth")]
    before = ""
    for path in (*stages, CONFIG / "mini.yml"):
        settings = read_training_settings(path)
        assert settings.network.start_from == (before and f"{before}/checkpoints/last.ckpt")
        before = settings.run
        assert settings.method.name is MethodName.MIXED
        assert settings.network.widen_factor == 0.25
        assert settings.data.split == "train"
    cache = scans.make_cache(tmp_path, n_scans=1, lesions_per_scan=1)
    trial = _settings(tmp_path / "run", cache)
    assert isinstance(open_cache(trial, make_method(trial.network, trial.method))[1], MixedViews)
