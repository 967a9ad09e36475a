"""The OpenVINO network is the torch network, built or kept."""

import subprocess
import sys

import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset15 as ops

from fmcib_module.adapters import engine_openvino
from fmcib_module.adapters.engine_openvino import OpenVinoForward, folded, kept_model_path
from fmcib_module.adapters.resnet import resnet50
from fmcib_module.adapters.runner import load_encoder
from fmcib_module.adapters.weights_arrays import load_arrays
from fmcib_module.core.resnet_layout import ConvLayer, tensor_shapes
from tests.adapters.small_weights import write_checkpoint

PATCHES = np.random.default_rng(0).random((3, 1, 50, 50, 50), dtype=np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FMCIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def keep_everything(monkeypatch):
    monkeypatch.setattr(engine_openvino, "KEPT_FROM_FEATURES", 1)


@pytest.mark.parametrize("width", [0.25, 2.0])
def test_the_table_of_tensors_is_the_torch_networks_state_dict(width):
    with torch.device("meta"):
        state = resnet50(width).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == tensor_shapes(width)
    assert list(state) == list(tensor_shapes(width))


def test_a_folded_convolution_is_convolution_and_batch_norm():
    generator = torch.Generator().manual_seed(0)
    conv, norm = torch.nn.Conv3d(3, 5, 3, padding=1), torch.nn.BatchNorm3d(5).eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        tensor.data = torch.rand(5, generator=generator) + 0.5
    tensors = {f"c.{name}": t.detach().numpy() for name, t in conv.state_dict().items()}
    tensors |= {f"n.{name}": t.detach().numpy() for name, t in norm.state_dict().items()}
    weight, bias = folded(tensors, ConvLayer("c", "n", (3, 5), 3, bias=True))
    x = torch.rand(2, 3, 6, 6, 6, generator=generator)
    together = torch.nn.functional.conv3d(x, torch.from_numpy(weight), torch.from_numpy(bias), padding=1)
    np.testing.assert_allclose(together.numpy(), norm(conv(x)).detach().numpy(), atol=2e-6)


@pytest.mark.parametrize(("size", "stride"), [(2, 1), (4, 2), (4, 1)], ids=["2 to 2", "4 to 2", "4 to 4"])
def test_patches_side_by_side_are_convolved_as_each_alone(size, stride):
    rng = np.random.default_rng(0)
    layer = ConvLayer("c", "n", (32, 48), 3, stride)
    tensors = {f"n.{name}": rng.random(48).astype(np.float32) + 0.5 for name in ("weight", "running_var")}
    tensors |= {f"n.{name}": rng.random(48).astype(np.float32) for name in ("bias", "running_mean")}
    tensors["c.weight"] = rng.normal(0, 0.1, (48, 32, 3, 3, 3)).astype(np.float32)
    given = ops.parameter([-1, 32, size, size, size], np.float32)
    out = engine_openvino._convolve_side_by_side(
        given, tensors, layer, size, engine_openvino.SIDE_BY_SIDE[size // stride]
    )
    network = ov.Core().compile_model(ov.Model([out], [given], "layer"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    patches = rng.normal(0, 1, (9, 32, size, size, size)).astype(np.float32)
    weight, bias = (torch.from_numpy(part) for part in folded(tensors, layer))
    expected = torch.nn.functional.conv3d(torch.from_numpy(patches), weight, bias, stride=stride, padding=1).numpy()
    together = network({0: patches})[0]
    np.testing.assert_allclose(together, expected, atol=2e-5)
    for count in (1, 3, 4, 5, 8):  # less than a row, a full one, and a row with the rest in another
        np.testing.assert_array_equal(network({0: patches[:count]})[0], together[:count])


def test_features_equal_torchs():
    on_openvino = load_encoder("mini", device="cpu", engine="openvino").encode(PATCHES[:, 0])
    on_torch = load_encoder("mini", device="cpu", engine="torch").encode(PATCHES[:, 0])
    np.testing.assert_allclose(on_openvino, on_torch, rtol=1e-4, atol=1e-3)
    assert np.linalg.norm(on_openvino - on_torch) < 5e-6 * np.linalg.norm(on_torch)


def test_a_kept_network_gives_the_same_bits_without_reading_the_tensors(keep_everything):
    info, tensors, shapes = load_arrays("mini")
    built = OpenVinoForward(info, tensors, shapes, precision="float32")(PATCHES)
    assert kept_model_path(info).is_file()
    mapped = OpenVinoForward(info, {}, shapes, precision="float32")(PATCHES)
    np.testing.assert_array_equal(mapped, built)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1000], lambda _: b"", lambda _: b"no graph"], ids=["cut", "empty", "no"]
)
@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_a_damaged_kept_network_is_built_again(keep_everything, suffix, damage):
    info, tensors, shapes = load_arrays("mini")
    built = OpenVinoForward(info, tensors, shapes, precision="float32")(PATCHES)
    path = kept_model_path(info).with_suffix(suffix)
    path.write_bytes(damage(path.read_bytes()))
    again = OpenVinoForward(info, tensors, shapes, precision="float32")(PATCHES)
    np.testing.assert_array_equal(again, built)


def test_other_weights_are_kept_under_another_name(keep_everything, cache, tmp_path):
    for weights in ("mini", write_checkpoint(tmp_path)):
        load_encoder(weights, device="cpu", engine="openvino")
    assert len(list((cache / "engines").glob("*.xml"))) == 2
    assert not list((cache / "engines").glob(".*"))


def test_a_cache_that_cannot_be_written_does_not_matter(keep_everything, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FMCIB_CACHE", str(tmp_path / "file"))
    assert load_encoder("mini", device="cpu", engine="openvino").encode(PATCHES[:, 0]).shape == (3, 512)


def test_small_networks_are_not_kept(cache):
    load_encoder("mini", device="cpu", engine="openvino")
    assert not (cache / "engines").exists()


def test_the_engine_starts_without_torch():
    code = (
        "import sys; from fmcib_module.adapters.runner import load_encoder; load_encoder(device='cpu');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
