"""One mutated study through the chain, and what must hold whatever the study is."""

import json
import logging
import shutil
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcib_module import lazy_encoder, pipeline
from fmcib_module.core.domain import Patch
from fmcib_module.core.errors import FmcibError
from fmcib_module.core.ledger import Status
from tests import phantoms
from tests.chain import rows_of
from tests.fuzz.mutations import MUTATIONS

MOST_MUTATIONS = 3
N_FEATURES = 512  # as many as `mini`, under whose name it runs


class StandInEncoder:
    """A few statistics of each patch in place of the network, which no DICOM file can harm."""

    batch_size = 4
    takes_any_batch = True

    def encode(self, patches: Sequence[Patch], *, batch_size: int = 0) -> NDArray[np.float32]:
        """(n, 512) float32."""
        voxels = np.stack([patch.voxels.ravel() for patch in patches])
        quantiles = np.quantile(voxels, np.linspace(0, 1, N_FEATURES), axis=1)
        return np.ascontiguousarray(quantiles.T, dtype=np.float32)

    def describe(self) -> dict[str, Any]:
        """For the ledger."""
        return {"engine": "stand-in"}


def write_base(folder: Path) -> Path:
    """The sound study that is mutated: CT, RTSTRUCT, SEG and a seed table, 90 kB in all."""
    study = phantoms.write_study(folder, shape_kji=(10, 24, 24))
    x, y, z = phantoms.CENTRE_LPS
    (study.folder / "points.csv").write_text(f"coordX,coordY,coordZ,label\n{x},{y},{z},point\n", encoding="utf-8")
    return study.folder


def mutate(base: Path, folder: Path, seed: int) -> list[str]:
    """Copy the base study and harm it; returns the names of the mutations."""
    rng = Random(seed)
    shutil.copytree(base, folder)
    chosen = rng.choices(MUTATIONS, k=rng.randint(1, MOST_MUTATIONS))
    done = []
    for mutation in chosen:
        try:
            mutation(rng, folder)
            done.append(mutation.__name__)
        except Exception:  # noqa: BLE001 (what an earlier mutation broke may not bear another)
            done.append(f"{mutation.__name__} (not possible)")
    return done


def run_one(base: Path, work: Path, seed: int) -> tuple[int, list[str]]:
    """Run the chain over one mutated study.

    Args:
        base: Of `write_base`.
        work: An empty folder.
        seed: Of the mutations.

    Returns:
        The run's exit code (2 where it refused to run), and every rule that was broken, with the mutations.
    """
    source, output = work / "in", work / "out"
    names = mutate(base, source, seed)
    before = _listing(source)
    logging.disable(logging.CRITICAL)
    lazy_encoder.load_encoder = lambda *_, **__: StandInEncoder()  # type: ignore[assignment, attr-defined]
    code, broken = 2, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ledger = pipeline.run(
                source, output, pictures=seed % 8 == 0, report=seed % 32 == 0, irregular=_policy(seed)
            )
            code = int(ledger.exit_code)
            broken = _broken_rules(output, code)
        except FmcibError:
            pass
        except BaseException as error:  # noqa: BLE001 (the point of it)
            broken = [f"{type(error).__name__} in {_place(error)}: {str(error)[:200]}"]
    if _listing(source) != before:
        broken.append("the input was changed")
    if {path.name for path in work.iterdir()} - {"in", "out"}:
        broken.append("a file outside OUTPUT")
    return code, [f"{rule} [{', '.join(names)}]" for rule in broken]


def _place(error: BaseException) -> str:
    """Our innermost function under an exception."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "fmcib_module" in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"


def _policy(seed: int) -> str:
    return "resample" if seed % 3 == 0 else "refuse"


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    found = [(path, path.lstat()) for path in sorted(folder.rglob("*"))]
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in found if not path.is_dir()]


def _broken_rules(output: Path, code: int) -> list[str]:
    """What must hold of a finished run's outputs."""
    broken = []
    ledger = json.loads((output / "run_status.json").read_text(encoding="utf-8"))
    if not ledger["complete"] or ledger["exit_code"] != code:
        broken.append("the ledger does not say how the run ended")
    if not ledger["series"] and not ledger["problems"] and not ledger["ignored_files"]:
        broken.append("nothing is on the ledger")
    done = (Status.OK.value, Status.FLAGGED.value)
    rois = [roi for entry in ledger["series"] for roi in entry["rois"]]
    for entry in (*ledger["series"], *rois):
        if entry["status"] == Status.FAILED.value and not (entry["reason"] or entry.get("rois")):
            broken.append("a failure without a reason")
        if (entry["reason"] or {}).get("error") == "UnforeseenError":
            broken.append(entry["reason"]["what"])
    broken += [entry["reason"]["what"] for entry in ledger["problems"] if entry["reason"]["error"] == "UnforeseenError"]
    n_rows = len(rows_of(output / "features.csv")) if (output / "features.csv").is_file() else 0
    if n_rows != sum(roi["status"] in done for roi in rois):
        broken.append(f"{n_rows} rows in the table, other number of lesions on the ledger")
    broken += [f"a temporary file is left: {path.suffix}" for path in output.rglob(".*") if path.is_file()]
    return broken
