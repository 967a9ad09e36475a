"""Every convention that more than one part relies on, defined once.

Positions are DICOM patient coordinates: LPS (x to the patient's Left, y to Posterior, z to Superior), millimetres.
Voxel arrays are indexed (k, j, i) = (slice, row, column); an index triple named ``ijk`` is (column, row, slice).
"""

from enum import StrEnum
from typing import Final

PATCH_SIZE: Final = 50
"""Edge of the cubic patch in voxels (Pai et al. 2024, Methods)."""

PATCH_SPACING_MM: Final = 1.0
"""Isotropic spacing of the patch, millimetres."""

AIR_HU: Final = -1024.0
"""Outside the scan, and where PixelPaddingValue says that nothing was measured; scales to 0."""

HU_RANGE: Final = 3072.0
"""Width of the scaling: (HU + 1024) / 3072 maps -1024..2048 to 0..1; values outside are not clipped."""

PUBLISHED_SPACING_MM: Final = 3.0
"""Slice thickness above which the paper excluded scans."""


FARTHEST_MM: Final = 1e6
"""A coordinate of a kilometre or more is a damaged number, not a place in a patient."""


class Mode(StrEnum):
    """How a patch is cut (see docs/preprocessing.md)."""

    PUBLISHED = "published"  # numerically the published pipeline on MONAI 1.4.0, quirks included
    PUBLISHED_MONAI16 = "published-monai16"  # the same on MONAI 1.6, whose resampling rule changed
    CENTRED = "centred"  # resampled as published, but the seed's voxel is always the patch's centre


class SeedKind(StrEnum):
    """What a seed was made from."""

    RTSTRUCT = "RTSTRUCT"  # contours of an RT Structure Set
    SEG = "SEG"  # a segment of a DICOM Segmentation
    POINT = "POINT"  # coordinates from JSON, CSV or a 3D Slicer markup
    MASK = "MASK"  # a label of a NIfTI, NRRD or MHA mask
    SR = "SR"  # coordinates of a DICOM Structured Report
    GSPS = "GSPS"  # graphics of a DICOM Presentation State


DICOM_KINDS: Final = frozenset({SeedKind.RTSTRUCT, SeedKind.SEG, SeedKind.SR, SeedKind.GSPS})
"""Sources that are DICOM objects: named by their SOPInstanceUID, linked by the UIDs that they refer to."""

REPORT_KINDS: Final = frozenset({SeedKind.SR, SeedKind.GSPS})
"""Reports: what most of them hold is no lesion, so that one without coordinates is nothing that went wrong."""

POINT_KINDS: Final = frozenset({SeedKind.POINT, *REPORT_KINDS})
"""Sources that say where a lesion is but give no mask of it."""


class Irregular(StrEnum):
    """What to do with slices that are not one uniform grid (gantry tilt, gaps, uneven spacing)."""

    REFUSE = "refuse"  # an error that names the slice
    RESAMPLE = "resample"  # linear interpolation onto a uniform grid, flagged


class Flag(StrEnum):
    """What a reader of the results should know; each appears in ledger, CSV and SR."""

    LARGER_THAN_PATCH = "larger_than_patch"
    OUTSIDE_MASK = "centroid_outside_roi"
    NEAR_BORDER = "near_border"
    LOW_TISSUE = "low_tissue"
    SEED_IN_AIR = "seed_in_air"
    NOT_HOUNSFIELD = "not_hounsfield_values"
    COARSE_SPACING = "coarse_spacing"
    OTHER_FRAME_OF_REFERENCE = "other_frame_of_reference"
    UNRESOLVED_REFERENCES = "unresolved_references"
    NOT_ALL_CLOSED_PLANAR = "not_all_closed_planar"
    SEVERAL_CONTOUR_DIRECTIONS = "several_contour_directions"  # e.g. axial and sagittal: only the largest stack counts
    GANTRY_TILT_RESAMPLED = "gantry_tilt_resampled"
    SPACING_RESAMPLED = "spacing_resampled"
    ACQUISITION_SPLIT = "acquisition_split"
    DUPLICATE_SLICES = "duplicate_slices"
    LOSSY_COMPRESSION = "lossy_compression"
    FAR_FROM_REFERENCE = "far_from_reference"
