"""Extractors load published checkpoints strictly, see the same seed, and compute what independent code computes."""

import importlib.util

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import fmcib_module as fm
from fmcib_module.adapters import extractors, radiomics
from fmcib_module.adapters.checkpoint import load_checkpoint, load_weights
from fmcib_module.adapters.extractor_networks import network_from_tensors, new_network
from fmcib_module.adapters.extractors import choose_extractor, load_extractor
from fmcib_module.adapters.runner import load_encoder
from fmcib_module.adapters.weights import fetch, list_weights
from fmcib_module.core.domain import Seed
from fmcib_module.core.errors import ConfigError, WeightsError
from fmcib_module.core.extractors import CARDS, Region, cut_cube
from fmcib_module.core.patch import Mode, extract_patch, scale_hu
from fmcib_module.core.volume import Volume
from tests.adapters import published_forms


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FMCIB_CACHE", str(tmp_path / "cache"))


of_monai = pytest.mark.slow
"""Compares with MONAI, which takes seconds to import."""


def card(name):
    return next(card for card in CARDS if card.name == name)


# Published checkpoint forms


@pytest.mark.parametrize(
    ("name", "writer", "file_name", "size", "n_features"),
    [
        pytest.param("med3d", published_forms.write_med3d, "resnet_50.pth", 1 / 32, 64, marks=of_monai),
        ("models-genesis", published_forms.write_genesis, "Genesis_Chest_CT.pt", 2, 256),
        pytest.param("ct-fm", published_forms.write_ct_fm, "model.safetensors", 2, 32, marks=of_monai),
        pytest.param("ct-fm", published_forms.write_ct_fm, "ct_fm.pt", 2, 32, marks=of_monai),
    ],
)
def test_a_checkpoint_in_the_published_form_loads_and_gives_features(
    tmp_path, name, writer, file_name, size, n_features
):
    path = writer(tmp_path / file_name, size)
    extractor = load_extractor(f"{name}={path}", device="cpu")
    edge = extractor.card.form.edge
    rng = np.random.default_rng(0)
    regions = [Region(rng.random((edge,) * 3, dtype=np.float32)) for _ in range(3)]
    features = extractor.encode(regions)
    assert features.shape == (3, n_features)
    assert np.isfinite(features).all()
    assert extractor.card.n_features == n_features
    assert "not in the registry" in extractor.card.note
    np.testing.assert_array_equal(extractor.encode(regions[1:2])[0], features[1])


@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        pytest.param("med3d", lambda: published_forms.med3d_tensors(1 / 32), marks=of_monai),
        ("models-genesis", lambda: published_forms.random_tensors(published_forms.genesis_shapes(2))),
        pytest.param("ct-fm", lambda: published_forms.ct_fm_tensors(2), marks=of_monai),
    ],
)
def test_a_missing_an_unexpected_or_a_misshapen_tensor_is_refused(name, tensors):
    whole = tensors()
    network_from_tensors(name, whole, "here")
    norm = next(key for key in whole if key.endswith("running_mean"))
    for broken, message in (
        ({key: value for key, value in whole.items() if key != norm}, rf"1 missing \({norm}\)"),
        ({**whole, "extra.weight": torch.zeros(1)}, r"1 unexpected \(extra\.weight\)"),
        ({**whole, norm: torch.zeros(3, 3)}, rf"of another shape \({norm}"),
    ):
        with pytest.raises(WeightsError, match=message):
            network_from_tensors(name, broken, "here")


@of_monai
def test_med3d_refuses_the_papers_own_network_and_the_other_way_round():
    theirs, ours = published_forms.med3d_tensors(1 / 32), dict(new_network("fmcib", width=1 / 64).state_dict())
    with pytest.raises(WeightsError, match=r"4 unexpected .*downsample\.0\.bias"):
        network_from_tensors("med3d", ours, "here")
    with pytest.raises(WeightsError, match=r"4 missing .*downsample\.0\.bias"):
        network_from_tensors("fmcib", theirs, "here")


def test_a_checkpoint_that_holds_python_objects_is_never_loaded(tmp_path):
    path = tmp_path / "Genesis_Chest_CT.pt"
    torch.save({"state_dict": {}, "model": nn.Linear(1, 1)}, path)
    with pytest.raises(WeightsError, match="Python objects, which are never loaded"):
        load_checkpoint(path)


@of_monai
def test_the_whole_segresnet_gives_its_encoder(tmp_path):
    tensors = published_forms.ct_fm_tensors(2)
    whole = {f"encoder.{name}": tensor for name, tensor in tensors.items()} | {"up_layers.0.weight": torch.ones(1)}
    save_file(whole, tmp_path / "segresnet.safetensors")
    _, loaded = load_weights(tmp_path / "segresnet.safetensors")
    network = network_from_tensors("ct-fm", loaded, "here")
    assert torch.equal(network.state_dict()["conv_init.weight"], tensors["conv_init.weight"])


