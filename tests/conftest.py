"""Tests marked `gpu` are skipped, with the reason, where there is no CUDA device; the network is loaded once.

Pseudonyms have one salt, so that outputs of several runs can be compared; tests of salts take it away.
"""

from collections.abc import Iterator

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that cannot run here."""
    gpu_tests = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_tests:
        return
    import torch  # a second that other test files need not pay

    if not torch.cuda.is_available():
        for item in gpu_tests:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def _name_patients_alike() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FMCIB_SALT", "the salt of all tests")
        yield


@pytest.fixture(scope="session", autouse=True)
def _load_the_small_network_once() -> Iterator[None]:
    """Hundreds of runs use it: each gets the same encoder, unless it asks for other weights, engines or precisions."""
    from fmcib_module import lazy_encoder
    from fmcib_module.adapters import runner

    loaded: dict[tuple[str, str], runner.Encoder] = {}

    def load_encoder(weights: str, *, device: str, engine: str, precision: str) -> runner.Encoder:
        if weights != "mini" or precision != "float32":  # a reduced precision is measured on an encoder's first patches
            return runner.load_encoder(weights, device=device, engine=engine, precision=precision)
        on = runner.choose_device(device)
        key = on, runner.choose_engine(engine, on)[0]
        if key not in loaded:
            loaded[key] = runner.load_encoder(weights, device=device, engine=engine, precision=precision)
        return loaded[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lazy_encoder, "load_encoder", load_encoder)
        yield
