"""Weights are found by name or path, and verified before they are used."""

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from fmcib_module.adapters import weights as weights_module
from fmcib_module.adapters.checkpoint import load_weights
from fmcib_module.adapters.runner import load_encoder
from fmcib_module.adapters.tensor_file import read_header, read_metadata
from fmcib_module.adapters.weights import cache_dir, fetch, list_weights, locate, verify
from fmcib_module.core.errors import ConfigError, WeightsError
from tests.adapters.file_server import Faults, serving
from tests.adapters.small_weights import sha256_of, small_tensors, write_checkpoint


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FMCIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    return write_checkpoint(tmp_path)


def entry(name: str) -> weights_module.WeightsEntry:
    return next(entry for entry in list_weights() if entry.name == name)


# The registry


def test_every_entry_is_complete():
    names = [entry.name for entry in list_weights()]
    assert names == sorted(set(names))
    assert {"fmcib", "mini"} <= set(names)
    for listed in list_weights():
        assert len(listed.sha256) == 64 or (listed.sha256 == "" and "no SHA-256" in listed.note), listed.name
        assert listed.licence, listed.name
        assert listed.size > 0, listed.name


def test_the_published_weights_are_described_and_not_packaged():
    published = entry("fmcib")
    assert published.url == "https://zenodo.org/records/10528450/files/model_weights.torch?download=1"
    assert (published.n_features, published.licence, published.note) == (4096, "CC-BY-NC-4.0", "")
    assert "10.1038/s42256-024-00807-9" in published.citation
    packaged = locate("mini").parent
    assert [path.name for path in packaged.iterdir() if path.suffix in {".torch", ".pt", ".pth"}] == []


def test_packaged_weights_are_what_the_registry_says():
    info = verify("mini")
    listed = entry("mini")
    assert info.sha256 == sha256_of(info.path) == listed.sha256
    assert info.path.stat().st_size == listed.size < 25_000_000
    assert info.n_features == read_header(info.path)["conv1.weight"]["shape"][0] * 32 == 512
    assert info.note == read_metadata(info.path)["note"]
    assert info.note == listed.note
    assert "not the published model, not for conclusions" in info.note
    for card in (info.path.parent / "README.md", Path(__file__).parents[2] / "docs/model-card-mini.md"):
        assert listed.sha256 in card.read_text(encoding="utf-8"), card.name
        assert info.note.lower() in " ".join(card.read_text(encoding="utf-8").lower().split()), card.name


