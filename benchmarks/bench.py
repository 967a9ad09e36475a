"""What the benchmark programs share: options, the work folder, commands of ours, the results file."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

from benchmarks.machine import describe_machine, load_1min
from benchmarks.measure import Measured, run_in_turn, run_process, summary

ROOT: Final = Path(__file__).resolve().parents[1]
DEFAULT_WORK: Final = ROOT / "runs" / "benchmarks"

LESIONS: Final = (1, 10, 100, 1000)
QUICK_LESIONS: Final = (1, 4)


@dataclass(frozen=True, slots=True)
class Target:
    """A figure, and the limit that it should keep."""

    name: str
    value: float
    limit: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether it does."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass(slots=True)
class Bench:
    """One benchmark program at work.

    Attributes:
        name: Of the results file.
        work: Inputs, outputs and results lie here.
        quick: Tiny inputs and a small network: checks that the program works, its figures mean nothing.
        repeats: How often each whole process runs.
        results: Figures, for the results file.
        measured: Every whole process that was measured so far.
        complete: Whether the program came to its end.
        targets: Figures with limits.
    """

    name: str
    work: Path
    quick: bool
    repeats: int
    results: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, list[Measured]] = field(default_factory=dict)
    complete: bool = False
    targets: list[Target] = field(default_factory=list)
    load_before: float = field(default_factory=load_1min)

    @property
    def inputs(self) -> Path:
        """Folder of the scans and weights; quick ones lie apart."""
        return self.work / ("inputs_tiny" if self.quick else "inputs")

    @property
    def weights(self) -> Path:
        """The checkpoint that both packages load."""
        return self.inputs / "model_weights.torch"

    def prepare(self, kind: str, counts: Sequence[int] = (1,)) -> None:
        """Make inputs once, in a process of its own; those of other counts are replaced."""
        marker = self.inputs / f"{kind}.json"
        wanted = json.dumps(list(counts))
        if marker.is_file() and marker.read_text() == wanted:
            return
        if kind != "weights":
            for old in self.inputs.glob(f"{kind}*"):
                rmtree(old) if old.is_dir() else old.unlink()
        tiny = ["--tiny"] if self.quick else []
        self.python("benchmarks.inputs", kind, str(self.inputs), "--counts", wanted, *tiny)
        marker.write_text(wanted)

    def prepare_scan(self) -> tuple[int, ...]:
        """Make the scan with its seed tables once; the numbers of lesions that there are."""
        counts = QUICK_LESIONS if self.quick else LESIONS
        self.prepare("single", counts)
        return counts

    def python(self, module: str, *arguments: str) -> Measured:
        """Run one of our modules as a whole process."""
        return run_process([sys.executable, "-m", module, *arguments], self.work / "logs" / f"{module}.log")

    def probe(self, name: str, *arguments: str) -> dict[str, Any]:
        """Run a probe (see probes.py) in a process of its own; its figures, and how busy others kept the machine."""
        output = self.work / "logs" / f"probe_{name}.json"
        output.parent.mkdir(parents=True, exist_ok=True)
        measured = self.python("benchmarks.probes", name, str(output), *arguments)
        return {**json.loads(output.read_text()), "others_share": round(measured.others_share, 3)}

    def fmcib_run(self, source: Path, output: Path, *options: str, weights: Path | str | None = None) -> Measured:
        """`fmcib run` as a whole process, into an empty folder; converted models are cached in the work folder."""
        if output.exists():
            rmtree(output)
        command = [sys.executable, "-m", "fmcib_module.cli", "run", str(source), str(output)]
        command += ["--weights", str(weights or self.weights), *options]
        return run_process(command, self.work / "logs" / "fmcib_run.log", env={"FMCIB_CACHE": str(self.work / "cache")})

    def say(self, text: str) -> None:
        """Tell how far it is."""
        print(f"[{self.name}] {text}", flush=True)

    def in_turn(
        self, runs: Mapping[str, Callable[[], Measured]], repeats: Mapping[str, int]
    ) -> dict[str, list[Measured]]:
        """As `run_in_turn`; each measurement is told, and saved at once."""

        def said(name: str, measured: Measured) -> None:
            self.say(
                f"{name}: {measured.seconds:.2f} s, {measured.cpu_seconds:.2f} CPU s, "
                f"peak {measured.peak_mib:.0f} MiB, others {measured.others_share:.0%}"
            )
            self.measured.setdefault(name, []).append(measured)
            self.save()

        return run_in_turn(runs, repeats, progress=said)

    def target(self, name: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """Put a figure beside its limit."""
        limit = at_least if at_least is not None else at_most
        if limit is None:
            msg = "give at_least or at_most"
            raise ValueError(msg)
        self.targets.append(Target(name, float(f"{value:.4g}"), limit, at_least is not None))

    def save(self) -> Path:
        """Write the results file, with whatever there is until now."""
        path = self.work / f"{self.name}{'_quick' if self.quick else ''}.json"
        content = {
            "benchmark": self.name,
            "quick": self.quick,
            "complete": self.complete,
            "machine": describe_machine(),
            "load_1min_before": self.load_before,
            "results": self.results,
            "measured": {name: summary(measured) for name, measured in self.measured.items()},
            "targets": [{**asdict(target), "met": target.met} for target in self.targets],
        }
        path.write_text(json.dumps(content, indent=1) + "\n")
        return path

    def say_targets(self) -> None:
        """Tell each figure that has a limit."""
        for target in self.targets:
            sign = "at least" if target.at_least else "at most"
            self.say(f"{'ok  ' if target.met else 'MISS'} {target.name}: {target.value:g} ({sign} {target.limit:g})")


def run_bench(
    name: str, measure: Callable[[Bench, argparse.Namespace], None], parser: argparse.ArgumentParser | None = None
) -> None:
    """Read the options that all programs have, measure, and save; also what there is when something fails."""
    parser = parser or argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="tiny inputs: checks the program, measures nothing")
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK, help="folder for inputs, outputs and results")
    parser.add_argument("--repeats", type=int, default=0, help="whole runs of each contestant; default 3, quick 1")
    options = parser.parse_args()
    work: Path = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(name, work, options.quick, options.repeats or (1 if options.quick else 3))
    try:
        measure(bench, options)
        bench.complete = True
    finally:
        bench.save()
        bench.say_targets()
