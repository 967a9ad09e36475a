"""Check an installation as a whole: weights, geometry, the network's numbers, and that every output says the same."""

import tempfile
from collections.abc import Iterator, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from fmcib_module import __version__
from fmcib_module.adapters.gather import gather_compiled
from fmcib_module.adapters.runner import Encoder, load_encoder
from fmcib_module.adapters.tensor_file import read_metadata, write_tensors
from fmcib_module.adapters.weights import verify as verify_weights
from fmcib_module.core.acceptance import Check, measure_patch_geometry, reference_patches, relative_deviation
from fmcib_module.core.errors import OutputError, WeightsError

RECORD_SUFFIX: Final = ".verify.safetensors"

FEATURE_LIMITS: Final = {"float32": 1e-5, "bf16": 1e-2}
"""Relative L2. Engines and machines differ by about 6e-7 in float32; bf16 keeps 8 bits of each product."""

SEED_LIMIT_MM: Final = 0.5
"""Half a voxel of the 1 mm grid."""

CENTRE_LIMIT_MM: Final = 1.0
"""The published pipeline truncates the seed to a voxel of that grid."""

STEP_LIMIT_MM: Final = 1e-3
REPEAT_LIMIT: Final = {"cpu": 0.0, "cuda": 1e-5}
"""Relative L2 between two runs in other order and batch size: equal bits on a CPU."""


def verify_installation(
    weights: str = "mini",
    *,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "float32",
    against: Path | None = None,
) -> Iterator[Check]:
    """Make the checks one after another.

    Args:
        weights: Registry name or file.
        device: As in `load_encoder`.
        engine: As in `load_encoder`.
        precision: As in `load_encoder`.
        against: Features that `record` wrote earlier; None takes the packaged ones of these weights.

    Yields:
        Each check as it is done.

    Raises:
        WeightsError: The weights, or `against`, are not what they should be.
        ConfigError: A device, engine or precision that there is not here.
    """
    info = verify_weights(weights, again=True)
    yield Check("weights", 0.0, 0.0, "bytes that differ", f"SHA-256 {info.sha256}")
    centre_mm, step_mm = measure_patch_geometry(gather_compiled)
    yield Check("patch centre", centre_mm, CENTRE_LIMIT_MM, "mm", "scan whose voxels hold their own position")
    yield Check("patch grid", step_mm, STEP_LIMIT_MM, "mm", "against steps of exactly 1 mm")
    encoder = load_encoder(weights, device=device, engine=engine, precision=precision)
    patches = reference_patches()
    features = encoder.encode(patches)
    yield _compare_features(encoder, patches, features, against)
    yield _repeat(encoder, patches, features)
    with tempfile.TemporaryDirectory() as folder:
        options = {"weights": weights, "device": device, "engine": engine, "precision": precision}
        yield from _run_example(Path(folder), options)


def record(weights: str, path: Path, **options: Any) -> None:
    """Write the features of the reference patches, for later verifications on this or another machine.

    Args:
        weights: Registry name or file.
        path: The file to write.
        options: Of `load_encoder`.

    Raises:
        OutputError: The file cannot be written.
    """
    encoder = load_encoder(weights, **options)
    metadata = {"weights_sha256": encoder.weights.sha256, "version": __version__}
    metadata |= {key: str(value) for key, value in encoder.describe().items()}
    try:
        write_tensors(path, {"features": encoder.encode(reference_patches())}, metadata)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", path.name, "choose another file") from error


def _compare_features(
    encoder: Encoder, patches: NDArray[np.float32], features: NDArray[np.float32], against: Path | None
) -> Check:
    name, limit = "features", FEATURE_LIMITS[encoder.precision]
    expected = _recorded(against, encoder.weights.sha256)
    note = f"against {against.name}" if against else "against the packaged features"
    if expected is None and find_spec("torch") is not None:
        note = "against eager torch in float32 on the CPU; no features are recorded for these weights"
        expected = load_encoder(encoder.weights.path, device="cpu", engine="torch").encode(patches)
    if expected is None:
        return Check(name, None, limit, "relative L2", "nothing to compare with; record them once with --record FILE")
    return Check(name, relative_deviation(features, expected), limit, "relative L2", note)


