"""Slices of CT objects -> Hounsfield units, one frame at a time (pydicom and its decoders)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from fmcib_module.adapters.functional_groups import functional_group
from fmcib_module.adapters.header_block import BLOCK_BYTES, read_transfer_syntax
from fmcib_module.adapters.native_pixels import NativeHeader, read_native
from fmcib_module.adapters.read_errors import READ_ERRORS
from fmcib_module.core.conventions import AIR_HU
from fmcib_module.core.domain import Instance
from fmcib_module.core.errors import PixelDataError

_TAGS: Final[list[Any]] = [Tag("SharedFunctionalGroupsSequence"), Tag("PerFrameFunctionalGroupsSequence")]


Hounsfield = NDArray[np.int16] | NDArray[np.float32]
"""(rows, columns) Hounsfield units; whole numbers may come as int16."""

Elements = Dataset | NativeHeader
"""What describes stored pixels: pydicom's elements, or those of a plain file."""


@dataclass(frozen=True, slots=True)
class Rescale:
    """Stored value -> Hounsfield units: slope x stored + intercept (PS3.3 C.11.1.1.2)."""

    slope: float
    intercept: float


def decode_slices(instances: Sequence[Instance]) -> Iterator[Hounsfield]:
    """Decode slices of one file to Hounsfield units; it is opened once, and only the frames asked for are decoded.

    Any transfer syntax that pydicom decodes with the installed plugins; per-slice (per-frame) rescale; pixels equal
    to PixelPaddingValue, or between it and PixelPaddingRangeLimit, are `AIR_HU`. Bits above BitsStored are ignored
    (scanners once kept overlays there). MONOCHROME1 is not inverted: it tells a display to invert, while the rescale
    holds for stored values (PS3.3 C.7.6.3.1.2).

    Yields:
        (rows, columns) of each slice: int16 where a shift of the stored values gives that (nearly always), which takes
        a fifth of the time, else float32.

    Raises:
        PixelDataError: No pixels, no decoder, damaged pixels, or no rescale; names SOPInstanceUID and transfer syntax.
    """
    path = instances[0].path
    if len(instances) == 1 and (native := read_native(path)) is not None:
        try:
            yield _to_hu(*native, instances[0])
        except (ValueError, TypeError):  # not as plain as it looked: pydicom says what is wrong, or reads it
            pass
        else:
            return
    indices = [instance.frame or 0 for instance in instances]
    header = Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    try:
        source = _source(instances[0])
        frames: Iterator[NDArray[Any]]
        if isinstance(source, Dataset):
            header = source
            frames = iter_pixels(source, indices=indices, raw=True)
        else:
            frames = iter_pixels(path, ds_out=header, specific_tags=_TAGS, indices=indices, raw=True)
        for instance, stored in zip(instances, frames, strict=True):
            yield _to_hu(stored, header, instance)
    except READ_ERRORS as error:
        raise _cannot_decode(instances[0], header, error) from error


def _source(instance: Instance) -> Dataset | None:
    """The whole dataset where pydicom cannot decode from the open file: deflated, or without file meta information."""
    syntax = _transfer_syntax(instance)
    if syntax and syntax != DeflatedExplicitVRLittleEndian:
        return None
    dataset = pydicom.dcmread(instance.path, force=True)
    if not dataset.file_meta.get("TransferSyntaxUID"):
        dataset.file_meta.TransferSyntaxUID = _guessed_syntax(dataset)
    return dataset


def _guessed_syntax(dataset: Dataset) -> UID:
    """The uncompressed syntax in which pydicom could read the elements of a file that does not state one."""
    is_implicit, is_little_endian = dataset.original_encoding
    if is_implicit:
        return ImplicitVRLittleEndian
    return pydicom.uid.ExplicitVRLittleEndian if is_little_endian else pydicom.uid.ExplicitVRBigEndian


def _to_hu(stored: NDArray[Any], header: Elements, instance: Instance) -> Hounsfield:
    if stored.shape != instance.shape:
        msg = f"expected {instance.shape} pixels, found {stored.shape}"
        raise ValueError(msg)
    rescale = _rescale(header, instance)
    values = _significant_bits(stored, header)
    hu = _hounsfield(values, rescale)
    padding = _padding_range(header)
    if padding is not None:
        hu[(values >= padding[0]) & (values <= padding[1])] = AIR_HU
    return hu


