"""The five methods on tiny networks: what their losses react to, whole steps on two ranks, and short trainings."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fmcib_module.adapters.resnet import resnet50
from training.batches import Views
from training.methods import METHODS, Progress, make_method
from training.methods.autoencoder import AutoEncoderMethod
from training.methods.swav import SwAV
from training.monitors import effective_rank, encode_all
from training.pretrain import run
from training.settings import Accelerator as On
from training.settings import (
    DataSettings,
    MethodName,
    MethodSettings,
    NetworkSettings,
    OptimiserName,
    OptimiserSettings,
    TrainerSettings,
    TrainingSettings,
)
from training.synthetic import SyntheticSource, SyntheticViews

TINY = NetworkSettings(widen_factor=0.0625, projection=16)
EDGE = 24
START = Progress(epoch=0, step=0)
RESNET_METHODS = [name for name in MethodName if name is not MethodName.AUTOENCODER]


def _small(name: MethodName, **changes: object) -> MethodSettings:
    values: dict[str, object] = {"n_prototypes": 12, "queue_length": 16, "queue_from_epoch": 1, "memory_bank": 32}
    values["channels"] = (8, 16, 32)
    return MethodSettings(name=name, **{**values, **changes})  # type: ignore[arg-type]


def _views(n: int = 4, n_small_crops: int = 6, seed: int = 0) -> Views:
    source = SyntheticSource(DataSettings(batch_size=n, n_lesions=n, edge=EDGE), seed)
    batch = next(source.batches(epoch=0, first=0, rank=0, world_size=1))
    return SyntheticViews(n_small_crops)(batch, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", list(MethodName))
def test_every_parameter_of_every_method_learns(name: MethodName) -> None:
    torch.manual_seed(0)
    method = make_method(TINY, _small(name))
    output = method(_views(), START)
    output.loss.backward()
    assert output.loss.ndim == 0
    assert all(rows.shape[0] == 4 and not rows.requires_grad for rows in output.features)
    assert method.encode(_views().lesions[0]).shape == output.features[0].shape
    still = [key for key, p in method.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # AutoEncoder: biases before instance norm change nothing.
    assert all(name is MethodName.AUTOENCODER and key.endswith("conv.bias") for key in still), still


@pytest.mark.parametrize("name", RESNET_METHODS)
def test_methods_train_the_one_encoder_of_the_chain(name: MethodName) -> None:
    keys = make_method(TINY, _small(name)).encoder_pass.encoder.state_dict().keys()  # type: ignore[union-attr]
    assert list(keys) == list(resnet50(0.0625).state_dict().keys())


def test_the_heads_of_simclr_are_two_layers_without_batch_norm_and_128_wide() -> None:
    for name in (MethodName.MODIFIED_SIMCLR, MethodName.SIMCLR):
        head = make_method(NetworkSettings(widen_factor=0.0625), MethodSettings(name=name)).head
        assert isinstance(head, nn.Module)
        linear = [module for module in head.modules() if isinstance(module, nn.Linear)]
        assert [(layer.in_features, layer.out_features) for layer in linear] == [(128, 64), (64, 128)]
        assert not [module for module in head.modules() if isinstance(module, nn.BatchNorm1d)]


def test_swav_s_prototypes_are_unit_directions_that_stay_frozen_at_first() -> None:
    method = make_method(TINY, _small(MethodName.SWAV, prototypes_frozen_steps=3))
    assert isinstance(method, SwAV)
    method(_views(), START).loss.backward()
    (prototypes,) = method.prototypes.parameters()
    torch.testing.assert_close(prototypes.norm(dim=1), torch.ones(12))
    method.before_step(Progress(epoch=0, step=2))
    assert prototypes.grad is None
    method(_views(), START).loss.backward()
    method.before_step(Progress(epoch=0, step=3))
    assert prototypes.grad is not None


def test_swav_s_queue_joins_when_it_is_full_and_wanted() -> None:
    method = make_method(TINY, _small(MethodName.SWAV, queue_length=8, queue_from_epoch=1))
    seen: list[list[Tensor] | None] = []
    method.loss.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))  # type: ignore[union-attr]
    for epoch in (0, 0, 0, 1):
        method(_views(), Progress(epoch, 0))
    assert [queue is not None for queue in seen] == [False, False, False, True]
    assert seen[3] is not None
    assert [tuple(scores.shape) for scores in seen[3]] == [(8, 12), (8, 12)]


def test_memories_of_earlier_batches_are_kept_in_checkpoints() -> None:
    for name, keys in ((MethodName.NNCLR, {"bank.bank", "bank.bank_ptr"}), (MethodName.SWAV, {"queues.1.bank"})):
        assert keys <= make_method(TINY, _small(name)).state_dict().keys()


def test_the_autoencoder_has_about_as_many_parameters_as_the_published_network() -> None:
    with torch.device("meta"):
        network = AutoEncoderMethod(NetworkSettings(widen_factor=2.0), MethodSettings(name=MethodName.AUTOENCODER))
        resnet = resnet50(2.0)
    ours, theirs = (sum(p.numel() for p in module.parameters()) for module in (network, resnet))
    assert ours == pytest.approx(theirs, rel=0.01)


def _short_run(folder: Path, name: MethodName) -> TrainingSettings:
    # So short a SwAV needs sharp targets and fast steps to fall below log(n_prototypes), the loss of no knowledge.
    is_swav = name is MethodName.SWAV
    swav: dict[str, object] = {
        "n_prototypes": 16, "queue_length": 0, "sinkhorn_epsilon": 0.02, "prototypes_frozen_steps": 8,
    }  # fmt: skip
    return TrainingSettings(
        run=str(folder),
        data=DataSettings(batch_size=16 if is_swav else 8, n_lesions=32, edge=EDGE),
        network=NetworkSettings(widen_factor=0.125),
        method=_small(name, **swav),
        optimiser=OptimiserSettings(
            name=OptimiserName.ADAMW, learning_rate=3e-3 if is_swav else 2e-3, reference_batch=0, warmup_epochs=1
        ),
        trainer=TrainerSettings(epochs=12 if is_swav else 8, accelerator=On.CPU, log_steps=1, checkpoint_steps=0),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", list(METHODS))
def test_the_loss_falls_and_features_do_not_collapse(name: MethodName, tmp_path: Path) -> None:
    import pandas as pd

    module = run(_short_run(tmp_path, name))
    losses = pd.read_csv(tmp_path / "metrics.csv").drop_duplicates("step")["loss"]
    assert losses.tail(6).mean() < 0.9 * losses.head(4).mean()
    if name is MethodName.SWAV:
        assert losses.tail(6).mean() < math.log(16)
    source = SyntheticSource(DataSettings(n_labelled=32, edge=EDGE), seed=7)  # lesions that training did not see
    labelled = source.labelled()
    assert labelled is not None
    features = encode_all(module.method, labelled.patches, torch.device("cpu"))
    assert effective_rank(features) > 3
