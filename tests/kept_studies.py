"""Phantom studies are made once per process and copied afterwards: most tests ask for the same few."""

import atexit
import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec

if TYPE_CHECKING:
    from tests.phantoms import PhantomStudy

P = ParamSpec("P")

KEPT_VOXELS: Final = 1_000_000
"""Larger studies are made anew each time."""


def made_once(
    write: "Callable[Concatenate[Path, P], PhantomStudy]",
) -> "Callable[Concatenate[Path, P], PhantomStudy]":
    """Keep what a writer of studies writes for the same arguments, all of which have a meaningful `repr`."""
    kept: dict[str, PhantomStudy] = {}

    @wraps(write)
    def copied(folder: Path, /, *args: P.args, **options: P.kwargs) -> "PhantomStudy":
        shape = options.get("shape_kji", ())
        if isinstance(shape, tuple) and math.prod(shape) > KEPT_VOXELS:
            return write(folder, *args, **options)
        key = repr((args, sorted(options.items())))
        if key not in kept:
            kept[key] = write(_keep_folder() / str(len(kept)), *args, **options)
        return _copy(kept[key], folder)

    return copied


@cache
def _keep_folder() -> Path:
    """Where studies are kept until the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="phantoms-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _copy(kept: "PhantomStudy", folder: Path) -> "PhantomStudy":
    """The same study elsewhere; nothing is shared with the kept one, which tests therefore cannot damage."""
    shutil.copytree(kept.folder, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)

    def moved(path: Path) -> Path:
        return folder / path.relative_to(kept.folder)

    return replace(
        kept,
        folder=folder,
        ct_paths=tuple(map(moved, kept.ct_paths)),
        rtstruct_path=kept.rtstruct_path and moved(kept.rtstruct_path),
        seg_path=kept.seg_path and moved(kept.seg_path),
        centroids=dict(kept.centroids),
        voxels_hu=kept.voxels_hu.copy(),
        affine=kept.affine.copy(),
        masks={name: mask.copy() for name, mask in kept.masks.items()},
    )
