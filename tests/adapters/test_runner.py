"""Features equal the published implementation's, whatever the file's form, the batch size and the order."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fmcib_module.adapters.engine import DeviceMemoryError, usable_cpus
from fmcib_module.adapters.engine_torch import CUDA_BATCH, CUDA_BYTES_PER_PATCH, TorchForward, cuda_batch_size
from fmcib_module.adapters.resnet import resnet50
from fmcib_module.adapters.runner import Encoder, load_encoder
from fmcib_module.adapters.weights import WeightsInfo
from fmcib_module.core.domain import Patch, Seed
from fmcib_module.core.errors import ConfigError
from tests.adapters.golden_weights import portable_tensor, state_shapes
from tests.shared import GOLDEN, needs_shared

ABSOLUTE = 2e-5  # tolerances of the reference data's README, float32
RELATIVE_L2 = 2e-6
FEATURE_CASES = ("a07_25__centre", "fe5__bz", "oblique_x__cornerbox")


@pytest.fixture(scope="module")
def portable() -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
    return {name: portable_tensor(t, name, shape) for t, (name, shape) in enumerate(state_shapes().items())}


@pytest.fixture(scope="module")
def encoders(portable, tmp_path_factory):
    """The portable weights through `load_encoder`, from both accepted forms of file."""
    folder = tmp_path_factory.mktemp("portable")
    published_form = {
        "trunk_state_dict": {name: torch.from_numpy(np.asarray(value)) for name, value in portable.items()},
        "heads_state_dict": {"fc.weight": torch.zeros(2, 4096)},
    }
    torch.save(published_form, folder / "portable.torch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FMCIB_CACHE", str(folder))
        from_torch = load_encoder(folder / "portable.torch", device="cpu", engine="torch")
        (converted,) = (folder / "converted").iterdir()
        return {
            "torch": from_torch,
            "openvino": load_encoder(converted, device="cpu", engine="openvino"),
            "bf16": load_encoder(converted, device="cpu", engine="openvino", precision="bf16"),
        }


@pytest.fixture(scope="module")
def feature_env():
    return json.loads((GOLDEN / "cases.json").read_text())["feature_env"]


def golden_patches(key: str) -> NDArray[np.float32]:
    return np.concatenate([np.load(GOLDEN / "patches" / f"{case}.npz")[key] for case in FEATURE_CASES])


def golden_features(weights: str, key: str) -> NDArray[np.float32]:
    return np.stack([np.load(GOLDEN / "features" / f"{case}__{weights}.npz")[key] for case in FEATURE_CASES])


def assert_features_equal(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= ABSOLUTE
    assert (np.linalg.norm(found - expected, axis=1) <= RELATIVE_L2 * np.linalg.norm(expected, axis=1)).all()


@pytest.mark.slow
@needs_shared
def test_the_portable_weights_are_those_of_the_reference(portable, feature_env):
    digest = hashlib.sha256()
    for value in portable.values():
        digest.update(value.tobytes())
    assert digest.hexdigest() == feature_env["sha256"]["portable"]
    for name, first in feature_env["portable_probe"].items():
        np.testing.assert_array_equal(portable[name].ravel()[:4], np.float32(first))


@needs_shared
@pytest.mark.parametrize("form", ["openvino", "torch"])
@pytest.mark.parametrize(("patch", "features"), [("patch", "features"), ("patch_monai16", "features_monai16")])
def test_features_equal_the_published_implementation(encoders, form, patch, features):
    found = encoders[form].encode(golden_patches(patch))
    assert_features_equal(found, golden_features("portable", features))


@pytest.mark.slow
@needs_shared
def test_features_of_the_seeded_weights_equal_the_published_implementation(feature_env):
    torch.manual_seed(0)
    network = resnet50(2)
    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    if digest.hexdigest() != feature_env["sha256"]["seed0"]:
        pytest.skip("this CPU or torch draws other last bits from seed 0 than the reference")
    features = fake_encoder(TorchForward(network, "cpu"), 4096).encode(golden_patches("patch"))
    assert_features_equal(features, golden_features("seed0", "features"))


@pytest.mark.parametrize(("engine", "precision"), [("openvino", "float32"), ("openvino", "bf16"), ("torch", "float32")])
def test_equal_bits_for_every_batch_size_and_order(engine, precision):
    encoder = load_encoder("mini", device="cpu", engine=engine, precision=precision)
    patches = np.random.default_rng(0).random((5, 50, 50, 50), dtype=np.float32)
    expected = encoder.encode(patches, batch_size=8)
    for batch_size in (1, 2, 3, 4):
        assert np.array_equal(encoder.encode(patches, batch_size=batch_size), expected), batch_size
    order = np.random.default_rng(1).permutation(5)
    assert np.array_equal(encoder.encode(patches[order]), expected[order])


@pytest.mark.slow
@needs_shared
def test_equal_bits_for_every_batch_size_at_full_width(encoders):
    patches = golden_patches("patch")
    for engine in ("torch", "openvino"):
        expected = encoders[engine].encode(patches)
        assert np.array_equal(encoders[engine].encode(patches[2:]), expected[2:])
        assert np.array_equal(encoders[engine].encode(patches[::-1], batch_size=2), expected[::-1])


@needs_shared
def test_bf16_is_within_its_limit_and_reports_its_cosine(encoders):
    found = encoders["bf16"].encode(golden_patches("patch")).astype(np.float64)
    expected = golden_features("portable", "features").astype(np.float64)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    assert (np.sum(found * expected, axis=1) / norms).min() > 0.9999
    assert (np.linalg.norm(found - expected, axis=1) <= 6e-3 * np.linalg.norm(expected, axis=1)).all()
    assert encoders["bf16"].describe()["cosine_to_float32"] > 0.9999
    assert encoders["bf16"].describe()["precision"] == "bf16"


def test_patches_and_arrays_give_the_same_features():
    encoder = load_encoder("mini")
    voxels = np.random.default_rng(0).random((2, 50, 50, 50), dtype=np.float32)
    patches = [Patch(cube.copy(), Seed((0.0, 0.0, 0.0), "GTV", "1.2.3"), "1.2.4") for cube in voxels]
    assert np.array_equal(encoder.encode(patches), encoder.encode(voxels))


def test_encoding_leaves_torchs_settings_for_convolutions_as_they_were():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    load_encoder("mini").encode(numbered_patches(1))
    after = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    assert after == before


def test_no_patches_give_no_features():
    assert load_encoder("mini").encode([]).shape == (0, 512)


def test_features_are_finite_and_differ_between_patches():
    encoder = load_encoder("mini")
    features = encoder.encode(np.random.default_rng(0).random((4, 50, 50, 50), dtype=np.float32) / 3)
    assert np.isfinite(features).all()
    assert (np.ptp(features, axis=0) > 0).mean() > 0.5  # some answer to tissue alone


class LimitedMemory:
    """A device that runs out of memory above `limit` patches; its features are the patches' first voxels."""

    def __init__(self, limit: int, *, min_rows: int | None = 2) -> None:
        self.limit, self.min_rows, self.batch_size = limit, min_rows, 8
        self.sizes: list[int] = []

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        self.sizes.append(len(patches))
        if len(patches) > self.limit:
            raise DeviceMemoryError
        return patches[:, 0, 0, 0, :1]


