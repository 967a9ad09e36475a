"""Checkpoints of every known form give the encoder's tensors; code in them is never run."""

import pickle
from pathlib import Path

import pytest
import torch

from fmcib_module.adapters.checkpoint import encoder_tensors, load_checkpoint, load_weights
from fmcib_module.adapters.runner import load_encoder
from fmcib_module.adapters.tensor_file import read_metadata
from fmcib_module.adapters.weights import locate
from fmcib_module.core.errors import WeightsError
from tests.adapters.small_weights import sha256_of, small_tensors, write_checkpoint


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FMCIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    return write_checkpoint(tmp_path)


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return small_tensors()


def wrapped(form: str, tensors: dict[str, torch.Tensor]) -> object:
    trunk = {f"model.trunk.{name}": tensor for name, tensor in tensors.items()}
    return {
        "published": {"trunk_state_dict": tensors, "heads_state_dict": {"x": torch.zeros(1)}},
        "lighter": {"state_dict": trunk | {"model.heads.0.weight": torch.zeros(1)}, "epoch": 3},
        "plain": tensors,
        "parallel": {f"module.{name}": tensor for name, tensor in tensors.items()},
        "parallel lighter": {"state_dict": {f"module.{name}": tensor for name, tensor in trunk.items()}},
        "parallel trunk": {"trunk_state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}},
    }[form]


@pytest.mark.parametrize("form", ["published", "lighter", "plain", "parallel", "parallel lighter", "parallel trunk"])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_every_known_form_of_checkpoint_gives_the_same_tensors(tmp_path, tensors, form, legacy):
    path = tmp_path / "model.pt"
    torch.save(wrapped(form, tensors), path, _use_new_zipfile_serialization=not legacy)
    found = load_checkpoint(path)
    assert list(found) == list(tensors)
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_heads_are_ignored_with_a_note(tensors, caplog):
    with caplog.at_level("INFO"):
        encoder_tensors(wrapped("lighter", tensors), "model.pt")
    assert "model.heads.0.weight" in caplog.text
    assert "ignored" in caplog.text


@pytest.mark.parametrize("content", [{}, {"state_dict": {"epoch": 3}}, [1, 2], {"a": "b"}], ids=str)
def test_a_checkpoint_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "empty.pt")
    with pytest.raises(WeightsError, match=r"no state dict \[empty\.pt\]"):
        load_checkpoint(tmp_path / "empty.pt")


def test_tensors_become_float32_and_int64_whatever_they_were(tmp_path):
    mixed = {
        "half": torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16)),
        "double": torch.ones(2).double(),
        "count": torch.tensor(3, dtype=torch.uint8),
    }
    torch.save(mixed, tmp_path / "mixed.pt")
    _, found = load_weights(tmp_path / "mixed.pt")
    assert {name: tensor.dtype for name, tensor in found.items()} == {
        "half": torch.float32,
        "double": torch.float32,
        "count": torch.int64,
    }


def test_complex_weights_are_refused(tmp_path):
    torch.save({"conv1.weight": torch.ones(2, dtype=torch.complex64)}, tmp_path / "complex.pt")
    with pytest.raises(WeightsError, match=r"conv1\.weight is complex"):
        load_encoder(tmp_path / "complex.pt")


class Evil:
    """What a pickle can do: write a file while it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "writer", [torch.save, lambda o, p: Path(p).write_bytes(pickle.dumps(o, protocol=2))], ids=["torch", "pickle"]
)
def test_a_checkpoint_with_code_is_refused_and_not_run(tmp_path, writer):
    writer({"trunk_state_dict": Evil(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match=r"never loaded \[evil\.pt\]"):
        load_encoder(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["bad.torch", "bad.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\x80\x02", bytes(100)], ids=repr)
def test_files_that_are_no_weights_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name.replace(".", r"\.")):
        load_encoder(tmp_path / name)


@pytest.mark.parametrize("suffix", [".torch", ".safetensors"])
def test_truncated_weights_are_refused(tmp_path, checkpoint, suffix):
    whole = checkpoint if suffix == ".torch" else locate("mini")
    (tmp_path / f"cut{suffix}").write_bytes(whole.read_bytes()[:-1_000_000])
    with pytest.raises(WeightsError, match="cut"):
        load_encoder(tmp_path / f"cut{suffix}")


def test_a_checkpoint_is_converted_once(cache, checkpoint, tensors, monkeypatch):
    load_weights(checkpoint)
    converted = cache / "converted" / f"{sha256_of(checkpoint)}.safetensors"
    assert read_metadata(converted)["source_sha256"] == sha256_of(checkpoint)
    monkeypatch.setattr(torch, "load", None)  # a second load does not read the checkpoint
    _, again = load_weights(checkpoint)
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())


def test_a_damaged_conversion_is_made_again(cache, checkpoint):
    load_weights(checkpoint)
    converted = cache / "converted" / f"{sha256_of(checkpoint)}.safetensors"
    converted.write_bytes(b"damaged")
    assert load_encoder(checkpoint).n_features == 512
    assert read_metadata(converted)["source_sha256"] == sha256_of(checkpoint)


def test_a_cache_that_cannot_be_written_does_not_matter(checkpoint, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FMCIB_CACHE", str(tmp_path / "file"))
    assert load_encoder(checkpoint).n_features == 512
    assert load_encoder("mini").n_features == 512