# What they see


def ramp(shape=(90, 90, 90)) -> Volume:
    """1 mm voxels; HU = x + 100 z - 5000, so that every voxel tells where it is."""
    k, _, i = np.indices(shape)
    return Volume.from_array((i + 100.0 * k - 5000).astype(np.float32), np.eye(4), "1.2.3")


SEED = Seed((45.0, 45.0, 45.0), "GTV", "1.2")


def test_a_cube_of_another_size_is_cut_around_the_same_voxel():
    form = card("models-genesis").form
    region = cut_cube(ramp(), SEED, Mode.CENTRED, form)
    assert region.voxels.shape == (48, 48, 48)
    hu = np.indices((48, 48, 48))
    x, z = hu[0] + 45 - 24, hu[2] + 45 - 24  # axes (x, y, z)
    expected = np.clip((x + 100.0 * z - 5000 + 1000) / 2000, 0, 1)
    np.testing.assert_allclose(region.voxels, expected, atol=2e-6)


def test_the_chains_own_networks_see_the_same_bits_as_the_chain():
    patch = extract_patch(ramp(), SEED, Mode.PUBLISHED)
    np.testing.assert_array_equal(cut_cube(ramp(), SEED, Mode.PUBLISHED, card("mini").form).voxels, patch.voxels)
    hu = np.linspace(-1100, 3000, 8, dtype=np.float32).reshape(2, 2, 2)
    np.testing.assert_array_equal(card("fmcib").form.from_hu(hu), scale_hu(hu))


@pytest.mark.parametrize("name", ["med3d", "models-genesis", "ct-fm"])
def test_outside_the_scan_is_air_and_scales_to_zero(name):
    form = card(name).form
    corner = Seed((2.0, 2.0, 45.0), "GTV", "1.2")
    region = cut_cube(ramp(), corner, Mode.CENTRED, form)
    assert region.voxels[..., 0, 0].max() == 0 if form.axes == "zyx" else region.voxels[0, 0].max() == 0
    assert form.from_hu(np.array([[[-5000, 0, 5000]]], dtype=np.float32)).min() == 0
    assert form.from_hu(np.array([[[-5000, 0, 5000]]], dtype=np.float32)).max() == 1


def test_mini_side_by_side_is_mini():
    patch = extract_patch(ramp(), SEED, Mode.PUBLISHED)
    extractor = load_extractor("mini", device="cpu")
    np.testing.assert_array_equal(
        extractor.encode([Region(patch.voxels)]), load_encoder("mini", device="cpu").encode([patch])
    )
    assert extractor.encode([]).shape == (0, 512)


# Choosing


def test_the_python_face_computes_a_lesion_with_any_extractor(tmp_path):
    weights = published_forms.write_genesis(tmp_path / "genesis.pt", 2)
    extractor = fm.load_extractor(f"models-genesis={weights}", device="cpu")
    cube = fm.cut_cube(ramp(), SEED, fm.Mode.PUBLISHED, extractor.card.form)
    assert isinstance(cube, fm.Region)
    assert extractor.encode([cube]).shape == (1, extractor.card.n_features)


def test_an_unknown_extractor_lists_the_names():
    with pytest.raises(ConfigError, match=r"'resnet'.*fmcib, mini, med3d, models-genesis, ct-fm, radiomics"):
        choose_extractor("resnet")


def test_weights_without_a_known_checksum_are_never_taken_on_trust():
    with pytest.raises(WeightsError, match="fetch med3d"):
        choose_extractor("med3d")
    for name in ("ct-fm", "models-genesis"):
        with pytest.raises(ConfigError, match=rf"no SHA-256.*{name}=FILE.*--sha256"):
            fetch(name)


def test_a_file_put_in_the_cache_without_a_known_checksum_is_refused(tmp_path):
    path = tmp_path / "cache/models-genesis/Genesis_Chest_CT.pt"
    path.parent.mkdir(parents=True)
    published_forms.write_genesis(path, 2)
    with pytest.raises(WeightsError, match=r"cannot be verified.*models-genesis=FILE"):
        choose_extractor("models-genesis")


def test_radiomics_that_is_not_installed_names_the_extra(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(radiomics, "find_spec", lambda name: None if name == "radiomics" else real(name))
    with pytest.raises(ConfigError, match=r"fmcib-module\[radiomics\]"):
        choose_extractor("radiomics")


def test_a_network_without_torch_is_refused_before_anything_is_run(tmp_path, monkeypatch):
    path = published_forms.write_genesis(tmp_path / "genesis.pt", 2)
    monkeypatch.setattr(extractors, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"torch is not installed \[extractor models-genesis\]"):
        choose_extractor(f"models-genesis={path}")
    assert choose_extractor("mini").weights == "mini"


def test_cards_and_registry_agree():
    for listed in list_weights():
        assert (listed.n_features, listed.licence) == (card(listed.name).n_features, card(listed.name).licence)
