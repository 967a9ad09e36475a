"""An installation without torch (the image for a CPU) runs on OpenVINO, and says what it cannot do."""

import sys

import numpy as np
import pytest

from fmcib_module.adapters.runner import has_cuda_device, load_encoder
from fmcib_module.adapters.weights import fetch
from fmcib_module.core.errors import ConfigError, WeightsError
from tests.adapters.small_weights import write_checkpoint


@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as Python notes a module that cannot be imported


def test_the_packaged_weights_run(without_torch):
    patches = np.zeros((2, 50, 50, 50), np.float32)
    assert not has_cuda_device()
    assert load_encoder("mini").encode(patches).shape == (2, 512)


@pytest.mark.parametrize("engine", ["torch", "compile"])
def test_its_engines_are_refused(engine, without_torch):
    with pytest.raises(ConfigError, match=r"torch is not installed \[engine\]"):
        load_encoder("mini", engine=engine)


def test_a_checkpoint_is_refused(tmp_path, monkeypatch):
    checkpoint = write_checkpoint(tmp_path)
    monkeypatch.setenv("FMCIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(WeightsError, match=r"torch is not installed, .* \[mine.torch\]"):
        load_encoder(checkpoint)


def test_nothing_is_fetched_that_cannot_be_read(without_torch, monkeypatch):
    monkeypatch.setattr("fmcib_module.adapters.download.download", None)  # not even asked for
    with pytest.raises(ConfigError, match=r"torch is not installed, .* \[weights fetch\]"):
        fetch("fmcib")
