"""What the benchmarks run on: scans of clinical size, lesions in them, and random weights of the published network.

Everything follows from fixed seeds and is made once per work folder. Run as a program in a process of its own, so
that the measuring process stays small: Linux counts a parent's memory into the peak of the children that it starts.
"""

import argparse
import csv
import json
import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.adapters.study_writer import StudyTags, ct_datasets, uid_from
from fmcib_module.core.domain import Point
from fmcib_module.core.volume import Grid

CLINICAL_SHAPE: Final = (300, 512, 512)
"""Slices, rows, columns of a chest CT."""

TINY_SHAPE: Final = (40, 64, 64)
"""For smoke tests."""

SMALL_SHAPE: Final = (12, 64, 64)
"""Of scans that there are thousands of."""

SPACING_MM: Final = (0.8, 0.8, 1.25)
"""Between columns, rows, slices."""

MARGIN_MM: Final = 30.0
"""Lesions stay this far from the border (half a patch is 25 mm), or in the middle of a smaller scan."""

WEIGHTS_NAME: Final = "model_weights.torch"
"""The name by which the published package finds its weights."""


def scan_grid(shape_kji: tuple[int, int, int]) -> Grid:
    """An axial grid whose origin is no round number, as scanners write it."""
    matrix = np.diag([*SPACING_MM, 1.0])
    matrix[:3, 3] = (-203.7, -189.3, -412.5)
    return Grid.from_matrix(shape_kji, matrix)


def scan_voxels(shape_kji: tuple[int, int, int]) -> NDArray[np.int16]:
    """(K, J, I) HU from air to bone: waves a few centimetres long, with noise of 30 HU."""
    k, j, i = (np.arange(n, dtype=np.float32) for n in shape_kji)
    rng = np.random.default_rng(0)
    plane = np.sin(j / 19)[:, None] * np.cos(i / 23)[None, :]
    voxels = np.empty(shape_kji, dtype=np.int16)
    for index, wave in enumerate(np.sin(k / 13 + 1)):
        noise = rng.normal(0, 30, shape_kji[1:]).astype(np.float32)
        voxels[index] = np.clip(-300 + 700 * wave * plane + noise, -1000, 2000).astype(np.int16)
    return voxels


def lesion_points(shape_kji: tuple[int, int, int], n_lesions: int, *, seed: int = 0) -> list[Point]:
    """`n_lesions` random points (LPS mm) away from the border; fewer lesions are the first ones of more."""
    grid = scan_grid(shape_kji)
    origin = grid.matrix[:3, 3]
    size = (np.asarray(shape_kji)[::-1] - 1) * grid.spacing_mm
    margin = np.minimum(MARGIN_MM, size * 0.45)
    share = np.random.default_rng(seed).random((n_lesions, 3))
    points = np.round(origin + margin + share * (size - 2 * margin), 3)
    return [(float(x), float(y), float(z)) for x, y, z in points]


def write_seeds(path: Path, points: list[Point], *, image: str = "", series_uid: str = "") -> None:
    """Write a seed table that both packages read; `image` or `series_uid` says whose points they are."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image_path", "coordX", "coordY", "coordZ", "Mhub ROI"])
        writer.writerows([image or series_uid, *point, f"L{n}"] for n, point in enumerate(points))


def write_series(folder: Path, shape_kji: tuple[int, int, int], n_series: int) -> list[str]:
    """Write `n_series` studies of one CT series each into folder/NNN; they differ in their UIDs only.

    Returns:
        Their SeriesInstanceUIDs.
    """
    datasets = ct_datasets(scan_voxels(shape_kji), scan_grid(shape_kji), StudyTags("benchmark"))
    series_uids = []
    for number in range(n_series):
        target = folder / f"{number:03d}"
        target.mkdir(parents=True, exist_ok=True)
        series_uids.append(str(uid_from("benchmark", "series", number)))
        for k, ds in enumerate(datasets):
            ds.StudyInstanceUID = uid_from("benchmark", "study", number)
            ds.FrameOfReferenceUID = uid_from("benchmark", "frame", number)
            ds.SeriesInstanceUID = series_uids[-1]
            ds.PatientID = f"BENCHMARK-{number:03d}"
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid_from("benchmark", number, k)
            ds.save_as(target / f"{k:04d}.dcm", enforce_file_format=True)
    return series_uids


def write_nrrd(path: Path, shape_kji: tuple[int, int, int]) -> None:
    """Write the same voxels as uncompressed NRRD, the form that is fastest to read for the published package."""
    import SimpleITK as sitk

    grid = scan_grid(shape_kji)
    image = sitk.GetImageFromArray(scan_voxels(shape_kji))
    image.SetSpacing(grid.spacing_mm)  # type: ignore[no-untyped-call]
    image.SetOrigin([float(v) for v in grid.matrix[:3, 3]])  # type: ignore[no-untyped-call]
    sitk.WriteImage(image, str(path), False)


def write_weights(path: Path, *, widen_factor: float = 2.0) -> None:
    """Write random weights in the published checkpoint's form, with batch norms that are not trivial."""
    import torch

    from fmcib_module.adapters.resnet import resnet50

    torch.manual_seed(0)
    network = resnet50(widen_factor)
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            module.weight.data *= 0.25 if name.endswith("bn3") else 1.0  # keeps the sum over 16 blocks near 1
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
            module.get_buffer("running_mean").uniform_(-0.2, 0.2)
            module.get_buffer("running_var").uniform_(0.5, 1.5)
    torch.save({"trunk_state_dict": network.state_dict()}, path)


