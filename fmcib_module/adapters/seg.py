"""DICOM Segmentation -> seeds and masks, frame by frame by position (pydicom).

Frames are unpacked here rather than with highdicom, which builds a database of the frames first and takes a second to
import: only the frames of the segments asked for are decoded, each is cut to its segment, and nothing is resampled.
"""

import zlib
from collections.abc import Iterator
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array

from fmcib_module.adapters.read_errors import READ_ERRORS
from fmcib_module.adapters.roi_candidates import (
    RoiCandidate,
    frame_of_reference_flags,
    read_dataset,
    size_flags,
)
from fmcib_module.core.centroid import Block, Weights, compute_mask_centroid, crop, mask_on_grid
from fmcib_module.core.conventions import FARTHEST_MM, SeedKind
from fmcib_module.core.domain import RoiSource, Seed, Series
from fmcib_module.core.errors import InputError, PixelDataError, SeedNotFoundError
from fmcib_module.core.volume import Grid

DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
"""Deflated Image Frame Compression (PS3.5 A.4.13), which pydicom 3.0 does not decode."""

SAME_POSITION_MM = 0.01
"""Frames of a segment closer than this are at one position: the larger weight counts."""


def list_segments(source: RoiSource, series: Series) -> list[RoiCandidate]:
    """The segments of a SEG, sorted by segment number.

    Raises:
        InputError: The file cannot be read, or has no list of segments.
    """
    seg = SegFile(source)
    return [
        RoiCandidate(label, number, source, partial(_make_seeds, seg, series, number, label))
        for number, label in sorted([*seg.segments, *seg.undescribed_segments])
    ]


def segment_mask(source: RoiSource, seed: Seed, grid: Grid) -> tuple[int, NDArray[np.bool_]] | None:
    """Mask of a segment on a grid, nearest voxel; inside where the weight is > 0.

    Returns:
        The first slice, and (n_slices, J, I) bool; None if no voxel is inside.

    Raises:
        InputError: The file cannot be read.
    """
    modified_ns = source.path.stat().st_mtime_ns if source.path.exists() else 0
    return mask_on_grid(_seg_file(source, modified_ns).blocks(seed.roi_number or 0), grid)


@lru_cache(maxsize=1)
def _seg_file(source: RoiSource, modified_ns: int) -> "SegFile":  # a changed file is read again
    """The SEG read last: its segments are asked for one after another, and a large one takes seconds to read."""
    return SegFile(source)


