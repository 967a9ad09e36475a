"""Safetensors files without torch: read the header, and write the same bytes for the same tensors.

The format is an 8-byte little-endian header length, a JSON header (name -> dtype, shape, data_offsets) and the raw
little-endian data (https://github.com/huggingface/safetensors#format). The library's own writer puts metadata keys in
random order, so its files differ from run to run; this one sorts everything.
"""

import json
import os
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.errors import WeightsError

DTYPE_NAMES: Final = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32"}
"""numpy dtype -> safetensors dtype, as far as weights need it."""

MAX_HEADER_BYTES: Final = 100_000_000
"""Limit of the format on its header; a longer one is damage."""


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file: tensor name -> {dtype, shape, data_offsets}, and `__metadata__`.

    Raises:
        WeightsError: The file cannot be read or is not safetensors.
    """
    fix = "fetch or copy the file again"
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if 0 < length <= MAX_HEADER_BYTES else None
    except OSError as error:
        raise WeightsError(f"weights cannot be read: {error.strerror}", path.name, "check the file") from error
    except ValueError as error:
        raise WeightsError("not a safetensors file: its header is not JSON", path.name, fix) from error
    if not isinstance(header, dict):
        raise WeightsError("not a safetensors file: it has no header", path.name, fix)
    return header


def read_metadata(path: Path) -> dict[str, str]:
    """The free text fields of a safetensors file; empty where it has none.

    Raises:
        WeightsError: The file cannot be read or is not safetensors.
    """
    metadata = read_header(path).get("__metadata__", {})
    return {str(key): str(value) for key, value in metadata.items()}


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, atomically; equal tensors and metadata give equal bytes.

    Raises:
        OSError: The folder cannot be written or is full.
    """
    arrays = {name: np.asarray(tensors[name], order="C") for name in sorted(tensors)}
    by_alignment = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))  # as the library orders them
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    offset = 0
    for name in by_alignment:
        array = arrays[name]
        end = offset + array.nbytes
        dtype = DTYPE_NAMES[array.dtype.name]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data starts 8-byte aligned
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(struct.pack("<Q", len(text)) + text)
            for name in by_alignment:
                file.write(arrays[name].astype(arrays[name].dtype.newbyteorder("<"), copy=False).data)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
