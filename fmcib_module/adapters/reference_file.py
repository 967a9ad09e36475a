"""Reference statistics as files: beside the weights that they belong to, found by the weights' SHA-256."""

from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from fmcib_module.adapters.tensor_file import read_metadata, write_tensors
from fmcib_module.adapters.weights import cache_dir
from fmcib_module.core.errors import WeightsError
from fmcib_module.core.reference import ReferenceStatistics

SUFFIX: Final = ".reference.safetensors"


def write_reference(reference: ReferenceStatistics, path: Path, *, weights_sha256: str, mode: str, cohort: str) -> None:
    """Write reference statistics; equal statistics give equal bytes.

    Args:
        reference: What to write.
        path: The file.
        weights_sha256: Of the weights that made the features.
        mode: Preprocessing mode that made them.
        cohort: What the lesions are, in a few words.

    Raises:
        OSError: The folder cannot be written.
    """
    arrays = {"mean": reference.mean, "axes": reference.axes, "variances": reference.variances}
    tensors = {name: array.astype(np.float32) for name, array in arrays.items()}
    numbers = {
        "rest_variance": repr(reference.rest_variance),
        "limit": repr(reference.limit),
        "n_lesions": str(reference.n_lesions),
        "n_patients": str(reference.n_patients),
    }
    write_tensors(path, tensors, {**numbers, "weights_sha256": weights_sha256, "mode": mode, "cohort": cohort})


def read_reference(path: Path) -> ReferenceStatistics:
    """Read what `write_reference` wrote.

    Raises:
        WeightsError: The file is not whole, or not of reference statistics.
    """
    try:
        metadata = read_metadata(path)
        tensors = load_file(path)
        mean, axes, variances = (tensors[name].astype(np.float64) for name in ("mean", "axes", "variances"))
        return ReferenceStatistics(
            mean,
            axes,
            variances,
            float(metadata["rest_variance"]),
            float(metadata["limit"]),
            int(metadata["n_lesions"]),
            int(metadata["n_patients"]),
        )
    except (KeyError, ValueError, OSError, SafetensorError) as error:
        fix = "make it again with `fmcib weights reference`"
        raise WeightsError("not a file of reference statistics", path.name, fix) from error


@lru_cache(maxsize=4)
def find_reference(weights_sha256: str, mode: str) -> ReferenceStatistics | None:
    """The statistics that belong to weights and mode, or None; a cohort of one's own in the cache goes first.

    Raises:
        WeightsError: The file is there but damaged.
    """
    for path in (own_reference_path(weights_sha256, mode), *_packaged()):
        if path.is_file():
            metadata = read_metadata(path)
            if (metadata.get("weights_sha256"), metadata.get("mode")) == (weights_sha256, mode):
                return read_reference(path)
    return None


def own_reference_path(weights_sha256: str, mode: str) -> Path:
    """Where the statistics of a cohort of one's own lie."""
    return cache_dir() / "reference" / f"{weights_sha256}.{mode}{SUFFIX}"


def _packaged() -> list[Path]:
    folder = Path(str(files("fmcib_module.weights")))
    return sorted(folder.glob(f"*{SUFFIX}"))
