"""Labels of a NIfTI, NRRD or MHA mask -> seeds and masks."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from fmcib_module.adapters.image_files import file_stem, read_mask
from fmcib_module.adapters.roi_candidates import RoiCandidate, size_flags
from fmcib_module.core.centroid import compute_mask_centroid, crop, mask_on_grid
from fmcib_module.core.conventions import SeedKind
from fmcib_module.core.domain import RoiSource, Seed, Series
from fmcib_module.core.errors import SeedNotFoundError
from fmcib_module.core.volume import Grid


def list_labels(source: RoiSource, series: Series) -> list[RoiCandidate]:
    """The labels of a mask, sorted; each nonzero value is one ROI.

    The name is the file's, with the label's number where there are several.

    Raises:
        InputError: The mask cannot be read.
        SeedNotFoundError: It is empty.
    """
    labels, affine = read_mask(source.path)
    numbers = [int(number) for number in np.unique(labels) if number != 0]
    stem = file_stem(source.path)
    if not numbers:
        where = f"mask of series {series.uid}, {source.uid}"
        raise SeedNotFoundError("the mask is empty: every voxel is 0", where, "draw it, or take the file away")
    names = [stem] if len(numbers) == 1 else [f"{stem} {number}" for number in numbers]
    return [
        RoiCandidate(name, number, source, partial(_make_seeds, labels, affine, source, number, name))
        for number, name in zip(numbers, names, strict=True)
    ]


def label_mask(source: RoiSource, seed: Seed, grid: Grid) -> tuple[int, NDArray[np.bool_]] | None:
    """One label of a mask on a grid, nearest voxel.

    Returns:
        The first slice, and (n_slices, J, I) bool; None if no voxel is inside.

    Raises:
        InputError: The mask cannot be read.
    """
    labels, affine = read_mask(source.path)
    block = crop(labels == seed.roi_number, affine)
    return mask_on_grid([block] if block is not None else [], grid)


def _make_seeds(
    labels: NDArray[np.integer], affine: NDArray[np.float64], source: RoiSource, number: int, name: str
) -> tuple[Seed, ...]:
    block = crop(labels == number, affine)
    found = compute_mask_centroid([block] if block is not None else [])
    if found is None:
        raise SeedNotFoundError("the label is empty", f"label {number} of {source.uid}", "draw it again")
    return (
        Seed(
            found.lps_mm,
            label=name,
            source_uid=source.uid,
            kind=SeedKind.MASK,
            roi_number=number,
            extent_mm=found.extent_mm,
            volume_mm3=found.volume_mm3,
            flags=size_flags(found.extent_mm, is_inside=found.is_inside),
        ),
    )
