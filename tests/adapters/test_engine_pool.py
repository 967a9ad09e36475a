"""Several engine processes give what one gives, and say what went wrong in them."""

import os
import signal

import numpy as np
import pytest

from fmcib_module.adapters.engine_pool import PoolForward, WorkerPlan
from fmcib_module.adapters.runner import load_encoder
from fmcib_module.core.errors import ConfigError, WeightsError

PLAN = WorkerPlan("mini", "cpu", "openvino", "float32")


@pytest.fixture(scope="module")
def pool():
    pool = PoolForward([PLAN, PLAN], n_features=512)
    yield pool
    pool.close()


@pytest.mark.parametrize("n", [1, 2, 5, 19])
def test_a_pool_gives_the_same_bits_in_the_same_order_as_one_engine(pool, n):
    patches = np.random.default_rng(n).random((n, 50, 50, 50), dtype=np.float32)
    expected = load_encoder("mini", device="cpu", engine="openvino").encode(patches)
    np.testing.assert_array_equal(pool(patches[:, None]), expected)


def test_a_pool_says_what_it_is(pool):
    assert pool.batch_size == 16
    assert pool.describe()["processes"] == 2
    assert pool.describe()["engine"] == "openvino"


def test_what_a_process_cannot_load_is_raised_here():
    with pytest.raises(WeightsError, match="nonsense"):
        PoolForward([PLAN, WorkerPlan("nonsense", "cpu", "openvino", "float32")], n_features=512)


def test_a_process_that_dies_is_an_error_and_not_a_hang():
    pool = PoolForward([PLAN], n_features=512)
    try:
        os.kill(pool._workers[0].process.pid, signal.SIGKILL)
        pool._workers[0].process.join()
        with pytest.raises(ConfigError, match="ended without an answer"):
            pool(np.zeros((1, 1, 50, 50, 50), dtype=np.float32))
    finally:
        pool.close()
