"""On Ray: a cluster of two nodes, a killed worker and a killed driver."""

from pathlib import Path

import pytest

from benchmarks.batch import kills
from fmcib_module.batch.engine import Cluster, divide
from fmcib_module.core.errors import ConfigError


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


@pytest.mark.slow
def test_every_lesion_is_there_once_although_a_worker_and_the_driver_are_killed(tmp_path: Path) -> None:
    figures = kills(tmp_path, 12, print)
    assert figures["lesions"] == 12 * 4  # two in each RTSTRUCT, two in each SEG
    assert figures["done_at_worker_kill"] < figures["done_at_driver_kill"] < 12
