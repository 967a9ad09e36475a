"""Series built by hand, and RTSTRUCTs with whatever contours a test needs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

from fmcib_module.core.conventions import SeedKind
from fmcib_module.core.domain import Instance, RoiSource, Series
from fmcib_module.core.volume import Grid

SERIES_UID = "1.2.3.1"
FRAME_UID = "1.2.3.2"


def source_of(path: Path) -> RoiSource:
    """An RTSTRUCT or SEG."""
    dataset = pydicom.dcmread(path, specific_tags=["Modality", "SOPInstanceUID"])
    return RoiSource(path, SeedKind(dataset.Modality), str(dataset.SOPInstanceUID))


def series_of(folder: Path, *sources: Path) -> Series:
    """The CT slices in a folder, sorted along z, with RTSTRUCTs and SEGs."""
    slices = []
    for path in sorted(folder.iterdir()):
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        if dataset.Modality == "CT":
            slices.append((dataset, path))
    slices.sort(key=lambda pair: float(pair[0].ImagePositionPatient[2]))
    first = slices[0][0]
    return Series(
        uid=first.SeriesInstanceUID,
        study_uid=first.StudyInstanceUID,
        modality="CT",
        frame_of_reference_uid=first.FrameOfReferenceUID,
        instances=tuple(_instance(dataset, path) for dataset, path in slices),
        roi_sources=tuple(source_of(path) for path in sources),
    )


def bare_series(*sources: RoiSource, uid: str = SERIES_UID, frame_uid: str = FRAME_UID, **fields: Any) -> Series:
    """A series without slices."""
    return Series(
        uid=uid, study_uid="1.2.3", modality="CT", frame_of_reference_uid=frame_uid, roi_sources=sources, **fields
    )


def grid_of(series: Series) -> Grid:
    """The grid of a series of evenly spaced slices."""
    first, last = series.instances[0], series.instances[-1]
    matrix = np.eye(4)
    matrix[:3, 0] = np.array(first.orientation[:3]) * first.spacing_mm[1]
    matrix[:3, 1] = np.array(first.orientation[3:]) * first.spacing_mm[0]
    matrix[:3, 2] = (np.array(last.position_mm) - first.position_mm) / (len(series.instances) - 1)
    matrix[:3, 3] = first.position_mm
    return Grid.from_matrix((len(series.instances), *first.shape), matrix)


def contour(points: Any, kind: str = "CLOSED_PLANAR", image_uid: str = "") -> Dataset:
    """One item of a Contour Sequence; `points` is (n, 3) LPS mm."""
    item = Dataset()
    item.ContourGeometricType = kind
    flat = np.asarray(points, dtype=float).ravel()
    item.NumberOfContourPoints = len(flat) // 3
    item.ContourData = [f"{value:.6f}" for value in flat]
    if image_uid:
        image = Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", image_uid
        item.ContourImageSequence = [image]
    return item


def write_rtstruct(
    path: Path,
    rois: Sequence[tuple[int, str, Sequence[Dataset]]],
    *,
    frame_uid: str = FRAME_UID,
    referenced_series_uid: str = "",
    sop_uid: str = "1.2.3.9",
) -> RoiSource:
    """Write the parts of an RTSTRUCT that hold geometry; `rois` are (number, name, contours)."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = RTStructureSetStorage, sop_uid
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = RTStructureSetStorage, sop_uid, "RTSTRUCT"
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, name, contours in rois:
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame_uid
        drawn.ReferencedROINumber = number
        if contours:
            drawn.ContourSequence = list(contours)
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(drawn)
    if referenced_series_uid:
        frame, study, series = Dataset(), Dataset(), Dataset()
        series.SeriesInstanceUID = referenced_series_uid
        study.RTReferencedSeriesSequence = [series]
        frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = frame_uid, [study]
        dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.save_as(path, enforce_file_format=True)
    return RoiSource(path, SeedKind.RTSTRUCT, sop_uid)


def _instance(dataset: Dataset, path: Path) -> Instance:
    x, y, z = (float(value) for value in dataset.ImagePositionPatient)
    a, b, c, d, e, f = (float(value) for value in dataset.ImageOrientationPatient)
    rows, columns = (float(value) for value in dataset.PixelSpacing)
    return Instance(
        path=path,
        sop_instance_uid=dataset.SOPInstanceUID,
        sop_class_uid=dataset.SOPClassUID,
        frame=None,
        position_mm=(x, y, z),
        orientation=(a, b, c, d, e, f),
        spacing_mm=(rows, columns),
        shape=(dataset.Rows, dataset.Columns),
    )
