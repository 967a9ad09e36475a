"""Saliency lies where a network looks, is guided whatever its ReLUs are called, and is written with its slices."""

from contextlib import chdir

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from monai.visualize import GuidedBackpropSmoothGrad
from PIL import Image
from torch import nn
from torch.nn import functional

from fmcib_module.adapters.extractor_networks import new_network
from fmcib_module.core.extractors import CARDS
from tests.training import scans
from training.__main__ import main
from training.adaptation.finetuned import FineTuned, make_head, read_finetuned, write_finetuned
from training.adaptation.lesions import LesionSettings
from training.study.saliency import SaliencySettings, guided_saliency

EDGE = 12
SETTINGS = SaliencySettings("out", LesionSettings(table="-"), "-", samples=3)


class Weighted(nn.Module):
    """The sum of its input under weights, behind a ReLU of every voxel."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        """(1, 1, S, S, S) -> (1, 2)"""
        total = (functional.relu(x) * self.weight).sum(dim=(1, 2, 3, 4))
        return torch.stack([total, -total], dim=1)


def cube(seed=0):
    return torch.rand(1, 1, EDGE, EDGE, EDGE, generator=torch.Generator().manual_seed(seed)) + 1


def test_only_the_region_that_has_a_weight_is_salient():
    weight = torch.zeros(EDGE, EDGE, EDGE)
    weight[2:5, 6:9, 1:4] = 2.0
    values = guided_saliency(Weighted(weight), cube(), 0, SETTINGS)
    inside = weight.numpy() > 0
    # every sample's gradient is the weight, the root of the sum of their squares is sqrt(3) of it, divided by 3
    np.testing.assert_allclose(values[inside], 2.0 / np.sqrt(3), rtol=1e-5)
    assert not values[~inside].any()


def test_negative_gradients_are_stopped_at_a_relu_that_is_a_function():
    model = Weighted(torch.full((EDGE, EDGE, EDGE), 1.0))
    x = cube().requires_grad_()
    model(x)[0, 1].backward()
    assert x.grad is not None
    assert x.grad.min() < 0  # the plain gradient of the other output is there
    assert not guided_saliency(model, cube(), 1, SETTINGS).any()


def small(name):
    """Two convolutions; their ReLUs are modules under this name."""
    torch.manual_seed(3)
    network = nn.Module()
    network.first, network.last = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 2, 3, padding=1)
    setattr(network, name, nn.ReLU(inplace=True))

    def forward(x):
        rectified = getattr(network, name)
        return rectified(network.last(rectified(network.first(x)))).mean(dim=(2, 3, 4))

    network.forward = forward
    return network


def test_maps_are_those_of_monai_on_a_network_whose_relus_have_the_name_it_looks_for():
    maps = {}
    for name in ("relu", "act"):
        explain = GuidedBackpropSmoothGrad(small(name), stdev_spread=0.15, n_samples=3, verbose=False)
        torch.manual_seed(SETTINGS.seed)
        maps[name] = explain(cube(), index=1)[0, 0].numpy()
    ours = guided_saliency(small("act"), cube(), 1, SETTINGS)
    np.testing.assert_allclose(ours, maps["relu"], rtol=1e-5, atol=1e-9)
    assert np.abs(ours - maps["act"]).max() > 0.01 * ours.max()


@pytest.fixture
def study(tmp_path):
    scans.make_inputs(tmp_path, n_scans=2)
    table = pd.read_csv(tmp_path / "lesions.csv").assign(lesion=["A/1", "B", "C", "D"], split="test")
    table.to_csv(tmp_path / "lesions.csv", index=False)
    torch.manual_seed(0)
    write_finetuned(tmp_path / "best.torch", FineTuned(new_network("mini", width=0.25), make_head((128, 4, 3))))
    (tmp_path / "best.json").write_text('{"classes": ["x", "y", "z"]}')
    base = {"data": {"table": "lesions.csv"}, "finetuned": "best.torch", "extractor": "mini", "device": "cpu"}
    (tmp_path / "s.yml").write_text(yaml.safe_dump({**base, "output": "out", "samples": 1, "lesions": ["C", "A/1"]}))
    return tmp_path


@pytest.mark.slow
def test_the_verb_keeps_maps_pictures_and_what_they_are_of(study):
    with chdir(study):
        assert main(["saliency", "s.yml"]) == 0
    rows = pd.read_csv(study / "out/saliency.csv")
    assert rows["lesion"].tolist() == ["C", "A/1"]
    edge = next(card.form.edge for card in CARDS if card.name == "mini")
    for lesion, number, name in zip(("C", "A-1"), rows["output"], rows["class"], strict=True):
        values = np.load(study / f"out/saliency.{lesion}.npy")
        assert values.shape == (edge,) * 3
        assert values.min() >= 0
        assert values.max() > 0
        assert name == "xyz"[number]
        with Image.open(study / f"out/saliency.{lesion}.png") as picture:
            assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    assert rows["probability"].between(1 / 3, 1).all()
    assert rows["near_share"].between(0, 1).all()
    assert read_finetuned(study / "best.torch", "mini").heads[1][0].out_features == 3


def test_an_output_or_a_lesion_that_is_not_there_is_refused(study, caplog):
    plain = yaml.safe_load((study / "s.yml").read_text())
    wrong = {"3 output(s)": {"output_number": 3}, "no such lesion: Z": {"lesions": ["Z"]}}
    with chdir(study):
        for message, change in wrong.items():
            (study / "wrong.yml").write_text(yaml.safe_dump(plain | change))
            assert main(["saliency", "wrong.yml"]) == 2
            assert message in caplog.text
