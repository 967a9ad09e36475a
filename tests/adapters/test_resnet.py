"""The network is MONAI's, name by name and value by value, and loads strictly."""

import subprocess
import sys

import pytest
import torch
from monai.networks.nets import resnet as monai_resnet

from fmcib_module.adapters.resnet import ResNet3D, resnet50, resnet_from_tensors
from fmcib_module.core.errors import WeightsError


def monai_network(widen_factor: float) -> torch.nn.Module:
    return monai_resnet.resnet50(
        spatial_dims=3,
        n_input_channels=1,
        widen_factor=widen_factor,
        conv1_t_stride=2,
        feed_forward=False,
        bias_downsample=True,
    )


def random_tensors(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Convolutions of unit gain, batch norm with statistics that are not trivial."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, like in network.state_dict().items():
        values = torch.rand(like.shape, generator=generator).to(like.dtype)
        tensors[name] = (2 * values - 1) * (6 / like[0].numel()) ** 0.5 if like.ndim == 5 else values + 0.5
    tensors |= {name: t.long() for name, t in tensors.items() if name.endswith("num_batches_tracked")}
    return tensors


@pytest.mark.parametrize("widen_factor", [0.25, 1.0, 2.0])
def test_names_and_shapes_are_those_of_monai(widen_factor):
    with torch.device("meta"):  # shapes only: no memory
        ours = ResNet3D(widen_factor)
        theirs = monai_network(widen_factor)
    shapes = [(name, tuple(tensor.shape)) for name, tensor in theirs.state_dict().items()]
    assert [(name, tuple(tensor.shape)) for name, tensor in ours.state_dict().items()] == shapes
    assert len(shapes) == 322
    assert ours.n_features == 2048 * widen_factor


def test_the_same_seed_gives_monais_initial_weights():
    torch.manual_seed(0)
    theirs = monai_network(0.25).state_dict()
    torch.manual_seed(0)
    for name, tensor in resnet50(0.25).state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("widen_factor", [0.25, pytest.param(2.0, marks=pytest.mark.slow)])
def test_the_same_weights_give_monais_features(widen_factor):
    with torch.device("meta"):
        theirs = monai_network(widen_factor).eval()
    tensors = random_tensors(theirs)
    theirs.load_state_dict(tensors, assign=True)
    patches = torch.rand(2, 1, 50, 50, 50, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, expected = resnet_from_tensors(tensors, "here")(patches), theirs(patches)
    assert found.shape == (2, 2048 * widen_factor)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-6)


@pytest.mark.slow
def test_training_gives_monais_gradients_and_running_statistics():
    torch.manual_seed(0)
    theirs = monai_network(0.25).train()
    ours = resnet50(0.25).train()
    ours.load_state_dict(theirs.state_dict())
    patches = torch.rand(2, 1, 50, 50, 50, generator=torch.Generator().manual_seed(1))
    for network in (ours, theirs):
        network(patches).square().sum().backward()
    for (name, found), expected in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert found.grad is not None
        assert expected.grad is not None
        torch.testing.assert_close(found.grad, expected.grad, atol=1e-3, rtol=1e-3, msg=name)
    torch.testing.assert_close(ours.bn1.running_var, theirs.get_buffer("bn1.running_var"))


def test_loading_infers_the_width_and_stays_trainable():
    network = resnet_from_tensors(resnet50(0.25).state_dict(), "here")
    assert network.n_features == 512
    assert not network.training
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in network.parameters())


def test_half_precision_weights_are_computed_in_float32():
    half = {name: t.half() if t.is_floating_point() else t for name, t in resnet50(0.25).state_dict().items()}
    assert {p.dtype for p in resnet_from_tensors(half, "here").parameters()} == {torch.float32}


def test_missing_unexpected_and_misshapen_tensors_are_named():
    tensors = dict(resnet50(0.25).state_dict())
    del tensors["layer3.1.bn2.bias"]
    tensors["fc.weight"] = torch.zeros(2, 2)
    tensors["layer1.0.conv1.weight"] = torch.zeros(16, 17, 1, 1, 1)
    with pytest.raises(WeightsError) as caught:
        resnet_from_tensors(tensors, "mine.torch")
    message = str(caught.value)
    assert "1 missing (layer3.1.bn2.bias)" in message
    assert "1 unexpected (fc.weight)" in message
    assert "layer1.0.conv1.weight (16, 17, 1, 1, 1) instead of (16, 16, 1, 1, 1)" in message
    assert "mine.torch" in message


@pytest.mark.parametrize("stem", [None, torch.zeros(8), torch.zeros(0, 1, 7, 7, 7)], ids=["absent", "flat", "empty"])
def test_weights_of_another_network_are_refused(stem):
    tensors = {"weight": torch.zeros(2)} if stem is None else {"conv1.weight": stem}
    with pytest.raises(WeightsError, match="tensor conv1"):
        resnet_from_tensors(tensors, "other")


def test_the_runner_starts_without_monai_and_the_compiler():
    code = (
        "import sys; from fmcib_module.adapters.runner import load_encoder; load_encoder(device='cpu');"
        "sys.exit(any(name in sys.modules for name in ('monai', 'torch._dynamo')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