def fake_encoder(forward, n_features: int = 1) -> Encoder:
    return Encoder(forward, WeightsInfo("fake", Path("fake"), "0" * 64, n_features, "", "", ""), "cpu")


def numbered_patches(count: int) -> NDArray[np.float32]:
    patches = np.zeros((count, 50, 50, 50), dtype=np.float32)
    patches[:, 0, 0, 0] = np.arange(count)
    return patches


@pytest.mark.parametrize("min_rows", [2, None])
def test_out_of_memory_halves_the_batch_and_goes_on(min_rows, caplog):
    forward = LimitedMemory(limit=3, min_rows=min_rows)
    encoder = fake_encoder(forward)
    assert encoder.encode(numbered_patches(7)).ravel().tolist() == list(range(7))
    assert forward.sizes[:3] == [7 if min_rows else 8, 4, 2]
    assert "going on with 2" in caplog.text
    forward.sizes.clear()
    encoder.encode(numbered_patches(4), batch_size=4)
    assert forward.sizes == [2, 2]  # what was learnt holds for later calls


def test_no_memory_for_a_single_patch_is_an_error_that_says_so():
    with pytest.raises(ConfigError, match="single patch"):
        fake_encoder(LimitedMemory(limit=0)).encode(numbered_patches(3))


def test_small_batches_are_filled_up_and_progress_counts_real_patches():
    forward = LimitedMemory(limit=100, min_rows=None)
    done: list[int] = []
    features = fake_encoder(forward).encode(numbered_patches(11), progress=done.append)
    assert features.ravel().tolist() == list(range(11))
    assert forward.sizes == [8, 8]
    assert done == [8, 3]


def test_a_single_patch_runs_as_two_so_that_its_features_are_those_of_a_batch():
    forward = LimitedMemory(limit=100)
    assert fake_encoder(forward).encode(numbered_patches(1)).shape == (1, 1)
    assert forward.sizes == [2]


@pytest.mark.parametrize(
    ("choice", "listed"),
    [
        ({"engine": "warp"}, "auto, openvino, torch"),
        ({"precision": "int4"}, "float32, bf16"),
        ({"device": "tpu"}, "auto, cpu, cuda"),
    ],
)
def test_a_choice_that_there_is_not_lists_what_there_is(choice, listed):
    with pytest.raises(ConfigError, match=listed):
        load_encoder("mini", **choice)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(ConfigError, match="no CUDA"):
        load_encoder("mini", device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_the_cpu():
    patches = np.random.default_rng(0).random((3, 50, 50, 50), dtype=np.float32)
    found = load_encoder("mini", device="cuda").encode(patches)
    np.testing.assert_allclose(found, load_encoder("mini", device="cpu").encode(patches), atol=1e-4)


def test_wrong_arrays_are_our_own_bug():
    with pytest.raises(ValueError, match="float32"):
        load_encoder("mini").encode(np.zeros((1, 50, 50, 50)))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="batch_size is -1"):
        load_encoder("mini").encode([], batch_size=-1)


@pytest.mark.parametrize(
    ("free_patches", "expected"), [(0, 1), (1.9, 1), (5, 4), (63, 32), (64, 64), (10_000, CUDA_BATCH)]
)
def test_the_cuda_batch_is_a_power_of_two_that_fits_half_of_the_free_memory(free_patches, expected):
    assert cuda_batch_size(int(2 * free_patches * CUDA_BYTES_PER_PATCH)) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 16),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
        ({}, 16),
    ],
)
def test_threads_follow_the_cgroup_and_not_the_host(tmp_path, monkeypatch, files, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cpus(tmp_path) == expected
