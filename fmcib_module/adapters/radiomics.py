"""Radiomics of an ROI through pyradiomics: 107 features of the original image, no filters.

Shape, first order, GLCM, GLRLM, GLSZM, GLDM and NGTDM. Definitions follow IBSI but for those that pyradiomics names:
kurtosis is not in excess of 3, first-order variance is that of IBSI, entropy and uniformity are those of the
discretised image, and bins of a fixed width begin at multiples of the width.

References:
    van Griethuysen et al. 2017, doi:10.1158/0008-5472.CAN-17-0339;
    Zwanenburg et al. 2020, doi:10.1148/radiol.2020191145 (IBSI).
"""

import logging
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.errors import ConfigError, InputError
from fmcib_module.core.extractors import ExtractorCard, Region

BIN_WIDTH_HU: Final = 25.0
SPACING_MM: Final = 1.0

FIX: Final = 'install the extra: pip install "fmcib-module[radiomics]"'


class RadiomicsExtractor:
    """Features of ROIs; an `Extractor`.

    Attributes:
        card: As given.
        weights_sha256: Empty.
        feature_names: As pyradiomics names them, without the image type: "shape_Elongation", ...
    """

    weights_sha256 = ""

    def __init__(
        self, card: ExtractorCard, *, bin_width_hu: float = BIN_WIDTH_HU, spacing_mm: float = SPACING_MM
    ) -> None:
        """Set pyradiomics up.

        Args:
            card: What it is called.
            bin_width_hu: Of the discretisation.
            spacing_mm: Image (B-spline) and mask (nearest voxel) are resampled to it; 0 leaves them as they are.

        Raises:
            ConfigError: pyradiomics is not installed.
        """
        check_installed()
        self.card = card
        settings: dict[str, Any] = {"binWidth": bin_width_hu, "label": 1, "additionalInfo": False}
        if spacing_mm:
            settings["resampledPixelSpacing"] = [spacing_mm] * 3
        features = import_module("radiomics.featureextractor")
        # after the import, which sets it too: it warns of each default that it takes, for every lesion
        logging.getLogger("radiomics").setLevel(logging.ERROR)
        self._extractor: Any = features.RadiomicsFeatureExtractor(**settings)
        self._extractor.disableAllFeatures()
        for name, names in feature_classes().items():
            self._extractor.enableFeaturesByName(**{name: names})
        self.feature_names = measured_names()

    def encode(self, patches: Sequence[Region]) -> NDArray[np.float32]:
        """(n, 107) float32.

        Raises:
            InputError: A region has no mask, or one too small to measure (a single voxel, a single plane's line).
        """
        rows = [self._measure(region) for region in patches]
        return np.array(rows, dtype=np.float32).reshape(len(rows), len(self.feature_names))

    def _measure(self, region: Region) -> list[float]:
        itk: Any = import_module("SimpleITK")
        if region.mask is None:
            raise InputError("there is no ROI to measure", "radiomics", "draw the lesion: a point is not enough")
        image, mask = itk.GetImageFromArray(region.voxels), itk.GetImageFromArray(region.mask.astype(np.uint8))
        for one in (image, mask):
            one.SetSpacing(region.spacing_mm)
        try:
            found = self._extractor.execute(image, mask)
        except (ValueError, RuntimeError, IndexError, np.linalg.LinAlgError) as error:
            # its messages name no file and no person: sizes and labels of the mask
            raise InputError(f"radiomics cannot measure the ROI: {error}", "radiomics", "check the contour") from error
        return [float(found[f"original_{name}"]) for name in self.feature_names]


def check_installed() -> None:
    """Whether pyradiomics is there.

    Raises:
        ConfigError: It is not.
    """
    if find_spec("radiomics") is None:
        raise ConfigError("pyradiomics is not installed", "extractor radiomics", FIX)


def measured_names() -> tuple[str, ...]:
    """Of all features, in the order in which they are measured."""
    return tuple(f"{kind}_{name}" for kind, names in feature_classes().items() for name in names)


def feature_classes() -> dict[str, list[str]]:
    """Class -> its features in alphabetical order, those left out that pyradiomics calls deprecated or not 3-D."""
    classes: dict[str, Any] = import_module("radiomics").getFeatureClasses()
    return {
        name: sorted(feature for feature, deprecated in kind.getFeatureNames().items() if not deprecated)
        for name, kind in sorted(classes.items())
        if name != "shape2D"
    }
