"""Image files of a folder -> which are CT images, which are masks, and what each is called."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final

from fmcib_module.adapters.image_files import file_stem
from fmcib_module.core.domain import Series
from fmcib_module.core.naming import safe_name

_MASK_WORD: Final = re.compile(
    r"(masks?|labels?|labelmaps?|segs?|segmentations?|rois?|contours?|tumou?rs?|lesions?|nodules?|[gcp]tv[a-z0-9]*)"
)
_IMAGE_WORD: Final = re.compile(r"(ct|ce?ct|images?|img|scan|volume)")
_MASK_FOLDER: Final = re.compile(r"(masks?|labels?|labelmaps?|segs?|segmentations?|rois?|contours?)(tr|ts)?")


def is_mask(path: Path, root: Path) -> bool:
    """Whether an image file is a mask, by its name or its folder's.

    The last telling word of the name decides ("ct_mask" is a mask, "lesion_ct" is not); without one, a folder such as
    masks/ or labelsTr/ below the root does.
    """
    words = [word.lower() for word in re.split(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])", file_stem(path)) if word]
    for word in reversed(words):
        if _MASK_WORD.fullmatch(word):
            return True
        if _IMAGE_WORD.fullmatch(word):
            return False
    return path.parent != root and _MASK_FOLDER.fullmatch(path.parent.name.lower()) is not None


def image_series(paths: Sequence[Path], root: Path) -> list[Series]:
    """Make a series of each CT image file.

    Its uid is a readable name: the folder's below the root where the folder holds just that image, else folder_file;
    a number is added where two would be the same.
    """
    in_folder = Counter(path.parent for path in paths)
    taken: set[str] = set()
    series: list[Series] = []
    for path in sorted(paths):
        folders = path.parent.relative_to(root).parts
        alone = folders and in_folder[path.parent] == 1
        name = safe_name("_".join(folders if alone else (*folders, file_stem(path))).replace(" ", "_"))
        uid, number = name, 1
        while uid.casefold() in taken:
            number += 1
            uid = f"{name}.{number}"
        taken.add(uid.casefold())
        series.append(Series(uid=uid, study_uid="", modality="CT", image_path=path, output_name=uid))
    return series


def image_of_mask(mask: Path, images: Sequence[Path], root: Path) -> Path | None:
    """The image that a mask belongs to.

    Looked for in the mask's own folder, then in the folder above, then by the same name in a sibling folder; among
    several, the one whose name has the longest common beginning with the mask's, if that is one.
    """
    own = [path for path in images if path.parent == mask.parent]
    above = [path for path in images if mask.parent != root and path.parent == mask.parent.parent]
    beside = [
        path
        for path in images
        if mask.parent != root and path.parent.parent == mask.parent.parent and file_stem(path) == file_stem(mask)
    ]
    for group in (own, above, beside):
        if group:
            return _best_by_name(mask, group)
    return None


def _best_by_name(mask: Path, images: Sequence[Path]) -> Path | None:
    if len(images) == 1:
        return images[0]
    lengths = {path: _common_start(file_stem(path).lower(), file_stem(mask).lower()) for path in images}
    longest = max(lengths.values())
    best = [path for path, length in lengths.items() if length == longest]
    return best[0] if longest > 0 and len(best) == 1 else None


def _common_start(a: str, b: str) -> int:
    """How many characters two texts begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
