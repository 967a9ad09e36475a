"""The trainer's library keeps its hints to itself."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_run_prints_no_hint_on_devices_or_products(tmp_path):
    """In a process of its own: lightning sets its loggers up when it is first imported."""
    settings = {
        "run": str(tmp_path / "run"),
        "data": {"batch_size": 2, "n_lesions": 4, "edge": 20},
        "network": {"widen_factor": 0.0625, "projection": 4},
        "trainer": {"epochs": 1, "accelerator": "cpu"},
    }
    (tmp_path / "trial.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-m", "training", "pretrain", str(tmp_path / "trial.yml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    for hint in ("litlogger", "GPU available", "TPU available"):
        assert hint not in done.stderr + done.stdout
