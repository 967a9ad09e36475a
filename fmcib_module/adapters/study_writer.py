"""Write small, standard-conforming CT series: the example patient and the tests' phantoms."""

import uuid
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from fmcib_module.core.volume import Grid

UID_NAMESPACE: Final = uuid.UUID("6f8ddc4e-3a27-5f0a-9a0e-0f5a1f1d7c55")
MANUFACTURER: Final = "fmcib-module"
MODEL_NAME: Final = "phantom"

Rescale = tuple[float, float]
"""(RescaleSlope, RescaleIntercept): HU = slope x stored + intercept (PS3.3 C.11.1.1.2)."""


def uid_from(*parts: object) -> UID:
    """Make the same UID from the same parts (UUID-derived, PS3.5 B.2)."""
    return UID(f"2.25.{uuid.uuid5(UID_NAMESPACE, '|'.join(map(str, parts))).int}")


@dataclass(frozen=True, slots=True)
class StudyTags:
    """What all objects of one study share.

    Attributes:
        key: Every UID of the study is derived from it.
        patient_name: DICOM PN.
        patient_id: PatientID.
        date: StudyDate and every other date, YYYYMMDD.
        time: StudyTime and every other time, HHMMSS.
        description: StudyDescription.
    """

    key: str
    patient_name: str = "PHANTOM^TEST"
    patient_id: str = "PHANTOM-1"
    date: str = "20240102"
    time: str = "120000"
    description: str = "Phantom"

    @property
    def study_uid(self) -> UID:
        """StudyInstanceUID."""
        return uid_from(self.key, "study")

    @property
    def frame_of_reference_uid(self) -> UID:
        """FrameOfReferenceUID."""
        return uid_from(self.key, "frame of reference")


def ct_datasets(
    voxels_hu: NDArray[Any],
    grid: Grid,
    tags: StudyTags,
    *,
    rescale: Sequence[Rescale] = ((1.0, -1024.0),),
    series_description: str = "CT phantom",
) -> list[Dataset]:
    """Make one CT Image object per slice (PS3.3 A.3), uncompressed.

    Args:
        voxels_hu: (K, J, I), Hounsfield units; rounded to what the rescale can store in 16 bits.
        grid: Where the voxels are; slice k is one object.
        tags: Patient and study.
        rescale: One pair for all slices, or one pair per slice.
        series_description: SeriesDescription.

    Returns:
        K datasets in the order of k, ready for `save_as`.

    Raises:
        ValueError: Shapes differ, or the stored values do not fit 16 bits.
    """
    if voxels_hu.shape != grid.shape:
        msg = f"voxels are {voxels_hu.shape}, the grid is {grid.shape}"
        raise ValueError(msg)
    pairs = list(rescale) * (grid.shape[0] if len(rescale) == 1 else 1)
    series_uid = uid_from(tags.key, "ct", series_description)
    template = start_dataset(CTImageStorage, "CT", series_uid, tags)
    _add_ct_attributes(template, grid, series_description)
    datasets = []
    for k, (slope, intercept) in enumerate(pairs):
        ds = Dataset()
        ds.update(template)  # slices share the elements that do not differ
        ds.file_meta = deepcopy(template.file_meta)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid_from(series_uid, k)
        ds.InstanceNumber = k + 1
        ds.ImagePositionPatient = _ds(grid.matrix[:3, 3] + k * grid.matrix[:3, 2])
        ds.RescaleSlope, ds.RescaleIntercept = _ds((slope, intercept))
        _add_pixels(ds, voxels_hu[k], slope, intercept)
        datasets.append(ds)
    return datasets


def start_dataset(
    sop_class_uid: UID, modality: str, series_uid: UID, tags: StudyTags, *, syntax: UID = ExplicitVRLittleEndian
) -> Dataset:
    """Make the modules every object has: patient, study, series, frame of reference, equipment."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = sop_class_uid
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = sop_class_uid
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = tags.patient_name, tags.patient_id, "", "O"
    ds.StudyInstanceUID, ds.StudyID, ds.AccessionNumber = tags.study_uid, "1", ""
    ds.StudyDate, ds.StudyTime, ds.StudyDescription = tags.date, tags.time, tags.description
    ds.ReferringPhysicianName = ""
    ds.Modality, ds.SeriesInstanceUID = modality, series_uid
    ds.SeriesNumber = 1 if modality == "CT" else 2
    ds.SeriesDate, ds.SeriesTime = tags.date, tags.time
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = tags.frame_of_reference_uid, ""
    ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = MANUFACTURER, MODEL_NAME, "1"
    return ds


def _add_ct_attributes(ds: Dataset, grid: Grid, series_description: str) -> None:
    columns, rows, slices = grid.spacing_mm
    row_direction, column_direction = grid.matrix[:3, 0] / columns, grid.matrix[:3, 1] / rows
    ds.SeriesDescription = series_description
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.AcquisitionNumber = 1
    ds.AcquisitionDate, ds.AcquisitionTime = ds.ContentDate, ds.ContentTime = ds.StudyDate, ds.StudyTime
    ds.BodyPartExamined, ds.PatientPosition = "CHEST", "HFS"
    ds.KVP = "120"
    ds.ImageOrientationPatient = _ds((*row_direction, *column_direction))
    ds.PixelSpacing = _ds((rows, columns))
    ds.SliceThickness = DSfloat(slices, auto_format=True)
    ds.Rows, ds.Columns = grid.shape[1:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.RescaleType = "HU"
    ds.WindowCenter, ds.WindowWidth = "40", "400"


def _add_pixels(ds: Dataset, slice_hu: NDArray[Any], slope: float, intercept: float) -> None:
    stored = np.rint((slice_hu - intercept) / slope)
    signed = bool(stored.min() < 0)
    dtype = np.dtype("<i2" if signed else "<u2")
    if stored.min() < np.iinfo(dtype).min or stored.max() > np.iinfo(dtype).max:
        msg = f"stored values {stored.min()}..{stored.max()} do not fit {dtype}"
        raise ValueError(msg)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, int(signed)
    ds.PixelData = stored.astype(dtype).tobytes()
    ds["PixelData"].VR = "OW"


def dataset_of(**attributes: Any) -> Dataset:
    """Make a dataset from keywords; lists under a ...Sequence keyword become items."""
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, DicomSequence(value) if keyword.endswith("Sequence") else value)
    return ds


def _ds(values: Sequence[float] | NDArray[np.float64]) -> list[DSfloat]:
    return [DSfloat(float(value), auto_format=True) for value in values]
