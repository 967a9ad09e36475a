"""The values that flow down the chain: Study -> Series -> Seed -> Patch -> Features."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.comparison import ModeDrift, Stability
from fmcib_module.core.conventions import PATCH_SIZE, Flag, Mode, SeedKind
from fmcib_module.core.errors import FmcibError
from fmcib_module.core.heads import HeadFacts, HeadScore

Point = tuple[float, float, float]
"""(x, y, z), LPS millimetres."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One slice of a series: a single-frame object, or one frame of a multi-frame object.

    Attributes:
        path: File that holds it.
        sop_instance_uid: SOPInstanceUID of the file's object.
        sop_class_uid: SOPClassUID of the file's object.
        frame: 0-based frame index in a multi-frame object, None for single-frame.
        position_mm: ImagePositionPatient: centre of the first transmitted voxel, LPS mm (PS3.3 C.7.6.2.1.1).
        orientation: ImageOrientationPatient, row direction then column direction.
        spacing_mm: PixelSpacing as (between rows, between columns), PS3.3 10.7.1.3.
        shape: (rows, columns).
        instance_number: InstanceNumber, 0 where absent.
        acquisition_number: AcquisitionNumber, None where absent.
        slice_thickness_mm: SliceThickness, None where absent; only a series of one slice needs it.
    """

    path: Path
    sop_instance_uid: str
    sop_class_uid: str
    frame: int | None
    position_mm: Point
    orientation: tuple[float, float, float, float, float, float]
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    instance_number: int = 0
    acquisition_number: int | None = None
    slice_thickness_mm: float | None = None


@dataclass(frozen=True, slots=True)
class RoiSource:
    """An object or file that gives seeds: RTSTRUCT, SEG, a seed table, a mask or a report.

    Attributes:
        path: The file.
        kind: What it is.
        uid: SOPInstanceUID; for files that are not DICOM, the path relative to INPUT.
        referenced_series_uids: Series that it says it was drawn on; empty where it does not say.
        referenced_sop_uids: Images that it says it was drawn on.
        frame_of_reference_uid: Empty where unknown.
        study_uid: StudyInstanceUID; empty where unknown.
        sop_class_uid: SOPClassUID; empty for files that are not DICOM.
    """

    path: Path
    kind: SeedKind
    uid: str
    referenced_series_uids: tuple[str, ...] = ()
    referenced_sop_uids: frozenset[str] = frozenset()
    frame_of_reference_uid: str = ""
    study_uid: str = ""
    sop_class_uid: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """One image series: a stack of slices that should be one volume, and the ROI sources drawn on it.

    Attributes:
        uid: SeriesInstanceUID; for an image file, its name made safe as a folder name.
        study_uid: StudyInstanceUID; empty for an image file.
        modality: DICOM Modality ("CT" for an image file).
        frame_of_reference_uid: Empty where unknown.
        instances: Slices sorted by position along the normal; empty for an image file and for what has no geometry.
            A skipped CT (a perfusion map) keeps them, so that it can be read when it is asked for by name.
        image_path: NIfTI, NRRD or MHA file; None for DICOM.
        roi_sources: RTSTRUCT, SEG, seed tables, masks and reports that belong to this series.
        flags: What the importer noticed.
        skip_reason: Why no features are computed from this series; empty where it is a candidate.
        output_name: Folder name under OUTPUT.
    """

    uid: str
    study_uid: str
    modality: str
    frame_of_reference_uid: str = ""
    instances: tuple[Instance, ...] = ()
    image_path: Path | None = None
    roi_sources: tuple[RoiSource, ...] = ()
    flags: tuple[Flag, ...] = ()
    skip_reason: str = ""
    output_name: str = ""


@dataclass(frozen=True, slots=True)
class Study:
    """One study; image files that are not DICOM are gathered in a study with an empty uid."""

    uid: str
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Seed:
    """A lesion's centre.

    Attributes:
        lps_mm: Position, LPS millimetres, in the series' frame of reference.
        label: ROI name or segment label, exactly as in the source object.
        source_uid: SOPInstanceUID of a DICOM object; a file name for tables and masks; "" if given by hand.
        kind: What it was made from.
        roi_number: ROINumber, SegmentNumber, mask label or place in a report; None for points.
        extent_mm: Size of the ROI's bounding box along x, y, z, millimetres; None for points.
        volume_mm3: Volume of the ROI; None for points.
        flags: What a reader should know.
    """

    lps_mm: Point
    label: str
    source_uid: str
    kind: SeedKind = SeedKind.POINT
    roi_number: int | None = None
    extent_mm: Point | None = None
    volume_mm3: float | None = None
    flags: tuple[Flag, ...] = ()

    def __post_init__(self) -> None:
        if len(self.lps_mm) != 3 or not all(np.isfinite(self.lps_mm)):
            msg = f"lps_mm must be three finite numbers, got {self.lps_mm!r}"
            raise ValueError(msg)
        object.__setattr__(self, "lps_mm", tuple(float(v) for v in self.lps_mm))


@dataclass(frozen=True, slots=True, eq=False)  # eq=False: arrays have no single truth value
class Patch:
    """The network's input cube around a lesion.

    Attributes:
        voxels: (50, 50, 50) float32, axes (z, y, x) = (k, j, i) of the LPS grid, scaled by `scale_hu`; read-only.
        seed: Where it was cut.
        series_uid: Series it was cut from.
        mode: How it was cut.
        outside_share: Share of the patch's voxels outside the scan, 0..1.
        seed_index_kji: Voxel of the patch that holds the seed; (25, 25, 25) unless a border moved it.
        variant: What was changed on purpose (`core/variants.py`); empty for the lesion's own patch.
    """

    voxels: NDArray[np.float32]
    seed: Seed
    series_uid: str
    mode: Mode = Mode.PUBLISHED
    outside_share: float = 0.0
    seed_index_kji: tuple[int, int, int] = (25, 25, 25)
    variant: str = ""

    def __post_init__(self) -> None:
        if self.voxels.shape != (PATCH_SIZE,) * 3 or self.voxels.dtype != np.float32:
            msg = f"voxels must be float32 (50, 50, 50), got {self.voxels.dtype} {self.voxels.shape}"
            raise ValueError(msg)
        self.voxels.setflags(write=False)


@dataclass(frozen=True, slots=True, eq=False)
class Lesion:
    """One row of the results: a seed and its features.

    Attributes:
        seed: The lesion's centre, with all flags gathered on the way.
        values: (n_features,) float32; read-only.
        variants: Name of a variant of its patch -> its features, where the settings asked for any.
        stability: How far the features move with the seed.
        drift: How far they move from mode to mode.
        reference_distance: How far they lie from the reference cohort of the weights, as a share of the limit; None
            where the weights have no reference.
        scores: What each head says of it.
    """

    seed: Seed
    values: NDArray[np.float32] = field(repr=False)
    variants: Mapping[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    stability: Stability | None = None
    drift: tuple[ModeDrift, ...] = ()
    reference_distance: float | None = None
    scores: tuple[HeadScore, ...] = ()

    def __post_init__(self) -> None:
        if self.values.ndim != 1 or self.values.dtype != np.float32:
            msg = f"values must be 1-D float32, got {self.values.dtype} {self.values.shape}"
            raise ValueError(msg)
        self.values.setflags(write=False)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made the features; written into every output.

    Attributes:
        weights: Registry name of the weights, or the file's name.
        weights_sha256: SHA-256 of the weights file.
        weights_note: One sentence on what they are ("small network trained by us: ..."), empty for the published ones.
        mode: Preprocessing mode.
        version: Version of this package.
        heads: What is applied to the features.
    """

    weights: str
    weights_sha256: str
    weights_note: str
    mode: Mode
    version: str
    heads: tuple[HeadFacts, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class SeriesReport:
    """All lesions of one series, with what made them: the writers' input."""

    series: Series
    lesions: tuple[Lesion, ...]
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class RoiFailure:
    """An ROI, segment or seed file that gives no seed, or no features, and why; it goes to the ledger.

    Attributes:
        label: ROI name, segment label or file name.
        roi_number: ROINumber, SegmentNumber or mask label, None where there is none.
        source_uid: As in `Seed`.
        kind: As in `Seed`.
        error: What went wrong.
    """

    label: str
    roi_number: int | None
    source_uid: str
    kind: SeedKind
    error: FmcibError


@dataclass(frozen=True, slots=True)
class FileProblem:
    """A file in INPUT that looks like imaging data but cannot be used, and why; it goes to the ledger.

    Attributes:
        path: Relative to INPUT.
        uid: SOPInstanceUID where it could be read, else "".
        error: What went wrong.
    """

    path: str
    uid: str
    error: FmcibError


@dataclass(frozen=True, slots=True)
class Scan:
    """Everything found in INPUT; nothing that looks like imaging data is left out.

    Attributes:
        studies: Sorted by uid; series sorted by uid, skipped ones included.
        problems: Damaged files, and ROI sources that belong to no image series.
        ignored_files: How many other files were there (text, DICOMDIR, pictures).
    """

    studies: tuple[Study, ...]
    problems: tuple[FileProblem, ...] = ()
    ignored_files: int = 0
