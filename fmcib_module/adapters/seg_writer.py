"""Outlines of the lesions as a derived DICOM Segmentation (highdicom).

highdicom takes one array of (slices, rows, columns, segments) and needs several copies of it, gigabytes for ten
lesions in a long scan. It builds the object around one frame here, and the frames that are not empty follow.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.adapters.derived import (
    PRODUCT,
    common_arguments,
    copy_identity,
    read_header,
    refer_to_all,
    tolerant_of_source,
    without_names,
)
from fmcib_module.adapters.encoded_items import encode_item
from fmcib_module.adapters.seg_frames import Frame, fill_frames, image_item, slice_instances, source_image_item
from fmcib_module.core.conventions import SeedKind
from fmcib_module.core.domain import Seed, Series, SeriesReport
from fmcib_module.core.report import (
    LESION,
    MORPHOLOGIC_ABNORMALITY,
    deterministic_uid,
    tracking_identifier,
    tracking_uid,
)
from fmcib_module.core.volume import Grid

if TYPE_CHECKING:
    import highdicom as hd

SERIES_NUMBER = 9002
"""High, so that it does not meet the scanner's own numbers."""

LABEL_BYTES = 64
"""SegmentLabel is a Long String of 64 characters (PS3.5 6.2), but dicom3tools counts bytes; TrackingID has it all."""

Mask = tuple[int, NDArray[np.bool_]]
"""(first_k, (n, J, I)): a lesion's voxels in the slices first_k .. first_k + n - 1 of the CT's grid."""


@dataclass(frozen=True, slots=True, eq=False)
class _Outline:
    """A seed whose mask has voxels, with its frames; `number` is its SegmentNumber."""

    number: int
    seed: Seed
    frames: list[Frame] = field(repr=False)


def write_seed_seg(report: SeriesReport, masks: Sequence[Mask], grid: Grid, path: Path) -> Dataset | None:
    """Write one BINARY segment per lesion whose mask has voxels; only frames that are not empty.

    Args:
        report: Lesions of a DICOM series; each segment carries the same tracking identifiers as in the SR.
        masks: One per lesion of `report`, in the same order, on `grid`.
        grid: The CT's grid. Frames refer to the series' instances where these lie on its slices; on a resampled
            grid they have positions only.
        path: OUTPUT/<series_uid>/seeds.seg.dcm.

    Returns:
        The object without its pixels, for `write_sr`; None, and no file, where no mask has a voxel or the series
        has no FrameOfReferenceUID, which a SEG must name.

    Raises:
        OutputError: The file cannot be written.
        PixelDataError: The source cannot be read any more.
        ValueError: Masks do not fit lesions or grid, or the report is of an image file.
    """
    _check(report, masks, grid)
    with tolerant_of_source():
        header = read_header(report.series)
        outlines = _outlines(report, masks)
        if not outlines or "FrameOfReferenceUID" not in header:
            return None
        seg = _token_object(report, outlines, grid, header)
        frames = [frame for outline in outlines for frame in outline.frames]
        fill_frames(seg, frames, grid, slice_instances(report.series, grid))
        _refer_to_series(seg, report.series)
        copy_identity(header, seg)
        seg.ContentCreatorName = None  # unknown, but type 2 (PS3.3 table 10-12)
        write_bytes(path, _encoded(seg, report.series))
    del seg.PixelData
    return seg


def _check(report: SeriesReport, masks: Sequence[Mask], grid: Grid) -> None:
    if not report.series.instances or len(masks) != len(report.lesions):
        msg = f"a SEG needs a DICOM series and one mask per lesion, got {len(masks)} for {len(report.lesions)}"
        raise ValueError(msg)
    for first_k, mask in masks:
        if mask.shape[1:] != grid.shape[1:] or first_k < 0 or first_k + len(mask) > grid.shape[0]:
            msg = f"a mask of shape {mask.shape} from slice {first_k} does not fit the grid {grid.shape}"
            raise ValueError(msg)


def _outlines(report: SeriesReport, masks: Sequence[Mask]) -> list[_Outline]:
    outlines: list[_Outline] = []
    for lesion, (first_k, mask) in zip(report.lesions, masks, strict=True):
        number = len(outlines) + 1
        frames = [Frame(number, k, pixels) for k, pixels in enumerate(mask, start=first_k) if pixels.any()]
        if frames:
            outlines.append(_Outline(number, lesion.seed, frames))
    return outlines


