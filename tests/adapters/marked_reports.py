"""Reports and presentation states on phantom studies, written by highdicom."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from tests.phantoms import PhantomStudy

MAKER = {"manufacturer": "A vendor", "manufacturer_model_name": "A workstation", "software_versions": "1"}
LONG_AXIS = hd.sr.CodedConcept("103339001", "SCT", "Long Axis")
SHORT_AXIS = hd.sr.CodedConcept("103340004", "SCT", "Short Axis")
CT_OF_SOMETHING = hd.sr.CodedConcept("25045-6", "LN", "CT unspecified body region")
LENGTH = hd.sr.CodedConcept("410668003", "SCT", "Length")


def index_of(study: PhantomStudy, name: str) -> NDArray[np.float64]:
    """(i, j, k) of a lesion's centre: column, row and slice, from 0."""
    ijk = np.linalg.solve(study.affine, [*study.centroids[name], 1.0])[:3]
    return np.asarray(ijk)


def slice_at(study: PhantomStudy, k: float) -> Dataset:
    """A slice's header."""
    return pydicom.dcmread(study.ct_paths[round(k)], stop_before_pixels=True)


def line(study: PhantomStudy, name: str, half: tuple[float, float]) -> NDArray[np.float64]:
    """A line through a lesion's centre: column and row of both ends, where a pixel's centre is at .5 (C.18.6)."""
    middle = index_of(study, name)[:2] + 0.5
    return np.array([middle - half, middle + half])


def measured(concept: Any, points: NDArray[np.float64], image: Dataset, graphic: str = "POLYLINE") -> Any:
    """A measurement (TID 300) inferred from a graphic on an image."""
    source = hd.sr.SourceImageForRegion.from_source_image(image)
    where = hd.sr.CoordinatesForMeasurement(graphic, np.asarray(points), source)
    return hd.sr.Measurement(concept, 10.0, codes.UCUM.Millimeter, referenced_coordinates=[where])


def group(label: str, *measurements: Any, **fields: Any) -> Any:
    """A measurement group (TID 1501); highdicom wants a tracking identifier, which may be blank."""
    identifier = hd.sr.TrackingIdentifier(hd.UID(), label or " ")
    return hd.sr.MeasurementsAndQualitativeEvaluations(identifier, measurements=measurements or None, **fields)


def region(label: str, graphic: str, points: Any, image: Dataset) -> Any:
    """A planar region of interest on an image (TID 1410)."""
    drawn = hd.sr.ImageRegion(graphic, np.asarray(points), hd.sr.SourceImageForRegion.from_source_image(image))
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(hd.sr.TrackingIdentifier(hd.UID(), label), drawn)


def surface(label: str, graphic: str, points: Any, study: PhantomStudy, *, frame_uid: str = "") -> Any:
    """A volume's surface in space (TID 1411)."""
    drawn = hd.sr.VolumeSurface(
        graphic,
        points,
        frame_uid or study.frame_of_reference_uid,
        source_series=hd.sr.SourceSeriesForSegmentation(study.series_uid),
    )
    identifier = hd.sr.TrackingIdentifier(hd.UID(), label)
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(identifier, referenced_volume_surface=drawn)


def write_sr(path: Path, study: PhantomStudy, groups: Sequence[Any], *more: Dataset) -> str:
    """Write a measurement report (TID 1500) on a study and `more` images; returns its SOPInstanceUID."""
    observer = hd.sr.ObserverContext(codes.DCM.Device, hd.sr.DeviceObserverIdentifyingAttributes(hd.UID()))
    content = hd.sr.MeasurementReport(hd.sr.ObservationContext(observer), CT_OF_SOMETHING, imaging_measurements=groups)
    evidence = [pydicom.dcmread(one, stop_before_pixels=True) for one in study.ct_paths]
    report = hd.sr.Comprehensive3DSR(
        [*evidence, *more], content[0], hd.UID(), 9, hd.UID(), 1, device_serial_number="1", **MAKER
    )
    report.save_as(path)
    return str(report.SOPInstanceUID)


def write_gsps(path: Path, study: PhantomStudy, drawn: Sequence[tuple[float, Sequence[Any]]]) -> str:
    """Write a presentation state with graphics on slices (number, graphics); returns its SOPInstanceUID."""
    layer = hd.pr.GraphicLayer("MEASURE", order=1)
    images = [pydicom.dcmread(one) for one in study.ct_paths]
    state = hd.pr.GrayscaleSoftcopyPresentationState(
        images,
        hd.UID(),
        9,
        hd.UID(),
        1,
        device_serial_number="1",
        content_label="MEASURED",
        graphic_layers=[layer],
        graphic_annotations=[
            hd.pr.GraphicAnnotation([images[round(k)]], layer, graphic_objects=graphics) for k, graphics in drawn
        ],
        **MAKER,
    )
    state.save_as(path)
    return str(state.SOPInstanceUID)
