"""What the networks of other extractors compute, against independent code."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from fmcib_module.adapters.extractor_networks import NETWORKS, network_from_tensors, new_network
from fmcib_module.adapters.extractors import load_extractor
from fmcib_module.adapters.weights import list_weights
from fmcib_module.core.errors import ConfigError
from fmcib_module.core.extractors import Region
from tests.adapters import published_forms
from tests.adapters.test_extractors import cache, card, of_monai

__all__ = ["cache"]  # the fixture of an empty cache


@of_monai
def test_med3d_computes_what_monais_resnet50_with_stride_1_computes():
    from monai.networks.nets import resnet

    tensors = published_forms.med3d_tensors(1 / 32)
    theirs = resnet.resnet50(
        spatial_dims=3,
        n_input_channels=1,
        widen_factor=1 / 32,
        conv1_t_stride=1,
        bias_downsample=False,
        feed_forward=False,
    ).eval()
    theirs.load_state_dict(tensors, strict=True)
    cubes = torch.rand(2, 1, 50, 50, 50, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected, found = theirs(cubes), network_from_tensors("med3d", tensors, "here")(cubes)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def genesis_in_words(x: torch.Tensor, tensors: dict[str, torch.Tensor], *, batch_statistics: bool) -> torch.Tensor:
    """The published forward pass: conv, norm, ReLU twice per level; pooling by 2 after all but the last."""
    for level in (64, 128, 256, 512):
        for step in (0, 1):
            name = f"down_tr{level}.ops.{step}"
            x = functional.conv3d(x, tensors[f"{name}.conv1.weight"], tensors[f"{name}.conv1.bias"], padding=1)
            dims = (0, 2, 3, 4)
            mean = x.mean(dims) if batch_statistics else tensors[f"{name}.bn1.running_mean"]
            var = x.var(dims, unbiased=False) if batch_statistics else tensors[f"{name}.bn1.running_var"]
            shape = (1, -1, 1, 1, 1)
            x = (x - mean.view(shape)) / torch.sqrt(var.view(shape) + 1e-5)
            x = x * tensors[f"{name}.bn1.weight"].view(shape) + tensors[f"{name}.bn1.bias"].view(shape)
            x = x.clamp(min=0)
        if level != 512:
            x = functional.max_pool3d(x, 2)
    assert x.shape[2:] == (6, 6, 6)
    windows = x.unfold(2, 3, 2).unfold(3, 3, 2).unfold(4, 3, 2)
    return windows.mean(dim=(-3, -2, -1)).flatten(1)


@pytest.mark.parametrize("training", [False, True])
def test_models_genesis_computes_the_published_forward_pass(training):
    tensors = published_forms.random_tensors(published_forms.genesis_shapes(2))
    network = network_from_tensors("models-genesis", tensors, "here").train(training)
    cubes = torch.rand(2, 1, 48, 48, 48, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected = genesis_in_words(cubes, tensors, batch_statistics=training)
        torch.testing.assert_close(network(cubes), expected, rtol=1e-4, atol=1e-5)
    assert expected.shape == (2, 32 * 8)


@of_monai
def test_ct_fm_averages_the_last_of_five_levels():
    from monai.networks.nets.segresnet_ds import SegResEncoder

    tensors = published_forms.ct_fm_tensors(2)
    theirs = SegResEncoder(init_filters=2, blocks_down=(1, 2, 2, 4, 4)).eval()
    theirs.load_state_dict(tensors, strict=True)
    cubes = torch.rand(2, 1, 48, 48, 48)
    with torch.no_grad():
        levels = theirs(cubes)
        found = network_from_tensors("ct-fm", tensors, "here")(cubes)
    assert len(levels) == 5
    torch.testing.assert_close(found, functional.adaptive_avg_pool3d(levels[-1], 1).flatten(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["med3d", "models-genesis", "ct-fm"])
def test_at_full_size_features_are_as_many_as_the_card_and_the_registry_say(tmp_path, name):
    writer = {
        "med3d": published_forms.write_med3d,
        "models-genesis": published_forms.write_genesis,
        "ct-fm": published_forms.write_ct_fm,
    }[name]
    listed = next(entry for entry in list_weights() if entry.name == name)
    extractor = load_extractor(f"{name}={writer(tmp_path / listed.file_name)}", device="cpu")
    edge = card(name).form.edge
    features = extractor.encode([Region(np.random.default_rng(0).random((edge,) * 3, dtype=np.float32))])
    assert features.shape == (1, card(name).n_features) == (1, listed.n_features)
    assert np.isfinite(features).all()


@of_monai
def test_new_networks_know_how_many_features_they_give():
    for name in NETWORKS:
        network = new_network(name, width=1 / 16).eval()
        edge = card(name).form.edge
        with torch.no_grad():
            assert network(torch.zeros(1, 1, edge, edge, edge)).shape == (1, network.n_features)
    with pytest.raises(ConfigError, match="no network 'radiomics'"):
        new_network("radiomics")
