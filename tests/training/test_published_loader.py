"""The published package, in an environment of its own, loads an export at full width as its own checkpoint.

The environment is the one that `python -m benchmarks.published_env` installs; $FMCIB_PUBLISHED_ENV names its folder.
"""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fmcib_module.adapters.runner import load_encoder
from training.export import ENCODER_PREFIX, export_run
from training.methods import make_method
from training.methods.base import ResNetMethod
from training.run_folder import RunFolder
from training.settings import MethodName, MethodSettings, NetworkSettings, TrainingSettings

PUBLISHED = Path(os.environ.get("FMCIB_PUBLISHED_ENV", "") or Path(__file__).parents[2] / ".venv-published")

ENCODE: str = """
import numpy as np
import torch
from fmcib.models import fmcib_model  # takes model_weights.torch from the working directory
model = fmcib_model()
with torch.no_grad():
    np.save("features.npy", model(torch.from_numpy(np.load("patch.npy"))).numpy())
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not (PUBLISHED / "installed.sha256").is_file(),
    reason="the published package is not installed: run `python -m benchmarks.published_env`",
)
def test_the_published_package_loads_an_export_and_gives_its_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FMCIB_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    settings = TrainingSettings(
        run=str(tmp_path / "run"),
        network=NetworkSettings(widen_factor=2.0),
        method=replace(MethodSettings(), name=MethodName.MODIFIED_SIMCLR),
    )
    method = make_method(settings.network, settings.method)
    assert isinstance(method, ResNetMethod)
    folder = RunFolder(Path(settings.run))
    folder.last.parent.mkdir(parents=True)
    state = {ENCODER_PREFIX + name: tensor for name, tensor in method.encoder_pass.encoder.state_dict().items()}
    about = {"settings": settings.to_dict(), "data": {"table_sha256": "", "licence": "CC0-1.0"}, "global_step": 0}
    torch.save({"state_dict": state, **about}, folder.last)
    ours, published = export_run(settings)
    published.rename(tmp_path / "model_weights.torch")
    patch = np.random.default_rng(0).random((1, 1, 50, 50, 50), dtype=np.float32)
    np.save(tmp_path / "patch.npy", patch)
    run = subprocess.run(
        [str(PUBLISHED / "bin/python"), "-W", "ignore", "-c", ENCODE],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    assert "Missing keys: [] and unexpected keys: []" in run.stderr
    features = np.load(tmp_path / "features.npy")
    assert features.shape == (1, 4096)
    expected = load_encoder(ours, device="cpu").encode(patch[:, 0])
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4 * float(np.abs(expected).max()))
