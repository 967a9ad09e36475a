"""The ledger on the disk follows a run, without taking its time."""

from itertools import pairwise
from pathlib import Path

import pytest

from fmcib_module import output as module
from fmcib_module.core.ledger import Reason, SeriesEntry, Stage, Status
from fmcib_module.output import RunOutput


class Clock:
    """Time that passes only where somebody works."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def skipped(number: int) -> SeriesEntry:
    reason = Reason("Skipped", "no seed source belongs to this series", "series", "nothing to do")
    return SeriesEntry(f"1.2.{number}", "1.2", "CT", Status.SKIPPED, Stage.IMPORT, reason)


@pytest.mark.parametrize(("rewrite_s", "most_wait_s"), [(0.01, 7), (1.0, 60)])
def test_rewriting_takes_a_small_share_of_a_run_however_long_the_ledger_is(
    rewrite_s: float, most_wait_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, rewrites = Clock(), []

    def rewrite(path: Path, content: bytes) -> None:
        clock.now += rewrite_s
        rewrites.append(clock.now)

    monkeypatch.setattr(module, "time", clock)
    with RunOutput(tmp_path, {"settings_sha256": "", "weights_sha256": "", "version": ""}) as out:
        monkeypatch.setattr(module, "write_bytes", rewrite)
        started = clock.now
        for number in range(300):
            clock.now += 1.0
            out.add(skipped(number))
        took = clock.now - started
    waits = [b - a for a, b in pairwise(rewrites)]
    assert (len(rewrites) - 1) * rewrite_s <= 0.03 * took  # the last one is the end's
    assert max(waits) <= most_wait_s
