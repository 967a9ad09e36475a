"""Enhanced and legacy-converted multi-frame CT -> one slice per frame, from its functional groups (pydicom)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from fmcib_module.core.acquisitions import LabelledSlice
from fmcib_module.core.domain import Instance

_TAGS: Final = [
    Tag(keyword)
    for keyword in (
        *("SOPClassUID", "SOPInstanceUID", "ImageType", "AcquisitionNumber", "NumberOfFrames", "Rows", "Columns"),
        *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    )
]

DERIVED_CONTRASTS: Final = frozenset({"RCBF", "RCBV", "MTT", "TTP", "TMAX", "PEI"})
"""Values of Image Type's fourth value (PS3.3 C.8.15.2.1.1.4) that mark maps, not Hounsfield units."""


def functional_group(dataset: Dataset, frame: int, keyword: str) -> Dataset | None:
    """A functional group's item for a frame: the frame's own, else the shared one (PS3.3 C.7.6.16).

    Args:
        dataset: Multi-frame object with its functional groups.
        frame: 0-based frame index.
        keyword: The group's sequence, for example "PlanePositionSequence".

    Returns:
        None where neither has it.
    """
    per_frame: Any = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared: Any = dataset.get("SharedFunctionalGroupsSequence") or []
    for groups in (per_frame[frame : frame + 1], shared[:1]):
        for group in groups:
            if group.get(keyword):
                return group[keyword][0]  # type: ignore[no-any-return]
    return None


def read_frames(path: Path) -> tuple[LabelledSlice, ...]:
    """Read the geometry of every frame that is a CT slice; localizer frames are left out.

    Raises:
        ValueError: No frame has a position, orientation and pixel spacing; and what pydicom raises on damaged files.
    """
    dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=True)
    slices = tuple(_frames(path, dataset))
    if not slices:
        msg = "no frame has a position, orientation and pixel spacing"
        raise ValueError(msg)
    return slices


def not_hounsfield(slices: tuple[LabelledSlice, ...]) -> str:
    """Why frames hold no Hounsfield units (perfusion maps); empty where they do."""
    words = {word for s in slices for word in dict(s.labels)["ImageType"].split("\\")}
    maps = sorted(words & DERIVED_CONTRASTS)
    return f"a map of {', '.join(maps)}, not Hounsfield units" if maps else ""


def _frames(path: Path, dataset: Dataset) -> Iterator[LabelledSlice]:
    for frame in range(int(dataset.get("NumberOfFrames") or 1)):
        position = functional_group(dataset, frame, "PlanePositionSequence")
        orientation = functional_group(dataset, frame, "PlaneOrientationSequence")
        measures = functional_group(dataset, frame, "PixelMeasuresSequence")
        frame_type = _frame_type(dataset, frame)
        if position is None or orientation is None or measures is None or "LOCALIZER" in frame_type:
            continue
        content = functional_group(dataset, frame, "FrameContentSequence") or Dataset()
        thickness = measures.get("SliceThickness")
        x, y, z = (float(v) for v in position.ImagePositionPatient)
        cosines = [float(v) for v in orientation.ImageOrientationPatient]
        between_rows, between_columns = (float(v) for v in measures.PixelSpacing)
        acquisition = content.get("FrameAcquisitionNumber", dataset.get("AcquisitionNumber"))
        instance = Instance(
            path=path,
            sop_instance_uid=str(dataset.SOPInstanceUID),
            sop_class_uid=str(dataset.SOPClassUID),
            frame=frame,
            position_mm=(x, y, z),
            orientation=(cosines[0], cosines[1], cosines[2], cosines[3], cosines[4], cosines[5]),
            spacing_mm=(between_rows, between_columns),
            shape=(int(dataset.Rows), int(dataset.Columns)),
            instance_number=frame + 1,
            acquisition_number=None if acquisition is None else int(acquisition),
            slice_thickness_mm=None if thickness is None else float(thickness),
        )
        yield LabelledSlice(instance, _labels(dataset, content, frame_type, acquisition))


def _frame_type(dataset: Dataset, frame: int) -> tuple[str, ...]:
    group = functional_group(dataset, frame, "CTImageFrameTypeSequence")
    value: Any = (group or dataset).get("FrameType" if group is not None else "ImageType") or ()
    return tuple(str(word).upper() for word in ([value] if isinstance(value, str) else value))


def _labels(
    dataset: Dataset, content: Dataset, frame_type: tuple[str, ...], acquisition: object
) -> tuple[tuple[str, str], ...]:
    return (
        ("SOPInstanceUID", str(dataset.SOPInstanceUID)),
        ("AcquisitionNumber", str(acquisition or "")),
        ("TemporalPositionIndex", str(content.get("TemporalPositionIndex", ""))),
        ("NominalPercentageOfCardiacPhase", str(content.get("NominalPercentageOfCardiacPhase", ""))),
        ("StackID", str(content.get("StackID", ""))),
        ("ImageType", "\\".join(frame_type)),
    )
