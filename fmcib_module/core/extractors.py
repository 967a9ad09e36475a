"""What turns a lesion into numbers: the extractors that can stand side by side, what they take in, and their interface.

An extractor is named by a card; `adapters/extractors.py` loads it. All see the same seed on the same scan: a network a
cube of its own size and scaling, radiomics the ROI's voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.conventions import AIR_HU, HU_RANGE, PATCH_SIZE, Mode
from fmcib_module.core.domain import Point, Seed
from fmcib_module.core.patch import Gather, plan_patch, sample_patch
from fmcib_module.core.plane_sampling import Mask
from fmcib_module.core.volume import Volume


class Axes(StrEnum):
    """Order of a cube's axes as a network takes them; each runs towards superior (z), posterior (y), left (x)."""

    ZYX = "zyx"
    XYZ = "xyz"


@dataclass(frozen=True, slots=True)
class InputForm:
    """What an extractor takes in.

    Attributes:
        edge: Of the cube around the seed, voxels of 1 mm; 0 for the ROI's own voxels, unscaled, with their mask.
        low_hu: Scaled to 0.
        high_hu: Scaled to 1.
        clip: Whether values outside 0..1 are cut off.
        axes: Order of the cube's axes.
    """

    edge: int = PATCH_SIZE
    low_hu: float = AIR_HU
    high_hu: float = AIR_HU + HU_RANGE
    clip: bool = False
    axes: Axes = Axes.ZYX

    @property
    def needs_mask(self) -> bool:
        """Whether a lesion must have a contour, a segment or a mask: a point is not enough."""
        return self.edge == 0

    def from_hu(self, cube_hu: NDArray[np.float32]) -> NDArray[np.float32]:
        """Hounsfield units, axes (z, y, x) -> what the network takes, float32."""
        return self._shaped((cube_hu - np.float32(self.low_hu)) / np.float32(self.high_hu - self.low_hu))

    def from_patch(self, voxels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Voxels scaled as a `Patch`'s -> what the network takes; the same bits where the scaling is the same."""
        if (self.low_hu, self.high_hu) == (AIR_HU, AIR_HU + HU_RANGE):
            return self._shaped(voxels)
        return self.from_hu(voxels * np.float32(HU_RANGE) + np.float32(AIR_HU))

    def describe(self) -> str:
        """In a few words, for ledgers and tables."""
        if self.needs_mask:
            return "voxels of the ROI, HU"
        clipped = ", clipped" if self.clip else ""
        return f"{self.edge} x {self.edge} x {self.edge} mm, {self.low_hu:g}..{self.high_hu:g} HU to 0..1{clipped}"

    def _shaped(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        clipped = np.clip(scaled, 0.0, 1.0) if self.clip else scaled
        return np.ascontiguousarray(clipped.T if self.axes is Axes.XYZ else clipped)


@dataclass(frozen=True, slots=True)
class ExtractorCard:
    """An extractor as it is chosen.

    Attributes:
        name: What the user writes.
        version: Of its weights or, for radiomics, of its definition.
        form: What it takes in.
        n_features: Features per lesion.
        licence: SPDX identifier, of the weights or the software.
        citation: What to cite.
        note: What a reader of its features should know.
    """

    name: str
    version: str
    form: InputForm
    n_features: int
    licence: str
    citation: str
    note: str = ""


CARDS: Final = (
    ExtractorCard(
        name="fmcib",
        version="Zenodo 10528450",
        form=InputForm(),
        n_features=4096,
        licence="CC-BY-NC-4.0",
        citation="doi:10.1038/s42256-024-00807-9",
    ),
    ExtractorCard(
        name="mini",
        version="1",
        form=InputForm(),
        n_features=512,
        licence="CC-BY-3.0 AND Apache-2.0 AND BSD-3-Clause",
        citation="",
        note="small network trained by us on open CT, not for conclusions",
    ),
    ExtractorCard(
        name="med3d",
        version="MedicalNet resnet_50.pth",
        form=InputForm(edge=50, low_hu=-1000.0, high_hu=1000.0, clip=True),
        n_features=2048,
        licence="MIT",
        citation="arXiv:1904.00625",
        note="as in the paper's comparison: first stride 1, no dilation (MedicalNet itself: stride 2, dilated stages)",
    ),
    ExtractorCard(
        name="models-genesis",
        version="Genesis_Chest_CT.pt",
        form=InputForm(edge=48, low_hu=-1000.0, high_hu=1000.0, clip=True, axes=Axes.XYZ),
        n_features=4096,
        licence="MIT",
        citation="doi:10.1016/j.media.2020.101840",
        note="512 maps of 6 x 6 x 6, averaged over windows of 3 at stride 2 to 2 x 2 x 2: 512 x 8 features; "
        "normalised by running statistics, not by those of the batch at hand as in the published code",
    ),
    ExtractorCard(
        name="ct-fm",
        version="ct_fm_feature_extractor",
        form=InputForm(edge=48, clip=True),
        n_features=512,
        licence="MIT",
        citation="arXiv:2501.09001",
        note="the last of five levels, averaged over space",
    ),
    ExtractorCard(
        name="radiomics",
        version="original image, 1 mm, bins of 25 HU",
        form=InputForm(edge=0),
        n_features=107,
        licence="BSD-3-Clause",
        citation="doi:10.1158/0008-5472.CAN-17-0339",
        note="pyradiomics; kurtosis is not in excess of 3 as IBSI's is",
    ),
)


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """What an extractor sees of a lesion.

    Attributes:
        voxels: (edge, edge, edge) float32 as its form makes it; HU, (K, J, I), where the form needs a mask.
        mask: (K, J, I) bool, where the form needs one.
        spacing_mm: (between columns, between rows, between slices).
    """

    voxels: NDArray[np.float32] = field(repr=False)
    mask: NDArray[np.bool_] | None = field(default=None, repr=False)
    spacing_mm: Point = (1.0, 1.0, 1.0)


class Extractor(Protocol):
    """What computes features.

    Attributes:
        card: Which extractor it is: name, version, input size and scaling, feature count, licence.
        weights_sha256: Of its weights; empty where it has none.
        feature_names: Of each feature; empty where they have only numbers.
    """

    card: ExtractorCard
    weights_sha256: str
    feature_names: tuple[str, ...]

    def encode(self, patches: Sequence[Region]) -> NDArray[np.float32]:
        """Features of lesions, (n, n_features) float32, each independent of the others."""


def cut_cube(volume: Volume, seed: Seed, mode: Mode, form: InputForm, gather: Gather | None = None) -> Region:
    """The cube that a network takes, from the slices under it; those that the volume holds are not decoded again.

    Raises:
        SeedOutsideVolumeError: The cube and the resampled scan have no voxel in common.
    """
    plan = plan_patch(volume.grid, seed, mode=mode, series_uid=volume.series_uid, edge=form.edge)
    return Region(form.from_patch(sample_patch(volume, plan, gather)))


ROI_MARGIN_MM: Final = 10.0
"""Around an ROI's bounding box: what its resampling needs."""


def cut_roi(volume: Volume, mask: Mask) -> Region:
    """An ROI's bounding box and a margin, on the scan's own grid.

    Args:
        volume: The scan.
        mask: The first slice, and (n_slices, J, I) bool.
    """
    first, inside = mask
    spacing = volume.grid.spacing_mm
    found = [np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    margins = [int(np.ceil(ROI_MARGIN_MM / spacing[2 - axis])) for axis in range(3)]
    starts = [int(at[0]) + (first if axis == 0 else 0) for axis, at in enumerate(found)]
    stops = [int(at[-1]) + 1 + (first if axis == 0 else 0) for axis, at in enumerate(found)]
    low = [max(0, start - margin) for start, margin in zip(starts, margins, strict=True)]
    high = [min(n, stop + margin) for n, stop, margin in zip(volume.grid.shape, stops, margins, strict=True)]
    rows, columns = slice(low[1], high[1]), slice(low[2], high[2])
    box = np.zeros((high[0] - low[0], high[1] - low[1], high[2] - low[2]), dtype=np.bool_)
    at = first - low[0]
    kept = inside[max(0, -at) : len(inside) - max(0, at + len(inside) - len(box)), rows, columns]
    box[max(0, at) : max(0, at) + len(kept)] = kept
    voxels = volume.read_slab(low[0], high[0])[:, rows, columns]
    return Region(np.ascontiguousarray(voxels), box, spacing)