def test_listing_and_verifying_need_no_torch_and_no_home():
    code = (
        "import sys; from fmcib_module.adapters import weights as w; w.list_weights(); w.verify('mini');"
        "sys.exit('torch' in sys.modules)"
    )
    env = {"HOME": "/nonexistent", "PATH": ""}
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], check=False, env=env, cwd=root).returncode == 0


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"FMCIB_CACHE": "/models/a", "XDG_CACHE_HOME": "/models/b", "HOME": "/models/c"}, "/models/a"),
        ({"XDG_CACHE_HOME": "/models/b", "HOME": "/models/c"}, "/models/b/fmcib"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/models/c"}, "/models/c/.cache/fmcib"),
        ({"HOME": "/models/c"}, "/models/c/.cache/fmcib"),
    ],
)
def test_the_cache_folder_follows_the_environment(monkeypatch, environment, expected):
    for name in ("FMCIB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_dir() == Path(expected)


# Names and paths


def test_absent_weights_say_how_to_get_them():
    with pytest.raises(WeightsError, match=r"fmcib weights fetch fmcib.*model_weights\.torch.*FMCIB_CACHE"):
        locate("fmcib")


def test_an_unknown_name_lists_the_names():
    with pytest.raises(WeightsError, match=r"'fmcibb'.*ct-fm, fmcib, med3d, mini"):
        load_encoder("fmcibb")


def test_a_path_that_is_not_there_names_only_the_file(tmp_path):
    with pytest.raises(WeightsError, match=r"does not exist \[absent\.pth\]") as caught:
        locate(tmp_path / "absent.pth")
    assert str(tmp_path) not in str(caught.value)


def test_a_file_of_ones_own_says_in_its_header_what_it_is(tmp_path):
    save_file(
        small_tensors(), tmp_path / "mine.safetensors", {"note": "trained on X", "licence": "MIT", "citation": "Y"}
    )
    info = verify(tmp_path / "mine.safetensors")
    assert (info.name, info.n_features, info.sha256) == ("mine", 512, sha256_of(tmp_path / "mine.safetensors"))
    assert (info.note, info.licence, info.citation) == ("trained on X", "MIT", "Y")


def test_a_copy_of_registry_weights_is_recognised(tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(locate("mini").read_bytes())
    assert verify(copy).note == entry("mini").note


def test_a_checkpoint_of_ones_own_gets_its_feature_count_when_loaded(checkpoint):
    info, _ = load_weights(checkpoint)
    assert (info.name, info.n_features) == ("mine", 512)
    assert "not in the registry" in info.note


def test_damaged_registry_weights_are_refused(cache):
    (cache / "fmcib").mkdir(parents=True)
    (cache / "fmcib" / "model_weights.torch").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"expected 8cc92ec4.*fetch fmcib"):
        load_encoder("fmcib")


# Fetching


@pytest.fixture
def small_registry(monkeypatch, checkpoint):
    """`fmcib` as a small file, so that it can be served."""
    small = weights_module.WeightsEntry(
        name="fmcib",
        file_name="model_weights.torch",
        sha256=sha256_of(checkpoint),
        size=checkpoint.stat().st_size,
        licence="CC-BY-NC-4.0",
        citation="",
        n_features=512,
        url="http://127.0.0.1:9/unreachable",
    )
    monkeypatch.setattr(weights_module, "REGISTRY", (small, entry("mini")))


@pytest.mark.usefixtures("small_registry")
def test_fetched_weights_are_verified_converted_and_used(cache, checkpoint):
    with serving(Faults(checkpoint.read_bytes(), cuts=[1_000_000])) as server:
        info = fetch("fmcib", url=server.url)
        assert fetch("fmcib", url=server.url) == info  # is here: not asked for again
        assert server.ranges == ["", "bytes=1000000-"]
    assert info.path == cache / "fmcib" / "model_weights.torch"
    assert (cache / "converted" / f"{info.sha256}.safetensors").is_file()
    assert verify("fmcib") == info
    encoder = load_encoder("fmcib")
    assert (encoder.weights.name, encoder.weights.note, encoder.n_features) == ("fmcib", "", 512)


@pytest.mark.usefixtures("small_registry")
def test_fetched_weights_that_are_not_the_expected_file_are_not_kept(cache):
    with serving(Faults(b"something else")) as server, pytest.raises(WeightsError, match="it was deleted"):
        fetch("fmcib", url=server.url)
    with pytest.raises(WeightsError, match="not on this machine"):
        locate("fmcib")


def test_another_checksum_on_purpose_is_recorded_and_said(cache, checkpoint):
    with serving(Faults(checkpoint.read_bytes())) as server:
        info = fetch("fmcib", url=server.url, sha256=sha256_of(checkpoint).upper())
    assert "not the registry's file" in info.note
    assert verify("fmcib") == info
    with info.path.open("ab") as file:
        file.write(b"changed")
    with pytest.raises(WeightsError, match="expected"):
        verify("fmcib")


def test_packaged_weights_need_no_fetch():
    assert fetch("mini") == verify("mini")


@pytest.mark.parametrize(("name", "digest"), [("nothing", None), ("fmcib", "123"), ("fmcib", "g" * 64)])
def test_wrong_use_of_fetch_is_a_configuration_error(name, digest):
    with pytest.raises(ConfigError):
        fetch(name, sha256=digest)
