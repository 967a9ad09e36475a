"""Turn a phantom's single slices into one Enhanced CT Image object (PS3.3 A.38.1), frames in a shuffled order."""

from collections.abc import Sequence

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian

from fmcib_module.adapters.study_writer import dataset_of, uid_from
from tests.phantoms import PhantomStudy

_PER_SLICE = {
    *("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SliceThickness"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth", "KVP"),
    *("AcquisitionNumber", "AcquisitionDate", "AcquisitionTime"),
}


def to_enhanced(study: PhantomStudy, *, seed: int = 0, shuffled: bool = True) -> Dataset:
    """Replace the CT's files with ct/enhanced.dcm and point the RTSTRUCT's image references at its frames.

    Frame n of the object is not slice n: frames are found by PlanePositionSequence alone. The SEG still
    references the single slices, as objects do that were made before a conversion.
    """
    slices = [pydicom.dcmread(path) for path in study.ct_paths]
    order = np.random.default_rng(seed).permutation(len(slices)) if shuffled else np.arange(len(slices))
    enhanced = _object(slices, [int(k) for k in order])
    for path in study.ct_paths:
        path.unlink()
    enhanced.save_as(study.ct_paths[0].with_name("enhanced.dcm"), enforce_file_format=True)
    if study.rtstruct_path is not None:
        frame_of = {slices[k].SOPInstanceUID: n for n, k in enumerate(order, start=1)}
        _redirect(study, enhanced, frame_of)
    return enhanced


def _object(slices: Sequence[Dataset], order: list[int]) -> Dataset:
    first = slices[0]
    ds = Dataset()
    ds.update({e.tag: e for e in first if e.keyword not in _PER_SLICE})
    ds.file_meta = first.file_meta
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = EnhancedCTImageStorage
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = uid_from(first.SOPInstanceUID, "enhanced")
    ds.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "NONE"]  # DERIVED: no acquisition groups are required
    ds.InstanceNumber = 1
    ds.DeviceSerialNumber = "1"
    ds.AcquisitionDateTime = first.StudyDate + first.StudyTime
    ds.ContentQualification, ds.BurnedInAnnotation, ds.LossyImageCompression = "RESEARCH", "NO", "00"
    ds.PixelPresentation, ds.VolumetricProperties, ds.VolumeBasedCalculationTechnique = "MONOCHROME", "VOLUME", "NONE"
    ds.PresentationLUTShape = "IDENTITY"
    ds.AcquisitionContextSequence = []
    ds.NumberOfFrames = len(slices)
    organization = uid_from(ds.SOPInstanceUID, "dimensions")
    ds.DimensionOrganizationSequence = [dataset_of(DimensionOrganizationUID=organization)]
    ds.DimensionIndexSequence = [
        dataset_of(
            DimensionOrganizationUID=organization, DimensionIndexPointer=0x00209057, FunctionalGroupPointer=0x00209111
        )
    ]  # InStackPositionNumber in FrameContentSequence
    ds.SharedFunctionalGroupsSequence = [_shared_groups(first)]
    ds.PerFrameFunctionalGroupsSequence = [_frame_groups(slices[k], k) for k in order]
    ds.PixelData = b"".join(slices[k].PixelData for k in order)
    return ds


def _shared_groups(first: Dataset) -> Dataset:
    anatomy = dataset_of(CodeValue="51185008", CodingSchemeDesignator="SCT", CodeMeaning="Chest")
    return dataset_of(
        PixelMeasuresSequence=[dataset_of(PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness)],
        PlaneOrientationSequence=[dataset_of(ImageOrientationPatient=first.ImageOrientationPatient)],
        IrradiationEventIdentificationSequence=[dataset_of(IrradiationEventUID=uid_from(first.SOPInstanceUID, "ray"))],
        FrameAnatomySequence=[dataset_of(FrameLaterality="U", AnatomicRegionSequence=[anatomy])],
        CTImageFrameTypeSequence=[
            dataset_of(
                FrameType=["DERIVED", "PRIMARY", "VOLUME", "NONE"],
                PixelPresentation="MONOCHROME",
                VolumetricProperties="VOLUME",
                VolumeBasedCalculationTechnique="NONE",
            )
        ],
        FrameVOILUTSequence=[dataset_of(WindowCenter=first.WindowCenter, WindowWidth=first.WindowWidth)],
    )


def _frame_groups(slice_: Dataset, k: int) -> Dataset:
    rescale = dataset_of(
        RescaleSlope=slice_.RescaleSlope, RescaleIntercept=slice_.RescaleIntercept, RescaleType=slice_.RescaleType
    )
    context = dataset_of(StackID="1", InStackPositionNumber=k + 1, DimensionIndexValues=[k + 1])
    return dataset_of(
        FrameContentSequence=[context],
        PlanePositionSequence=[dataset_of(ImagePositionPatient=slice_.ImagePositionPatient)],
        PixelValueTransformationSequence=[rescale],
    )


def _redirect(study: PhantomStudy, enhanced: Dataset, frame_of: dict[str, int]) -> None:
    assert study.rtstruct_path is not None
    rtstruct = pydicom.dcmread(study.rtstruct_path)
    frame_of_reference = rtstruct.ReferencedFrameOfReferenceSequence[0]
    series = frame_of_reference.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    series.ContourImageSequence = [_reference(enhanced)]
    for roi in rtstruct.ROIContourSequence:
        for contour in roi.ContourSequence:
            uid = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
            contour.ContourImageSequence = [_reference(enhanced, ReferencedFrameNumber=frame_of[uid])]
    rtstruct.save_as(study.rtstruct_path)


def _reference(ds: Dataset, **more: int) -> Dataset:
    return dataset_of(ReferencedSOPClassUID=ds.SOPClassUID, ReferencedSOPInstanceUID=ds.SOPInstanceUID, **more)