def _token_object(report: SeriesReport, outlines: Sequence[_Outline], grid: Grid, header: Dataset) -> Dataset:
    """The whole object, with one frame that stands for those to come."""
    import highdicom as hd

    series_uid = report.series.uid
    x, y, z = grid.spacing_mm
    orientation = (grid.matrix[:3, :2] / (x, y)).T.ravel().tolist()
    token = np.zeros((1, *grid.shape[1:]), dtype=np.uint8)
    token[0, 0, 0] = 1
    return hd.seg.Segmentation(
        source_images=[_as_single_frame(report.series, header, grid)],
        pixel_array=token,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(series_uid, report, outline) for outline in outlines],
        plane_positions=[hd.PlanePositionSequence("PATIENT", grid.matrix[:3, 3].tolist())],
        plane_orientation=hd.PlaneOrientationSequence("PATIENT", orientation),
        pixel_measures=hd.PixelMeasuresSequence(pixel_spacing=(y, x), slice_thickness=z, spacing_between_slices=z),
        series_number=SERIES_NUMBER,
        instance_number=1,
        series_description="FMCIB seeds",
        content_label="FMCIB_SEEDS",
        content_description="Outlines of the lesions that features were computed for",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **common_arguments(report.provenance, "seg", report.series, _contents(series_uid, outlines)),
    )


def _contents(series_uid: str, outlines: Iterable[_Outline]) -> list[str]:
    return [tracking_uid(series_uid, outline.seed) for outline in outlines]


def _as_single_frame(series: Series, header: Dataset, grid: Grid) -> Dataset:
    """The source's header as highdicom wants it, for single-frame and multi-frame sources alike."""
    source = without_names(header)
    source.Rows, source.Columns = grid.shape[1:]
    source.Modality = series.modality
    source.SOPClassUID = CTImageStorage
    first = series.instances[0]
    source.ImagePositionPatient, source.ImageOrientationPatient = list(first.position_mm), list(first.orientation)
    source.PixelSpacing, source.SliceThickness = list(first.spacing_mm), grid.spacing_mm[2]
    if "NumberOfFrames" in source:
        del source.NumberOfFrames
    return source


def _description(series_uid: str, report: SeriesReport, outline: _Outline) -> "hd.seg.SegmentDescription":
    """Segment of a lesion: calculated from what a person, or another program, gave (PS3.3 C.8.20.4)."""
    import highdicom as hd

    seed = outline.seed
    identifier = tracking_identifier(seed)
    algorithm = hd.AlgorithmIdentificationSequence(
        name=PRODUCT,
        family=hd.sr.CodedConcept("123109", "DCM", "Manual Processing"),
        version=report.provenance.version,
    )
    segment = hd.seg.SegmentDescription(
        segment_number=outline.number,
        segment_label=_long_string(identifier),
        segmented_property_category=hd.sr.CodedConcept(*MORPHOLOGIC_ABNORMALITY),
        segmented_property_type=hd.sr.CodedConcept(*LESION),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=tracking_uid(series_uid, seed),
        tracking_id=identifier,
    )
    segment.SegmentDescription = _origin(seed)
    return segment


def _origin(seed: Seed) -> str:
    """What a segment is a copy of."""
    number = "" if seed.roi_number is None else f" {seed.roi_number}"
    return {
        SeedKind.RTSTRUCT: f"Copy of the contours of ROI{number} in RTSTRUCT {seed.source_uid}, filled in",
        SeedKind.SEG: f"Copy of segment{number} in SEG {seed.source_uid}",
        SeedKind.MASK: f"Copy of label{number} in the mask file {seed.source_uid}",
        SeedKind.POINT: "Marks the point that was given; it does not outline the lesion",
        SeedKind.SR: f"Marks measurement{number} of SR {seed.source_uid}; it does not outline the lesion",
        SeedKind.GSPS: f"Marks graphic{number} of GSPS {seed.source_uid}; it does not outline the lesion",
    }[seed.kind]


def _long_string(text: str) -> str:
    """Without what a Long String must not hold (PS3.5 6.2): backslash, control characters, too many of any."""
    allowed = "".join(char if char.isprintable() and char != "\\" else " " for char in text)
    return allowed.encode()[:LABEL_BYTES].decode(errors="ignore").strip() or "-"


def _refer_to_series(seg: Dataset, series: Series) -> None:
    """Refer to the first instance of the source series, which stands for all; other UIDs follow from our own."""
    first = series.instances[0]
    item = Dataset()
    item.SeriesInstanceUID = series.uid
    item.ReferencedInstanceSequence = [image_item(first.sop_class_uid, first.sop_instance_uid)]
    seg.ReferencedSeriesSequence = [item]
    seg.SourceImageSequence = [source_image_item(first.sop_class_uid, first.sop_instance_uid)]
    organization = deterministic_uid("dimensions", seg.SOPInstanceUID)
    for dimension in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        dimension.DimensionOrganizationUID = organization


def _encoded(seg: Dataset, series: Series) -> bytes:
    """The file's bytes, with references to every instance of the series (PS3.3 C.12.1.1 and C.7.6.16.2.1)."""
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, seg, enforce_file_format=True)
    first = series.instances[0].sop_class_uid, series.instances[0].sop_instance_uid
    purpose = encode_item(source_image_item(*first))[len(encode_item(image_item(*first))) :]
    return refer_to_all(refer_to_all(buffer.getvalue(), series), series, rest=purpose)
