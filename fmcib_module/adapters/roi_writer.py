"""Write RTSTRUCT and SEG objects on the CT of `study_writer`: the example patient's and the phantoms' ROIs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from fmcib_module.adapters.study_writer import (
    MANUFACTURER,
    MODEL_NAME,
    StudyTags,
    dataset_of,
    start_dataset,
    uid_from,
)
from fmcib_module.core.domain import Point

if TYPE_CHECKING:
    import highdicom


@dataclass(frozen=True, slots=True)
class RoiContours:
    """One ROI of an RTSTRUCT: closed planar contours.

    Attributes:
        name: ROIName.
        contours: Each (n, 3), LPS millimetres, first point not repeated.
        roi_type: RTROIInterpretedType.
    """

    name: str
    contours: tuple[NDArray[np.float64], ...]
    roi_type: str = "GTV"


def ellipse_lps(
    centre: Point, first_mm: NDArray[np.float64], second_mm: NDArray[np.float64], *, points: int = 48
) -> NDArray[np.float64]:
    """Make a closed polygon on an ellipse, (points, 3) LPS mm; symmetric about `centre` when `points` is even.

    Args:
        centre: LPS millimetres.
        first_mm: One half-axis as a vector, LPS millimetres.
        second_mm: The other half-axis.
        points: How many corners.
    """
    angles = 2 * np.pi * np.arange(points) / points
    around: NDArray[np.float64] = np.outer(np.cos(angles), first_mm) + np.outer(np.sin(angles), second_mm)
    around += np.asarray(centre)
    return around


def rtstruct_dataset(
    rois: Sequence[RoiContours], ct: Sequence[Dataset], tags: StudyTags, *, label: str = "PHANTOM"
) -> Dataset:
    """Make an RT Structure Set drawn on a CT (PS3.3 A.19).

    Args:
        rois: ROI numbers follow the order, from 1.
        ct: The CT's datasets; a contour references the nearest slice, if one lies within 0.01 mm of its plane.
        tags: Patient and study.
        label: StructureSetLabel, 16 characters at most.
    """
    series_uid = uid_from(tags.key, "rtstruct", label)
    ds = start_dataset(RTStructureSetStorage, "RTSTRUCT", series_uid, tags, syntax=ImplicitVRLittleEndian)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid_from(series_uid, "object")
    ds.OperatorsName = ""
    ds.StructureSetLabel = label
    ds.StructureSetDate, ds.StructureSetTime = tags.date, tags.time
    ds.ApprovalStatus = "UNAPPROVED"
    contour_images = [_image_reference(slice_) for slice_ in ct]
    ct_series = dataset_of(SeriesInstanceUID=ct[0].SeriesInstanceUID, ContourImageSequence=contour_images)
    ct_study = dataset_of(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",  # Detached Study Management, as planning systems write
        ReferencedSOPInstanceUID=tags.study_uid,
        RTReferencedSeriesSequence=[ct_series],
    )
    ds.ReferencedFrameOfReferenceSequence = [
        dataset_of(FrameOfReferenceUID=tags.frame_of_reference_uid, RTReferencedStudySequence=[ct_study])
    ]
    ds.StructureSetROISequence = [
        dataset_of(
            ROINumber=number,
            ReferencedFrameOfReferenceUID=tags.frame_of_reference_uid,
            ROIName=roi.name,
            ROIGenerationAlgorithm="MANUAL",
        )
        for number, roi in enumerate(rois, start=1)
    ]
    ds.ROIContourSequence = [
        dataset_of(
            ReferencedROINumber=number,
            ROIDisplayColor=[255, 60 * number % 256, 0],
            ContourSequence=[_contour(points, ct) for points in roi.contours],
        )
        for number, roi in enumerate(rois, start=1)
    ]
    ds.RTROIObservationsSequence = [
        dataset_of(ObservationNumber=n, ReferencedROINumber=n, RTROIInterpretedType=roi.roi_type, ROIInterpreter="")
        for n, roi in enumerate(rois, start=1)
    ]
    return ds


def seg_dataset(
    masks: Mapping[str, NDArray[np.bool_]], ct: Sequence[Dataset], tags: StudyTags, *, kind: str = "BINARY"
) -> "highdicom.seg.Segmentation":
    """Make a DICOM Segmentation on a CT, one segment per mask, as highdicom writes it.

    Args:
        masks: Segment label -> (K, J, I) mask; segment numbers follow the order, from 1.
        ct: The CT's datasets in the order of k; one multi-frame object is given as its single dataset.
        tags: Patient and study.
        kind: BINARY, FRACTIONAL or LABELMAP.
    """
    import highdicom as hd  # heavy: a second of imports that reading and inspecting never need
    from pydicom.sr.codedict import codes

    stack = np.stack(list(masks.values()), axis=-1)
    algorithm = hd.AlgorithmIdentificationSequence(
        name=MODEL_NAME, family=codes.DCM.ArtificialIntelligence, version="1"
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Lesion,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=uid_from(tags.key, "seg", kind, label),
            tracking_id=label,
        )
        for number, label in enumerate(masks, start=1)
    ]
    seg = hd.seg.Segmentation(
        source_images=ct,
        pixel_array=stack.astype(np.float32) if kind == "FRACTIONAL" else stack.astype(np.uint8),
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid=uid_from(tags.key, "seg series", kind),
        series_number=3,
        sop_instance_uid=uid_from(tags.key, "seg object", kind),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions="1",
        device_serial_number="1",
        content_label="PHANTOM",
    )
    seg.SeriesDescription = f"SEG {kind}"
    _make_reproducible(seg, tags)
    return seg


def _make_reproducible(seg: Dataset, tags: StudyTags) -> None:
    """Replace what highdicom takes from the clock and from random numbers: equal input gives equal objects."""
    seg.ContentDate = seg.InstanceCreationDate = tags.date
    seg.ContentTime = seg.InstanceCreationTime = tags.time
    for equipment in seg.ContributingEquipmentSequence:
        if "ContributionDateTime" in equipment:
            equipment.ContributionDateTime = tags.date + tags.time
    organization = uid_from(seg.SOPInstanceUID, "dimensions")
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization


def _contour(points_lps: NDArray[np.float64], ct: Sequence[Dataset]) -> Dataset:
    contour = dataset_of(
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=len(points_lps),
        ContourData=[f"{value:.6f}" for value in points_lps.ravel()],
    )
    first = ct[0]
    normal = np.cross(first.ImageOrientationPatient[:3], first.ImageOrientationPatient[3:])
    offsets = [abs(float(normal @ (points_lps[0] - np.asarray(s.ImagePositionPatient, float)))) for s in ct]
    nearest = int(np.argmin(offsets))
    if offsets[nearest] < 0.01:
        contour.ContourImageSequence = [_image_reference(ct[nearest])]
    return contour


def _image_reference(ds: Dataset) -> Dataset:
    return dataset_of(ReferencedSOPClassUID=ds.SOPClassUID, ReferencedSOPInstanceUID=ds.SOPInstanceUID)
