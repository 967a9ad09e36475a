"""What the report says in words."""

from typing import Final

from fmcib_module.core.conventions import PATCH_SIZE, Flag

RESEARCH_ONLY: Final = (
    "Research use only. Not a medical device: nothing on this page is a diagnosis or a basis for treatment."
)

FLAG_MEANINGS: Final[dict[Flag, str]] = {
    Flag.LARGER_THAN_PATCH: f"The ROI extends over more than {PATCH_SIZE} mm on an axis: the patch shows a part of it.",
    Flag.OUTSIDE_MASK: "The centroid is not inside the ROI itself (a ring, a bent shape, or several parts).",
    Flag.NEAR_BORDER: "A part of the patch lies outside the scan; in published modes the lesion is then off centre.",
    Flag.LOW_TISSUE: "Less than 1 % of the patch is tissue: the seed may lie in air, beside the patient.",
    Flag.SEED_IN_AIR: "The 5 mm around the seed are air or healthy lung: the seed may have missed the lesion.",
    Flag.NOT_HOUNSFIELD: "Values do not look like Hounsfield units: beyond -1500..4000, constant, or dense throughout.",
    Flag.COARSE_SPACING: "Voxels or slices are larger than 3 mm, which the paper excluded.",
    Flag.OTHER_FRAME_OF_REFERENCE: "The ROI names this series but another frame of reference.",
    Flag.UNRESOLVED_REFERENCES: "The ROI references images that are not in the series; slices were found by position.",
    Flag.NOT_ALL_CLOSED_PLANAR: "Some contours are points or open lines.",
    Flag.SEVERAL_CONTOUR_DIRECTIONS: "Contours lie in several directions; only the largest stack counts.",
    Flag.GANTRY_TILT_RESAMPLED: "The slices were tilted and have been interpolated onto a straight grid.",
    Flag.SPACING_RESAMPLED: "The slices were unevenly spaced and have been interpolated.",
    Flag.ACQUISITION_SPLIT: "The series held several acquisitions; each is treated by itself.",
    Flag.DUPLICATE_SLICES: "Copies of a slice were left out.",
    Flag.LOSSY_COMPRESSION: "The images were compressed with loss.",
    Flag.FAR_FROM_REFERENCE: "The features lie farther from the reference cohort than 99.5 % of its own lesions do.",
}


def flag_title(flag: str) -> str:
    """A flag as people read it: "near border"."""
    return flag.replace("_", " ")


def flag_meaning(flag: str) -> str:
    """One sentence on a flag; empty for one that this version does not know."""
    return FLAG_MEANINGS[Flag(flag)] if flag in set(Flag) else ""