def _hounsfield(values: NDArray[Any], rescale: Rescale) -> Hounsfield:
    """Apply a rescale in float64, or in int16 where that is exact."""
    if values.dtype.itemsize <= 2 and values.size and rescale.slope == 1 and rescale.intercept.is_integer():
        shift, limits = int(rescale.intercept), np.iinfo(np.int16)
        if limits.min <= int(values.min()) + shift and int(values.max()) + shift <= limits.max:
            shifted: NDArray[np.int32] = np.add(values, shift, dtype=np.int32)
            return shifted.astype(np.int16)
    return (values.astype(np.float64) * rescale.slope + rescale.intercept).astype(np.float32)


def _rescale(header: Elements, instance: Instance) -> Rescale:
    group: Elements | None = header
    if instance.frame is not None and isinstance(header, Dataset):
        group = functional_group(header, instance.frame, "PixelValueTransformationSequence")
    slope = None if group is None else group.get("RescaleSlope")
    intercept = None if group is None else group.get("RescaleIntercept")
    if slope is None or intercept is None:
        msg = "RescaleSlope or RescaleIntercept is absent, so Hounsfield units are not known"
        raise ValueError(msg)
    return Rescale(float(slope), float(intercept))


def _significant_bits(stored: NDArray[Any], header: Elements) -> NDArray[Any]:
    """Stored values without what lies above BitsStored, sign-extended where PixelRepresentation is 1."""
    bits = int(header.BitsStored)
    allocated = stored.dtype.itemsize * 8
    low = int(header.get("HighBit", bits - 1)) + 1 - bits
    if not (1 <= bits <= allocated and 0 <= low <= allocated - bits):
        msg = f"BitsStored {bits} and HighBit {bits + low - 1} do not fit into {allocated} allocated bits"
        raise ValueError(msg)
    signed = int(header.PixelRepresentation) == 1
    values = stored.astype(f"{'i' if signed else 'u'}{stored.dtype.itemsize}", copy=False)
    above = allocated - bits - low
    if above <= 0 and low <= 0:
        return values
    return (values << above) >> (allocated - bits)  # an arithmetic shift, so it extends the sign


def _padding_range(header: Elements) -> tuple[int, int] | None:
    """Stored values that mean "not measured" (PS3.3 C.7.5.1.1.2)."""
    value = header.get("PixelPaddingValue")
    if value is None:
        return None
    limit = header.get("PixelPaddingRangeLimit")
    first, last = _as_stored(value, header), _as_stored(value if limit is None else limit, header)
    return min(first, last), max(first, last)


def _as_stored(value: Any, header: Elements) -> int:
    """The padding value with the pixels' sign: writers mix up US and SS here."""
    number = int.from_bytes(value[:2], "little") if isinstance(value, bytes) else int(value)
    signed = int(header.PixelRepresentation) == 1
    if signed and number >= 1 << 15:
        return number - (1 << 16)
    return number + (1 << 16) if not signed and number < 0 else number


def _cannot_decode(instance: Instance, header: Dataset, error: Exception) -> PixelDataError:
    syntax = header.file_meta.get("TransferSyntaxUID") or (_transfer_syntax(instance) if instance.path.exists() else "")
    name = f"{UID(syntax).name} ({syntax})" if syntax else "unknown"
    frame = "" if instance.frame is None else f", frame {instance.frame + 1}"
    reason = str(error) if type(error) is ValueError and "absent" in str(error) else type(error).__name__
    return PixelDataError(
        f"pixels cannot be decoded: {reason}",
        f"SOPInstanceUID {instance.sop_instance_uid}{frame}, transfer syntax {name}",
        "export the series again, uncompressed and complete",
    )


def _transfer_syntax(instance: Instance) -> str:
    with instance.path.open("rb") as file:
        return read_transfer_syntax(file.read(BLOCK_BYTES))
