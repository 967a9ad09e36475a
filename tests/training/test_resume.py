"""A run that is killed in the middle of an epoch ends, when it is started again, with the same weights bit for bit."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from fmcib_module.core.errors import OutputError
from training.checkpoints import read_checkpoint
from training.pretrain import run
from training.settings import read_training_settings

ROOT = Path(__file__).parents[2]

SETTINGS: dict[str, dict[str, object]] = {
    "data": {"batch_size": 4, "n_labelled": 8, "edge": 20},
    "network": {"widen_factor": 0.0625, "projection": 16},
    "method": {"memory_bank": 32},
    "optimiser": {"learning_rate": 0.3, "reference_batch": 0, "warmup_epochs": 1},
    "trainer": {
        "epochs": 3, "accelerator": "cpu", "threads": 1, "log_steps": 1, "checkpoint_steps": 1, "knn_epochs": 1,
    },
}  # fmt: skip


def _write(
    folder: Path, name: str, method: str, *, n_lesions: int = 24, accumulate: int = 1, **trainer: object
) -> Path:
    values = {
        **SETTINGS,
        "run": str(folder / name),
        "data": {**SETTINGS["data"], "n_lesions": n_lesions},
        "method": {"name": method, "memory_bank": 32, "n_prototypes": 12, "queue_length": 8, "queue_from_epoch": 0},
        "trainer": {**SETTINGS["trainer"], "accumulate": accumulate, **trainer},
    }
    path = folder / f"{name}.yml"
    path.write_text(yaml.safe_dump(values))
    return path


def _kill_in_the_middle_of_the_second_epoch(settings: Path, last: Path, metrics: Path) -> None:
    """Start the run in a process of its own and SIGKILL it once a step of the second epoch is on the log."""
    process = subprocess.Popen(
        [sys.executable, "-m", "training", "pretrain", str(settings)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        rows = metrics.read_text().splitlines() if metrics.exists() else []
        if len(rows) > 1 and [row for row in rows[1:] if row.split(",")[1] == "1"][1:] and last.exists():
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"


@pytest.mark.parametrize(
    ("method", "accumulate"),
    [
        ("modified-simclr", 2),
        pytest.param("nnclr", 1, marks=pytest.mark.slow),
        pytest.param("swav", 1, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_to_the_same_weights_bit_for_bit(method: str, accumulate: int, tmp_path: Path) -> None:
    straight = _write(tmp_path, "straight", method, n_lesions=48, accumulate=accumulate)
    killed = _write(tmp_path, "killed", method, n_lesions=48, accumulate=accumulate)
    run(read_training_settings(straight))
    last, metrics = (tmp_path / "killed" / name for name in ("checkpoints/last.ckpt", "metrics.csv"))
    _kill_in_the_middle_of_the_second_epoch(killed, last, metrics)
    steps_per_epoch = 12 // accumulate
    at_kill = read_checkpoint(last)["global_step"]
    assert steps_per_epoch < at_kill < 2 * steps_per_epoch, "in the middle of the second epoch"

    run(read_training_settings(killed))
    ours, expected = (read_checkpoint(tmp_path / name / "checkpoints/last.ckpt") for name in ("killed", "straight"))
    assert ours["global_step"] == expected["global_step"] == 3 * steps_per_epoch
    assert ours["state_dict"].keys() == expected["state_dict"].keys()
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], tensor), name
    for ours_state, state in zip(
        ours["optimizer_states"][0]["state"].values(), expected["optimizer_states"][0]["state"].values(), strict=True
    ):
        assert torch.equal(ours_state["momentum_buffer"], state["momentum_buffer"])
    losses = [_losses(tmp_path / name / "metrics.csv") for name in ("killed", "straight")]
    assert losses[0] == losses[1]


def _losses(path: Path) -> dict[tuple[str, str], str]:
    with path.open(newline="") as file:
        return {(row["epoch"], row["step"]): row["loss"] for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    "stop", [6, pytest.param(9, marks=pytest.mark.slow)]
)  # at the end of the first epoch; in the middle of the second
def test_a_run_that_stopped_goes_on_as_if_it_had_not(stop: int, tmp_path: Path) -> None:
    straight, stopped = (tmp_path / name for name in ("straight", "stopped"))
    run(read_training_settings(_write(tmp_path, "straight", "simclr", epochs=2)))
    run(read_training_settings(_write(tmp_path, "stopped", "simclr", epochs=2, max_steps=stop)))
    assert read_checkpoint(stopped / "checkpoints/last.ckpt")["global_step"] == stop
    run(read_training_settings(_write(tmp_path, "stopped", "simclr", epochs=2)))
    ours, expected = (read_checkpoint(folder / "checkpoints/last.ckpt") for folder in (stopped, straight))
    assert ours["global_step"] == expected["global_step"] == 12
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], tensor), name


def test_a_folder_is_not_continued_with_another_recipe(tmp_path: Path) -> None:
    run(read_training_settings(_write(tmp_path, "run", "simclr", epochs=1)))
    with pytest.raises(OutputError, match="another recipe"):
        run(read_training_settings(_write(tmp_path, "run", "modified-simclr", epochs=1)))


def test_a_run_records_what_made_it(tmp_path: Path) -> None:
    path = _write(tmp_path, "run", "simclr", epochs=1, keep_epochs=1)
    run(read_training_settings(path))
    record = yaml.safe_load((tmp_path / "run/run.json").read_text())
    assert record.keys() >= {"recipe_digest", "table_sha256", "git_revision", "versions"}
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert read_training_settings(tmp_path / "run/settings.yml") == read_training_settings(path)
    assert list((tmp_path / "run/tensorboard").glob("events.*"))
    assert [p.name for p in sorted((tmp_path / "run/checkpoints").iterdir())] == ["epoch-0001.ckpt", "last.ckpt"]


@pytest.mark.slow
def test_two_processes_train_and_go_on_from_the_command_line(tmp_path: Path) -> None:
    for max_steps in (4, 0):  # six batches are three per rank: in the middle of the second epoch, then to the end
        settings = _write(tmp_path, "ranks", "swav", devices=2, epochs=2, max_steps=max_steps)
        subprocess.run([sys.executable, "-m", "training", "pretrain", str(settings)], cwd=ROOT, check=True)
    assert read_checkpoint(tmp_path / "ranks/checkpoints/last.ckpt")["global_step"] == 6
