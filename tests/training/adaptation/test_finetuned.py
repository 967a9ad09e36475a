"""Fine-tuned models are read and written in the published form, strictly."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from fmcib_module.adapters.checkpoint import load_weights
from fmcib_module.adapters.extractor_networks import network_from_tensors, new_network
from fmcib_module.core.errors import WeightsError
from training.adaptation.finetuned import FineTuned, make_head, probabilities, read_finetuned, write_finetuned


def published(sizes, scale=1 / 64):
    """The layout of the published package's LoadModel, written out here: MONAI's trunk, heads of Sequentials."""
    from monai.networks.nets import resnet

    torch.manual_seed(0)
    trunk = resnet.resnet50(
        spatial_dims=3, n_input_channels=1, widen_factor=scale, conv1_t_stride=2, feed_forward=False
    )
    layers = []
    for place, (into, out) in enumerate(pairwise(sizes)):
        layer = [nn.Linear(into, out, bias=True)]
        if place != len(sizes) - 2:
            layer.append(nn.ReLU(inplace=True))
        layers.append(nn.Sequential(*layer))
    return trunk.eval(), nn.Sequential(*layers).eval()


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [(16, 8), (16, 1), (16, 12, 6, 1)], ids=["task1", "task2", "task3"])
def test_a_published_file_loads_strictly_and_computes_the_same(tmp_path, hidden):
    trunk, heads = published((32, *hidden))
    state = {"trunk_state_dict": trunk.state_dict(), "head_state_dict": heads.state_dict()}
    assert set(heads.state_dict()) == {f"{n}.0.{kind}" for n in range(len(hidden)) for kind in ("weight", "bias")}
    torch.save(state, tmp_path / "finetuned.torch")
    model = read_finetuned(tmp_path / "finetuned.torch", "fmcib")
    cubes = torch.rand(2, 1, 50, 50, 50)
    with torch.no_grad():
        torch.testing.assert_close(model(cubes), heads(trunk(cubes)), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_what_we_write_has_the_published_keys_and_reads_back(tmp_path):
    model = FineTuned(new_network("fmcib", width=1 / 128), make_head((32, 16, 8))).eval()
    write_finetuned(tmp_path / "mine.torch", model)
    loaded = torch.load(tmp_path / "mine.torch", weights_only=True)
    trunk, heads = published((32, 16, 8))
    assert list(loaded) == ["trunk_state_dict", "head_state_dict"]
    trunk.load_state_dict(loaded["trunk_state_dict"], strict=True)
    heads.load_state_dict(loaded["head_state_dict"], strict=True)
    again = read_finetuned(tmp_path / "mine.torch", "fmcib")
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    info, tensors = load_weights(tmp_path / "mine.torch")  # and its trunk alone, as weights of a run
    assert network_from_tensors("fmcib", tensors, info.name).n_features == 32


@pytest.mark.parametrize("name", ["med3d", "models-genesis", pytest.param("ct-fm", marks=pytest.mark.slow)])
def test_other_networks_are_kept_in_the_same_form(tmp_path, name):
    trunk = new_network(name, width=1 / 16)
    write_finetuned(tmp_path / "x.torch", FineTuned(trunk, make_head((trunk.n_features, 4, 1))))
    assert type(read_finetuned(tmp_path / "x.torch", name).trunk) is type(trunk)
    with pytest.raises(WeightsError):
        read_finetuned(tmp_path / "x.torch", "fmcib")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("head_state_dict"), "no trunk_state_dict and head_state_dict"),
        (lambda s: s["head_state_dict"].pop("1.0.bias"), r"1 missing \(1\.0\.bias\)"),
        (lambda s: s["head_state_dict"].pop("0.0.weight"), "no chain of linear layers"),
        (lambda s: s["head_state_dict"].update({"1.0.weight": torch.zeros(8, 5)}), r"1\.0\.weight \(8, 5\) instead"),
        (lambda s: s["head_state_dict"].update({"0.0.weight": torch.zeros(16, 31)}), "takes 31 features"),
        (lambda s: s["trunk_state_dict"].pop("bn1.bias"), r"1 missing \(bn1\.bias\)"),
        (lambda s: s["trunk_state_dict"].update({"fc.weight": torch.zeros(1)}), r"1 unexpected \(fc\.weight\)"),
        (lambda s: s["head_state_dict"].update({"note": "x"}), "no state dict"),
    ],
)
def test_anything_that_does_not_fit_is_refused(tmp_path, change, message):
    trunk, heads = published((32, 16, 8))
    state = {"trunk_state_dict": dict(trunk.state_dict()), "head_state_dict": dict(heads.state_dict())}
    change(state)
    torch.save(state, tmp_path / "broken.torch")
    with pytest.raises(WeightsError, match=message):
        read_finetuned(tmp_path / "broken.torch", "fmcib")


def test_python_objects_and_other_files_are_never_loaded(tmp_path):
    torch.save({"trunk_state_dict": nn.Linear(1, 1)}, tmp_path / "objects.torch")
    with pytest.raises(WeightsError, match="Python objects"):
        read_finetuned(tmp_path / "objects.torch", "fmcib")
    (tmp_path / "text.torch").write_text("x")
    with pytest.raises(WeightsError, match=r"text\.torch"):
        read_finetuned(tmp_path / "text.torch", "fmcib")


def test_probabilities_are_those_of_the_losses_they_are_trained_with():
    one = torch.tensor([[-2.0], [0.0], [3.0]])
    found = probabilities(one).numpy()
    np.testing.assert_allclose(found[:, 1], 1 / (1 + np.exp([2.0, 0.0, -3.0])), rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    three = torch.tensor([[1.0, 2.0, 3.0]])
    expected = np.exp([1.0, 2, 3]) / np.exp([1.0, 2, 3]).sum()
    np.testing.assert_allclose(probabilities(three).numpy()[0], expected, rtol=1e-6)