def _recorded(against: Path | None, weights_sha256: str) -> NDArray[np.float32] | None:
    """Features on file that belong to the weights."""
    if against is not None:
        return _read_record(against, weights_sha256)
    packaged = Path(str(files("fmcib_module.weights"))).glob(f"*{RECORD_SUFFIX}")
    fitting = (path for path in packaged if read_metadata(path).get("weights_sha256") == weights_sha256)
    return next((_read_record(path, weights_sha256) for path in fitting), None)


def _read_record(path: Path, weights_sha256: str) -> NDArray[np.float32]:
    fix = "give a file that `fmcib verify --record` wrote with these weights"
    made_with = read_metadata(path).get("weights_sha256", "none")
    if made_with != weights_sha256:
        raise WeightsError(f"features of other weights (SHA-256 {made_with})", path.name, fix)
    try:
        return np.asarray(load_file(path)["features"], dtype=np.float32)
    except (KeyError, OSError, SafetensorError) as error:
        raise WeightsError("not a record of features", path.name, fix) from error


def _repeat(encoder: Encoder, patches: NDArray[np.float32], features: NDArray[np.float32]) -> Check:
    again = encoder.encode(np.ascontiguousarray(patches[::-1]), batch_size=1)[::-1]
    note = "the same patches in reverse order, one at a time"
    deviation = relative_deviation(again, features)
    return Check("repeatability", deviation, REPEAT_LIMIT[encoder.device], "relative L2", note)


def _run_example(folder: Path, options: dict[str, Any]) -> Iterator[Check]:
    """The whole chain on the example patient, whose lesions lie where it put them."""
    import pyarrow.parquet as pq

    from fmcib_module.adapters.example import CONTOURED, POINTED, SEGMENTED, write_example
    from fmcib_module.pipeline import run

    output = folder / "results"
    run(write_example(folder / "input"), output, pictures=False, report=False, **options)
    rows = pq.read_table(output / "features.parquet").to_pylist()
    truth = {name: lesion.centre for name, lesion in {**CONTOURED, **SEGMENTED, **POINTED}.items()}
    found = {row["Mhub ROI"]: (row["coordX"], row["coordY"], row["coordZ"]) for row in rows}
    lost = len(truth.keys() - found.keys())
    yield Check("lesions of the example", float(lost), 0.0, "lost", f"{len(truth)} expected")
    apart = [float(np.linalg.norm(np.subtract(found[name], truth[name]))) for name in truth.keys() & found.keys()]
    yield Check("centroids", max(apart, default=None), SEED_LIMIT_MM, "mm", "RTSTRUCT, SEG and point of the example")
    yield _compare_outputs(output, [row["features"] for row in rows])


def _compare_outputs(output: Path, values: Sequence[Any]) -> Check:
    from fmcib_module.adapters.tables import read_series_csv

    table = [row.values for path in sorted(output.glob("*/features.csv")) for row in read_series_csv(path)]
    reports = _sr_values(output)
    differing = sum(not np.array_equal(_in_order(values), _in_order(other)) for other in (table, reports))
    return Check("outputs", float(differing), 0.0, "that differ", "CSV and SR against Parquet, every value")


def _in_order(rows: Sequence[Any]) -> NDArray[np.float32]:
    values = np.array(rows, dtype=np.float32)
    return values[np.lexsort(values.T[::-1])]


def _sr_values(output: Path) -> list[list[float]]:
    """Every measurement group's features, read from the documents' own items."""
    import pydicom

    groups = []
    for path in sorted(output.glob("*/features*.sr.dcm")):
        (measurements,) = [
            item
            for item in pydicom.dcmread(path).ContentSequence
            if item.ValueType == "CONTAINER" and item.ConceptNameCodeSequence[0].CodeValue == "126010"
        ]
        for group in measurements.ContentSequence:
            items = {
                item.ConceptNameCodeSequence[0].CodeValue: item.MeasuredValueSequence[0].FloatingPointValue
                for item in group.ContentSequence
                if item.ValueType == "NUM"
            }
            groups.append([items[code] for code in sorted(items) if code.startswith("FEAT")])
    return groups