class SegFile:
    """A DICOM Segmentation, decoded frame by frame.

    A voxel's weight is 1 in a BINARY or LABELMAP segment, value / MaximumFractionalValue in a FRACTIONAL one, for
    occupancy and probability alike: the centroid and the volume are weighted, the extent is where the weight is > 0.
    """

    def __init__(self, source: RoiSource) -> None:
        self.source = source
        self.where = f"SEG {source.uid}"
        self.dataset = read_dataset(source)
        try:
            self.kind = str(self.dataset.get("SegmentationType", "BINARY"))
            self.shape = int(self.dataset.Rows), int(self.dataset.Columns)
            positions = len(self.dataset.get("PerFrameFunctionalGroupsSequence") or [])
            self.frame_count = int(self.dataset.get("NumberOfFrames") or positions or 1)
            self.segments = sorted(
                (int(item.SegmentNumber), str(item.get("SegmentLabel", "")))
                for item in self.dataset.SegmentSequence
                if int(item.SegmentNumber) > 0  # a label map may describe its background as 0
            )
        except READ_ERRORS as error:
            reason = type(error).__name__
            raise InputError(
                f"the list of segments cannot be read ({reason})", self.where, "export it again"
            ) from error
        if positions not in (0, self.frame_count):
            what = f"NumberOfFrames is {self.frame_count}, but positions are given for {positions} frames"
            raise InputError(what, self.where, "export it again")

    @property
    def undescribed_segments(self) -> list[tuple[int, str]]:
        """Segments that have frames but are left out of the list; none where that cannot be told without decoding."""
        described = {number for number, _ in self.segments}
        try:
            numbers = set() if self.kind == "LABELMAP" else set(self._frames_of) - described
        except (*READ_ERRORS, InputError):
            return []  # each segment of the list says why it cannot be read
        return [(number, f"segment {number}") for number in numbers]

    def blocks(self, number: int) -> list[Block]:
        """The frames of a segment, each cut to its voxels with weight > 0.

        Raises:
            PixelDataError: A frame cannot be decoded.
            InputError: A frame has no position.
        """
        try:
            if self.kind == "LABELMAP":
                return self._labelled_blocks.get(number, [])
            frames = self._frame_weights(number)
            return [block for weights, affine in _merge(frames) if (block := crop(weights[None], affine)) is not None]
        except READ_ERRORS as error:
            fix = "export it again, or uncompressed"
            raise PixelDataError(f"segment {number} cannot be decoded: {error}", self.where, fix) from error

    @cached_property
    def _labelled_blocks(self) -> dict[int, list[Block]]:
        """All segments of a label map; each frame is decoded once."""
        found: dict[int, list[Block]] = {}
        for index in range(self.frame_count):
            labels = self._decode(index)
            for number in np.unique(labels[labels > 0]):
                block = crop((labels == number)[None], self._affine(index))
                if block is not None:
                    found.setdefault(int(number), []).append(block)
        return found

    def _frame_weights(self, number: int) -> Iterator[tuple[Weights, NDArray[np.float64]]]:
        """Weights (J, I) and affine (4, 4) of each frame of a BINARY or FRACTIONAL segment."""
        maximum = float(self.dataset.get("MaximumFractionalValue") or 255)  # of 8 bits, where it is left out
        for index in self._frames_of.get(number, []):
            values = self._decode(index)
            weights: Weights = values > 0
            if self.kind == "FRACTIONAL":
                weights = np.asarray(values / maximum, dtype=np.float32)
            yield weights, self._affine(index)

    @cached_property
    def _frames_of(self) -> dict[int, list[int]]:
        """Segment number -> its frames, found in one pass: a SEG of a hundred organs has tens of thousands."""
        found: dict[int, list[int]] = {}
        for index in range(self.frame_count):
            item = self._functional_group(index, "SegmentIdentificationSequence")
            found.setdefault(int(item.ReferencedSegmentNumber), []).append(index)
        return found

    def _decode(self, index: int) -> NDArray[Any]:
        """Stored values of a frame, (J, I)."""
        rows, columns = self.shape
        if int(self.dataset.BitsAllocated) > 1:
            if self.dataset.file_meta.TransferSyntaxUID == DEFLATED_FRAMES:
                buffer = zlib.decompress(self._encapsulated(index), -zlib.MAX_WBITS)
                kind = f"<u{int(self.dataset.BitsAllocated) // 8}"
                return np.frombuffer(buffer, dtype=kind, count=rows * columns).reshape(rows, columns)
            return np.asarray(pixel_array(self.dataset, index=index, raw=True)).reshape(rows, columns)
        # One bit per pixel, least significant first, and frames follow each other without padding (PS3.5 8.1.1).
        if self.dataset.file_meta.TransferSyntaxUID == DEFLATED_FRAMES:
            data, first = zlib.decompress(self._encapsulated(index), -zlib.MAX_WBITS), 0
        else:
            data, first = self.dataset.PixelData, index * rows * columns
        stop = first + rows * columns
        packed = np.frombuffer(data[first // 8 : (stop + 7) // 8], dtype=np.uint8)
        bits = np.unpackbits(packed, bitorder="little")[first % 8 :][: rows * columns]
        return bits.reshape(rows, columns)

    def _encapsulated(self, index: int) -> bytes:
        frame: bytes = pydicom.encaps.get_frame(self.dataset.PixelData, index, number_of_frames=self.frame_count)
        return frame

    def _functional_group(self, index: int, name: str) -> Any:
        """The item of a functional group macro, per frame or shared (PS3.3 C.7.6.16).

        Raises:
            InputError: It is in neither.
        """
        per_frame = self.dataset.get("PerFrameFunctionalGroupsSequence") or []
        shared = self.dataset.get("SharedFunctionalGroupsSequence") or []
        for group in [*per_frame[index : index + 1], *shared[:1]]:
            if group.get(name):
                return group[name].value[0]
        raise InputError(f"frame {index + 1} has no {name}", self.where, "export it again, with positions in space")

    def _affine(self, index: int) -> NDArray[np.float64]:
        """(4, 4), maps (i, j, 0, 1) to LPS mm; the third column is as long as a slice is thick."""
        orientation = self._functional_group(index, "PlaneOrientationSequence").ImageOrientationPatient
        between_rows, between_columns = self._functional_group(index, "PixelMeasuresSequence").PixelSpacing
        row, column = np.array(orientation[:3], dtype=float), np.array(orientation[3:], dtype=float)
        affine = np.eye(4)
        affine[:3, 0] = row * float(between_columns)
        affine[:3, 1] = column * float(between_rows)
        affine[:3, 2] = np.cross(row, column) * self._thickness_mm
        affine[:3, 3] = self._position(index)
        return affine

    def _position(self, index: int) -> NDArray[np.float64]:
        item = self._functional_group(index, "PlanePositionSequence")
        position = np.array(item.ImagePositionPatient, dtype=float)
        if position.shape != (3,) or not (np.abs(position) < FARTHEST_MM).all():  # also false for NaN
            raise InputError(f"frame {index + 1} has no valid position", self.where, "export it again")
        return position

    @cached_property
    def _thickness_mm(self) -> float:
        """Distance between slices: as stated, else the smallest between frames, else the slice thickness."""
        measures = self._functional_group(0, "PixelMeasuresSequence")
        stated = float(measures.get("SpacingBetweenSlices") or 0)
        if stated > 0:
            return stated
        orientation = self._functional_group(0, "PlaneOrientationSequence").ImageOrientationPatient
        normal = np.cross(np.array(orientation[:3], dtype=float), np.array(orientation[3:], dtype=float))
        heights = np.sort([self._position(index) @ normal for index in range(self.frame_count)])
        gaps = np.diff(heights)
        gaps = gaps[gaps > SAME_POSITION_MM]
        return float(gaps.min()) if len(gaps) else float(measures.get("SliceThickness") or 1)


def _merge(
    frames: Iterator[tuple[Weights, NDArray[np.float64]]],
) -> list[tuple[Weights, NDArray[np.float64]]]:
    """Frames at one position become one."""
    merged: dict[bytes, tuple[Weights, NDArray[np.float64]]] = {}
    for weights, affine in frames:
        place = np.round(affine / SAME_POSITION_MM).astype(np.int64).tobytes()
        if place in merged:
            weights = np.maximum(merged[place][0], weights)
        merged[place] = (weights, affine)
    return list(merged.values())


def _make_seeds(seg: SegFile, series: Series, number: int, label: str) -> tuple[Seed, ...]:
    where = f"segment {label!r} (number {number}) of {seg.where}"
    flags = frame_of_reference_flags(
        series,
        frame_of_reference_uid=str(seg.dataset.get("FrameOfReferenceUID") or ""),
        series_uids={
            *seg.source.referenced_series_uids,
            *(str(item.get("SeriesInstanceUID")) for item in seg.dataset.get("ReferencedSeriesSequence") or []),
        },
        sop_uids=seg.source.referenced_sop_uids,
        where=where,
    )
    found = compute_mask_centroid(seg.blocks(number))
    if found is None:
        raise SeedNotFoundError("the segment is empty", where, "draw it, or leave it out of the choice of ROIs")
    return (
        Seed(
            found.lps_mm,
            label=label,
            source_uid=seg.source.uid,
            kind=SeedKind.SEG,
            roi_number=number,
            extent_mm=found.extent_mm,
            volume_mm3=found.volume_mm3,
            flags=flags + size_flags(found.extent_mm, is_inside=found.is_inside),
        ),
    )
