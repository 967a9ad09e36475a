"""How the encoder runs in training changes speed and memory, not what it computes."""

import pytest
import torch
from torch import Tensor

from fmcib_module.adapters.resnet import resnet50
from training.encoder_pass import EncoderPass
from training.settings import NetworkSettings, Precision

WIDTH = 0.0625
PLAIN = NetworkSettings(widen_factor=WIDTH, channels_last=False)


def _pass(settings: NetworkSettings) -> EncoderPass:
    torch.manual_seed(0)
    return EncoderPass(resnet50(WIDTH), settings).train()


def _step(encoder_pass: EncoderPass, edge: int) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    patches = torch.randn(4, 1, edge, edge, edge, generator=generator).to(next(encoder_pass.parameters()).dtype)
    features: Tensor = encoder_pass(patches)
    weights = torch.randn(features.shape, generator=generator)
    torch.autograd.backward((features * weights).sum())
    return features.detach(), {name: p.grad for name, p in encoder_pass.named_parameters() if p.grad is not None}


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0))


def test_the_pass_computes_what_the_encoder_computes() -> None:
    encoder_pass = _pass(PLAIN)
    patches = torch.randn(2, 1, 50, 50, 50, generator=torch.Generator().manual_seed(0))
    encoder_pass.eval()
    assert torch.equal(encoder_pass(patches), encoder_pass.encoder(patches))


@pytest.mark.parametrize("settings", [
    NetworkSettings(widen_factor=WIDTH, channels_last=True),
    NetworkSettings(widen_factor=WIDTH, channels_last=False, checkpointing=True),
], ids=["channels last", "checkpointing"])  # fmt: skip
def test_layout_and_recomputing_leave_gradients_and_statistics_as_they_are(settings: NetworkSettings) -> None:
    plain, other = _pass(PLAIN).double(), _pass(settings).double()  # batch norm of 4 patches amplifies rounding
    features, gradients = _step(plain, 32)
    other_features, other_gradients = _step(other, 32)
    torch.testing.assert_close(other_features, features)
    assert gradients.keys() == other_gradients.keys()
    for name, expected in gradients.items():
        torch.testing.assert_close(other_gradients[name], expected, msg=name)
    for (name, ours), expected in zip(other.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, expected, msg=name)


# 50: the last stage has 2 x 2 x 2 maps; 25 (SwAV's small crops): the third stage has them too.
@pytest.mark.parametrize(("edge", "first_float32_stage"), [(50, 4), (25, 3)])
def test_bf16_gradients_on_a_cpu_are_float32_s_and_small_maps_are_never_bf16(
    edge: int, first_float32_stage: int
) -> None:
    settings = NetworkSettings(widen_factor=WIDTH, channels_last=False, precision=Precision.BF16)
    plain, bf16 = _pass(PLAIN).eval(), _pass(settings).eval()  # batch norm of 4 patches would amplify the rounding
    stages = [bf16.encoder.layer1, bf16.encoder.layer2, bf16.encoder.layer3, bf16.encoder.layer4]
    dtypes: list[torch.dtype] = []
    for stage in stages:
        stage.register_forward_hook(lambda _, __, output: dtypes.append(output.dtype))
    features, gradients = _step(plain, edge)
    bf16_features, bf16_gradients = _step(bf16, edge)
    assert dtypes == [
        torch.bfloat16 if number < first_float32_stage else torch.float32 for number in range(1, len(stages) + 1)
    ]
    assert bf16_features.dtype == torch.float32
    assert _cosine(bf16_features, features) > 0.999
    for name, expected in gradients.items():
        assert bf16_gradients[name].dtype == torch.float32
        if name.endswith("conv2.weight"):  # the 3 x 3 x 3 convolutions
            assert _cosine(bf16_gradients[name], expected) > 0.9, name
    everything, theirs = (torch.cat([g[name].flatten() for name in gradients]) for g in (bf16_gradients, gradients))
    assert _cosine(everything, theirs) > 0.98
