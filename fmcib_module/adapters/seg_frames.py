"""Frames of a BINARY segmentation: their pixels, positions and source images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from fmcib_module.adapters.derived import code_item
from fmcib_module.core.domain import Instance, Point, Series
from fmcib_module.core.report import Concept
from fmcib_module.core.volume import Grid

POSITION_TOLERANCE_MM = 0.05
"""How far a source slice may lie from a slice of the grid and still be its source image."""

_SEGMENTATION = Concept("113076", "DCM", "Segmentation")
_SOURCE_IMAGE = Concept("121322", "DCM", "Source image for image processing operation")


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One slice of one segment.

    Attributes:
        segment: SegmentNumber.
        k: Slice of the grid.
        pixels: (J, I), not empty.
    """

    segment: int
    k: int
    pixels: NDArray[np.bool_] = field(repr=False)


def slice_instances(series: Series, grid: Grid) -> tuple[Instance, ...]:
    """The instance on each slice of the grid; empty where they do not lie on each other (a resampled grid)."""
    instances = series.instances
    if len(instances) != grid.shape[0]:
        return ()
    found = np.array([instance.position_mm for instance in instances])
    expected = np.array([_slice_position(grid, k) for k in range(grid.shape[0])])
    return instances if np.abs(found - expected).max() <= POSITION_TOLERANCE_MM else ()


def fill_frames(seg: Dataset, frames: Sequence[Frame], grid: Grid, instances: Sequence[Instance]) -> None:
    """Replace the frames of a segmentation.

    Args:
        seg: BINARY, dimensions (segment number, position), as highdicom builds it.
        frames: Sorted by segment, then slice.
        grid: Where the slices are.
        instances: Source image of each slice, or empty.
    """
    slices = sorted({frame.k for frame in frames})
    place = {k: index for index, k in enumerate(slices, start=1)}
    seg.PerFrameFunctionalGroupsSequence = [
        _frame_item(frame, place[frame.k], grid, instances[frame.k] if instances else None) for frame in frames
    ]
    shared = seg.SharedFunctionalGroupsSequence[0]
    if "SegmentIdentificationSequence" in shared:  # of a single segment; many readers look for it per frame only
        del shared.SegmentIdentificationSequence
    spacing = DSfloat(grid.spacing_mm[2], auto_format=True)
    shared.PixelMeasuresSequence[0].SpacingBetweenSlices = spacing  # highdicom measures it, and found one slice
    seg.NumberOfFrames = len(frames)
    seg.SegmentsOverlap = "YES" if _overlap(frames) else "NO"
    pixels = b"".join(_packed(frames))
    seg.PixelData = pixels + b"\0" * (len(pixels) % 2)


def _frame_item(frame: Frame, place: int, grid: Grid, instance: Instance | None) -> Dataset:
    """Functional groups of one frame (PS3.3 C.7.6.16.2)."""
    import highdicom as hd

    content = Dataset()
    content.DimensionIndexValues = [frame.segment, place]
    segment = Dataset()
    segment.ReferencedSegmentNumber = frame.segment
    item = Dataset()
    item.FrameContentSequence = [content]
    position = _slice_position(grid, frame.k) if instance is None else instance.position_mm
    item.PlanePositionSequence = hd.PlanePositionSequence("PATIENT", position)
    item.SegmentIdentificationSequence = [segment]
    item.DerivationImageSequence = [] if instance is None else [_derivation(instance)]
    return item


def _derivation(instance: Instance) -> Dataset:
    """The slice that a frame was drawn on (PS3.3 C.7.6.16.2.6)."""
    source = source_image_item(instance.sop_class_uid, instance.sop_instance_uid)
    if instance.frame is not None:
        source.ReferencedFrameNumber = instance.frame + 1
    source.SpatialLocationsPreserved = "YES"
    item = Dataset()
    item.SourceImageSequence = [source]
    item.DerivationCodeSequence = [code_item(_SEGMENTATION)]
    return item


def source_image_item(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """Item of a Source Image Sequence."""
    item = image_item(sop_class_uid, sop_instance_uid)
    item.PurposeOfReferenceCodeSequence = [code_item(_SOURCE_IMAGE)]
    return item


def image_item(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """The two UIDs that refer to an instance (PS3.3 table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def _slice_position(grid: Grid, k: int) -> Point:
    """LPS mm of the centre of voxel (0, 0, k)."""
    x, y, z = (grid.matrix[:3, 3] + k * grid.matrix[:3, 2]).tolist()
    return x, y, z


def _overlap(frames: Sequence[Frame]) -> bool:
    """Whether a voxel belongs to several segments."""
    seen: dict[int, NDArray[np.bool_]] = {}
    for frame in frames:
        before = seen.get(frame.k)
        if before is not None and (before & frame.pixels).any():
            return True
        seen[frame.k] = frame.pixels if before is None else before | frame.pixels
    return False


def _packed(frames: Sequence[Frame]) -> Iterator[bytes]:
    """One bit per voxel, first voxel in the lowest bit, frames without gaps (PS3.5 8.1.1, annex D.1)."""
    for first in range(0, len(frames), 8):  # eight frames always end with a whole byte
        bits = np.concatenate([frame.pixels.ravel() for frame in frames[first : first + 8]])
        yield np.packbits(bits, bitorder="little").tobytes()
