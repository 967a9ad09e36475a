"""Heads as files: JSON that says what a head is, and a safetensors file beside it with its numbers. No pickle."""

import json
from dataclasses import replace
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.adapters.atomic import translated_errors, write_bytes
from fmcib_module.adapters.tensor_file import write_tensors
from fmcib_module.adapters.weights_arrays import TensorFile
from fmcib_module.core.errors import ConfigError, WeightsError
from fmcib_module.core.heads import Head, HeadKind
from fmcib_module.core.naming import is_safe_name

SCHEMA: Final = "fmcib-head/1"
TENSORS: Final = ("mean", "scale", "coefficients", "intercepts", "neighbour_classes")
TEXTS: Final = ("name", "extractor", "weights_sha256", "mode", "table_sha256", "training_sha256", "version")

_FIX: Final = "give a file that `python -m training probe` wrote, with its .safetensors beside it"


def write_head(path: Path, head: Head) -> Head:
    """Write a head: `path` (.json) and the numbers beside it (.safetensors).

    Returns:
        The head with the SHA-256 of its file, which holds that of its numbers.

    Raises:
        OutputError: The folder cannot be written.
    """
    numbers = path.with_suffix(".safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    with translated_errors(numbers):
        write_tensors(numbers, {name: getattr(head, name) for name in TENSORS}, {})
    said = {
        "schema": SCHEMA,
        "kind": head.kind.value,
        "classes": list(head.classes),
        "neighbours": head.neighbours,
        **{name: getattr(head, name) for name in TEXTS},
        "numbers": {"file": numbers.name, "sha256": _sha256(numbers)},
    }
    content = (json.dumps(said, indent=1) + "\n").encode()
    write_bytes(path, content)
    return replace(head, sha256=sha256(content).hexdigest())


def read_head(path: Path) -> Head:
    """Read a head.

    Raises:
        ConfigError: The file or the one beside it is absent, damaged, changed, or no head.
    """
    try:
        content = path.read_bytes()
        said = json.loads(content)
        if said["schema"] != SCHEMA:
            raise ConfigError(f"the head has schema {said['schema']!r}, not {SCHEMA!r}", path.name, _FIX)
        numbers, recorded = str(said["numbers"]["file"]), said["numbers"]["sha256"]
        if not is_safe_name(numbers) or _sha256(path.parent / numbers) != recorded:
            raise ConfigError("the head's numbers are not those it was saved with", numbers, _FIX)
        fields: dict[str, Any] = {name: str(said[name]) for name in TEXTS} | _arrays(path.parent / numbers)
        return Head(
            kind=HeadKind(said["kind"]),
            classes=tuple(map(str, said["classes"])),
            neighbours=int(said["neighbours"]),
            sha256=sha256(content).hexdigest(),
            **fields,
        )
    except (OSError, ValueError, KeyError, TypeError, WeightsError) as error:
        raise ConfigError(f"this is no head: {type(error).__name__}", path.name, _FIX) from error


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    tensors = TensorFile(path)
    return {name: tensors[name].astype(np.int64 if name == TENSORS[-1] else np.float64) for name in TENSORS}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
