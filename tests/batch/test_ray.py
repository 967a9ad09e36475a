"""On Ray: a cluster of two nodes, a killed worker and a killed driver."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.batch import kills, two_nodes
from fmcib_module.adapters.engine import THREADS_VARIABLE, usable_cpus
from fmcib_module.batch.engine import Cluster, divide
from fmcib_module.core.errors import ConfigError
from fmcib_module.core.ledger import ExitCode
from fmcib_module.pipeline import run
from tests.batch.cohorts import TABLES, write_cohort


@pytest.mark.parametrize(
    ("node_cores", "share", "n_tasks", "expected"),
    [
        ([2], 2, 100, (1, 2)),
        ([16, 16], 4, 100, (8, 4)),
        ([16, 3], 4, 100, (4, 4)),
        ([16], 4, 2, (2, 4)),
        ([2, 1], 8, 100, (1, 2)),
    ],
)
def test_workers_fit_on_machines(node_cores: list[int], share: int, n_tasks: int, expected: tuple[int, int]) -> None:
    assert divide(node_cores, share, n_tasks) == expected


def test_a_worker_without_cores_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 cores per worker"):
        Cluster(cpus_per_worker=0)


def test_workers_of_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cores = usable_cpus(tmp_path)
    for given, expected in (("1", 1), (str(cores + 1), cores), ("0", cores), ("many", cores)):
        monkeypatch.setenv(THREADS_VARIABLE, given)
        assert usable_cpus(tmp_path) == expected


@pytest.mark.slow
def test_every_lesion_is_there_once_although_a_worker_and_the_driver_are_killed(tmp_path: Path) -> None:
    figures = kills(tmp_path, 12, print)
    assert figures["lesions"] == 12 * 4  # two in each RTSTRUCT, two in each SEG
    assert figures["done_at_worker_kill"] < figures["done_at_driver_kill"] < 12


@pytest.mark.slow
def test_a_job_without_an_address_starts_a_cluster_of_its_own_whatever_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")  # nobody answers there
    write_cohort(tmp_path / "input", 1)
    command = [sys.executable, "-m", "fmcib_module.cli", "batch", str(tmp_path / "input/manifest.csv")]
    command += [str(tmp_path / "output"), "--scratch", str(tmp_path / "scratch"), "--set", "report=false"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == ExitCode.OK, ended.stderr[-3000:]


@pytest.mark.slow
def test_with_gpus_the_workers_send_their_patches_to_a_process_for_each(tmp_path: Path) -> None:
    write_cohort(tmp_path / "input", 3)
    output = tmp_path / "output"
    command = [sys.executable, "-m", "fmcib_module.cli", "batch", str(tmp_path / "input/manifest.csv"), str(output)]
    command += [word for name in ("sr", "seg", "pictures", "report") for word in ("--set", f"{name}=false")]
    with two_nodes(n_gpus=1) as address:  # Ray believes it; the network itself looks for a device, and finds the CPU
        command += ["--ray-address", address, "--cpus-per-worker", "2", "--scratch", str(tmp_path / "scratch")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == ExitCode.OK, ended.stderr[-3000:]
    ledger = json.loads((output / "run_status.json").read_bytes())
    assert ledger["run"]["encoder"]["device"] == "cpu"
    run(tmp_path / "input", tmp_path / "expected", settings=TABLES)
    assert (tmp_path / "output/features.csv").read_bytes() == (tmp_path / "expected/features.csv").read_bytes()
