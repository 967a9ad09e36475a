"""Kill runs and batches at random moments and go on: `python -m tests.faults.kills --kills 100` (`make kills`).

A process group is killed with SIGKILL at a moment drawn evenly over the time that an undisturbed run takes, and started
again on the same OUTPUT; after each four kills one run is left alone. What is there after a kill has to be whole, and
what is there at the end has to equal an undisturbed run, apart from dates. Of a batch, driver and workers are killed in
turn (`batch_kills`).
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from tests import phantoms
from tests.faults import batch_kills
from tests.faults.outputs import check_whole, comparable, differences
from tests.faults.processes import end, start

KILLS_PER_RUN = 4
N_STUDIES = 6


def main() -> int:
    """Run the kills; 0 if every comparison held."""
    parser = argparse.ArgumentParser(prog="tests.faults.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--of", choices=["run", "batch", "both"], default="both")
    parser.add_argument("--kills", type=int, default=100, help="of each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kinds = {"run": kill_and_resume, "batch": batch_kills.kill_and_resume}
    with tempfile.TemporaryDirectory(prefix="fmcib-kills-") as folder:
        write_studies(Path(folder))
        for name in kinds if options.of == "both" else (options.of,):
            hits, compared = kinds[name](Path(folder), options.kills, options.seed)
            ended = f"{compared} ended ones equal an undisturbed one"
            print(f"{name}: {options.kills} kills, {hits} while it went on; {ended}")
    return 0


def write_studies(folder: Path) -> None:
    """What is run: six phantoms below folder/in."""
    for number in range(N_STUDIES):
        phantoms.write_study(folder / "in" / str(number), seed=number)


def kill_and_resume(folder: Path, n_kills: int, seed: int) -> tuple[int, int]:
    """Kill, check, resume, compare.

    Args:
        folder: Holds the studies in `in`.
        n_kills: How often.
        seed: Of the moments.

    Returns:
        How many kills hit a run that had not ended, and how many resumed runs were compared.

    Raises:
        AssertionError: A run ended otherwise than the undisturbed one.
    """
    rng = Random(seed)
    started = time.monotonic()
    assert start("run", folder / "in", folder / "expected").wait() == 0
    duration_s = time.monotonic() - started
    expected = comparable(folder / "expected")
    hits = compared = 0
    for kill in range(n_kills):
        output = folder / f"out-{kill // KILLS_PER_RUN}"
        process = start("run", folder / "in", output)
        time.sleep(rng.uniform(0, duration_s))
        hits += process.poll() is None
        end(process)
        check_whole(output)
        if kill % KILLS_PER_RUN == KILLS_PER_RUN - 1 or kill == n_kills - 1:
            assert start("run", folder / "in", output).wait() == 0
            assert not (different := differences(comparable(output), expected)), f"kill {kill}: {different}"
            compared += 1
    return hits, compared


if __name__ == "__main__":
    sys.exit(main())
