"""Writing beside the network: neither waits for the other, few series are held, an error of either ends the run."""

import threading

import pytest

from fmcib_module import pipeline, read_studies, run, steps
from fmcib_module.adapters.runner import Encoder
from fmcib_module.core.errors import OutputError
from tests import phantoms
from tests.chain import LESIONS, rows_of

PLAIN = {"batch_size": 1, "sr": False, "seg": False, "pictures": False, "report": False}
WAIT_S = 20
"""Until something that must happen is taken not to; nothing waits so long where all is well."""


@pytest.fixture
def source(tmp_path):
    """Four series of one lesion."""
    for n in range(4):
        phantoms.write_study(tmp_path / "in" / str(n), seed=n, seg=False, lesions=LESIONS[:1], shape_kji=(20, 16, 16))
    return tmp_path / "in"


def test_the_network_goes_on_while_a_series_is_written(source, tmp_path, monkeypatch):
    encoded = threading.Semaphore(0)
    encode, write = Encoder.encode, steps.write
    waited = []

    def noting(self, patches, **options):
        features = encode(self, patches, **options)
        encoded.release()
        return features

    def waiting(work, output, **options):
        if not waited:  # the first series is not written before the network has done all four
            waited.extend(encoded.acquire(timeout=WAIT_S) for _ in range(4))
        return write(work, output, **options)

    monkeypatch.setattr(Encoder, "encode", noting)
    monkeypatch.setattr(steps, "write", waiting)
    ledger = run(source, tmp_path / "out", **PLAIN)
    assert waited == [True] * 4
    assert len(rows_of(tmp_path / "out" / "features.csv")) == 4
    in_order = [series.uid for study in read_studies(source) for series in study.series]
    assert [entry.series_uid for entry in ledger.series] == in_order


def test_few_series_wait_to_be_written(source, tmp_path, monkeypatch):
    encode, write = Encoder.encode, steps.write
    encoded, ahead = [], []

    def counting(self, patches, **options):
        encoded.extend(patches)
        return encode(self, patches, **options)

    def slow(work, output, **options):
        threading.Event().wait(0.05)  # time in which the network could run away
        ahead.append(len(encoded) - len(ahead))
        return write(work, output, **options)

    monkeypatch.setattr(pipeline, "SERIES_TO_WRITE", 1)
    monkeypatch.setattr(Encoder, "encode", counting)
    monkeypatch.setattr(steps, "write", slow)
    run(source, tmp_path / "out", **PLAIN)
    assert max(ahead) <= 1 + 1 + 1  # the one that is written, the one that waits, the one in the network


def test_a_network_that_fails_ends_the_run_and_leaves_what_was_written(source, tmp_path, monkeypatch):
    encode = Encoder.encode
    calls = []

    def failing(self, patches, **options):
        calls.append(patches)
        if len(calls) == 3:
            raise RuntimeError("the network broke")
        return encode(self, patches, **options)

    monkeypatch.setattr(Encoder, "encode", failing)
    with pytest.raises(RuntimeError, match="the network broke"):
        run(source, tmp_path / "out", **PLAIN)
    assert len(list((tmp_path / "out").glob("*/features.csv"))) == 2
    assert not threads_left()


def test_a_writer_that_fails_ends_the_network_too(source, tmp_path, monkeypatch):
    def failing(work, output, **options):
        raise OutputError("no space", "OUTPUT", "free some")

    monkeypatch.setattr(steps, "write", failing)
    with pytest.raises(OutputError, match="no space"):
        run(source, tmp_path / "out", **PLAIN)
    assert not threads_left()


def threads_left() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