def make_single(work: Path, shape_kji: tuple[int, int, int], lesion_counts: list[int]) -> None:
    """One scan as DICOM and as NRRD, each beside a seed table: single/{dicom,nrrd}_N for N lesions.

    The folders of different N share their images by hard links.
    """
    single = work / "single"
    uid = write_series(single / "ct", shape_kji, 1)[0]
    write_nrrd(single / "scan.nrrd", shape_kji)
    points = lesion_points(shape_kji, max(lesion_counts))
    for count in lesion_counts:
        dicom, nrrd = single / f"dicom_{count}", single / f"nrrd_{count}"
        dicom.mkdir()
        nrrd.mkdir()
        for path in sorted((single / "ct/000").iterdir()):
            (dicom / path.name).hardlink_to(path)
        (nrrd / "scan.nrrd").hardlink_to(single / "scan.nrrd")
        write_seeds(dicom / "seeds.csv", points[:count], series_uid=uid)
        write_seeds(nrrd / "seeds.csv", points[:count], image="scan.nrrd")
        write_seeds(single / f"published_{count}.csv", points[:count], image=str((single / "scan.nrrd").resolve()))


def make_cohort(
    work: Path, shape_kji: tuple[int, int, int], series_counts: list[int], lesions_each: int, name: str = "cohort"
) -> None:
    """NAME_N with N series of `lesions_each` lesions; smaller cohorts are hard links into the largest."""
    largest = work / name
    uids = write_series(largest, shape_kji, max(series_counts))
    for number, uid in enumerate(uids):
        points = lesion_points(shape_kji, lesions_each, seed=number)
        write_seeds(largest / f"{number:03d}" / "seeds.csv", points, series_uid=uid)
    for count in series_counts:
        for source, target in _linked(largest, work / f"{name}_{count}", count):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(source)


def _linked(source: Path, target: Path, n_series: int) -> Iterator[tuple[Path, Path]]:
    for number in range(n_series):
        for path in sorted((source / f"{number:03d}").iterdir()):
            yield path, target / path.relative_to(source)


def _check_space(work: Path, shape_kji: tuple[int, int, int], n_scans: int) -> None:
    needed, free = 2.1 * math.prod(shape_kji) * n_scans, shutil.disk_usage(work).free
    if needed > 0.8 * free:
        sys.exit(f"the inputs need {needed / 2**30:.1f} GiB, only {free / 2**30:.1f} GiB are free: give --work")


def main() -> None:
    """Make what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["single", "cohort", "tree", "weights"])
    parser.add_argument("work", type=Path)
    parser.add_argument("--counts", type=json.loads, default=[1], help="JSON list of lesion or series counts")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    shape = SMALL_SHAPE if options.kind == "tree" else TINY_SHAPE if options.tiny else CLINICAL_SHAPE
    options.work.mkdir(parents=True, exist_ok=True)
    _check_space(options.work, shape, max(options.counts) if options.kind in ("cohort", "tree") else 2)
    if options.kind == "single":
        make_single(options.work, shape, options.counts)
    elif options.kind == "cohort":
        make_cohort(options.work, shape, options.counts, lesions_each=2)
    elif options.kind == "tree":
        make_cohort(options.work, shape, options.counts, lesions_each=1, name="tree")
    else:
        write_weights(options.work / WEIGHTS_NAME, widen_factor=0.25 if options.tiny else 2.0)


if __name__ == "__main__":
    main()
