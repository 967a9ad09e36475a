"""Section `views` of a training run's settings: how views are made of patches."""

from dataclasses import dataclass
from enum import StrEnum

from fmcib_module.core.conventions import PATCH_SIZE
from fmcib_module.core.errors import ConfigError


class CropMeasure(StrEnum):
    """What the scale of a random resized crop is a share of."""

    EDGE = "edge"  # as the published code does; half the edge is an eighth of the volume
    VOLUME = "volume"  # as SimCLR's area


class Flips(StrEnum):
    """Which axes are flipped."""

    EACH_AXIS = "each-axis"  # each with the probability, by itself
    ONE_AXIS = "one-axis"  # with the probability, one axis drawn of the three, as published


class SmoothBorder(StrEnum):
    """What smoothing sees outside the view."""

    EDGE = "edge"  # the border's voxels go on
    ZERO_HU = "zero-hu"  # as published where smoothing comes before scaling: a bright rim around lung
    AIR = "air"  # as published where scaling comes first (its SimCLR, NNCLR, SwAV and auto-encoder)


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """Section `views`.

    Attributes:
        scale: Least and largest size of the random resized crop, relative to the patch of 50 (or its volume). Above
            1 it takes in surroundings as far as `data.margin` goes.
        crop_measure: edge or volume.
        keep_radius: Voxels around the seed that a crop never cuts off, as far as it is large enough. 0 keeps the
            seed's own voxel, which crops of 26 and more always do; -1 leaves small crops free, as published.
        jitter: Largest random shift of the seed on each axis, voxels; not above `data.margin`.
        flips: each-axis or one-axis.
        flip_probability: See `flips`.
        shift_probability: Of the histogram shift.
        control_points: Of the histogram shift; fewer shift more.
        smooth_probability: Of the Gaussian smoothing.
        sigma: Least and largest standard deviation of the smoothing, voxels of the view, drawn for each axis.
        smooth_border: edge, zero-hu or air.
        threshold: Raise what is below -1024 HU to it.
        paste_probability: Mixed: of a pair of lesions to be replaced by procedural ones in the same surroundings.
        noise_probability: Mixed: of white noise.
        noise_hu: Its largest standard deviation.
        full_size: Mixed: edge of the views, voxels; smaller ones cost less.
        small_size: Edge of small crops (SwAV), voxels.
        small_scale: As `scale`, of small crops.
    """

    scale: tuple[float, ...] = (0.5, 1.0)
    crop_measure: CropMeasure = CropMeasure.EDGE
    keep_radius: int = 0
    jitter: int = 0
    flips: Flips = Flips.EACH_AXIS
    flip_probability: float = 0.5
    shift_probability: float = 0.5
    control_points: int = 10
    smooth_probability: float = 0.5
    sigma: tuple[float, ...] = (0.25, 1.5)
    smooth_border: SmoothBorder = SmoothBorder.EDGE
    threshold: bool = True
    paste_probability: float = 0.0
    noise_probability: float = 0.0
    noise_hu: float = 50.0
    full_size: int = PATCH_SIZE
    small_size: int = 25
    small_scale: tuple[float, ...] = (0.3, 0.5)

    def __post_init__(self) -> None:
        for name in ("scale", "small_scale", "sigma"):
            values = getattr(self, name)
            if len(values) != 2 or not 0 < values[0] <= values[1]:
                raise ConfigError(f"{name} is {values}", "views", "give least and largest, both above 0")
        for name in (
            "flip_probability",
            "shift_probability",
            "smooth_probability",
            "paste_probability",
            "noise_probability",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", "views", "use 0 to 1")
        if self.control_points < 3:
            raise ConfigError(f"control_points is {self.control_points}", "views", "use 3 or more")
        for name, least in (("keep_radius", -1), ("jitter", 0), ("full_size", 1), ("small_size", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}", "views", f"use {least} or more")
