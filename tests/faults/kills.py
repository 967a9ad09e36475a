"""Kill runs at random moments and go on: `python -m tests.faults.kills --kills 100` (`make kills`).

A process group is killed with SIGKILL at a moment drawn evenly over the time that an undisturbed run takes, and started
again on the same OUTPUT; after each four kills one run is left alone. What is there after a kill has to be whole, and
what is there at the end has to equal an undisturbed run, apart from dates.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from tests import phantoms
from tests.faults.outputs import check_whole, comparable

KILLS_PER_RUN = 4
N_STUDIES = 6


def main() -> int:
    """Run the kills; 0 if every comparison held."""
    parser = argparse.ArgumentParser(prog="tests.faults.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fmcib-kills-") as folder:
        while_running, repeated = kill_and_resume(Path(folder), options.kills, options.seed)
    print(f"{options.kills} kills, {while_running} of them while the run went on; {repeated} finished runs equal one")
    return 0


def kill_and_resume(folder: Path, n_kills: int, seed: int) -> tuple[int, int]:
    """Kill, check, resume, compare.

    Args:
        folder: Empty.
        n_kills: How often.
        seed: Of the moments.

    Returns:
        How many kills hit a run that had not ended, and how many resumed runs were compared.

    Raises:
        AssertionError: A run ended otherwise than the undisturbed one.
    """
    rng = Random(seed)
    for number in range(N_STUDIES):
        phantoms.write_study(folder / "in" / str(number), seed=number)
    started = time.monotonic()
    assert start(folder / "in", folder / "expected").wait() == 0
    duration_s = time.monotonic() - started
    expected = comparable(folder / "expected")
    hits = compared = 0
    for kill in range(n_kills):
        output = folder / f"out-{kill // KILLS_PER_RUN}"
        process = start(folder / "in", output)
        time.sleep(rng.uniform(0, duration_s))
        hits += process.poll() is None
        end(process)
        check_whole(output)
        if kill % KILLS_PER_RUN == KILLS_PER_RUN - 1 or kill == n_kills - 1:
            assert start(folder / "in", output).wait() == 0
            found = comparable(output)
            assert found.keys() == expected.keys(), f"kill {kill}: {found.keys() ^ expected.keys()}"
            different = [name for name in expected if found[name] != expected[name]]
            assert not different, f"kill {kill}: {different}"
            compared += 1
    return hits, compared


def start(source: Path, output: Path, *options: str) -> "subprocess.Popen[bytes]":
    """`fmcib run` in a process group of its own."""
    command = [sys.executable, "-m", "fmcib_module.cli", "run", str(source), str(output), *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def end(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL the whole group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    sys.exit(main())
