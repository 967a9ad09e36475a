"""Reports for the writers' tests: a phantom's series as the importer would give it, with chosen feature values."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fmcib_module.adapters.seg_writer import write_seed_seg
from fmcib_module.adapters.sr_writer import write_sr
from fmcib_module.core.conventions import Mode, SeedKind
from fmcib_module.core.domain import Instance, Lesion, Provenance, RoiSource, Seed, Series, SeriesReport
from fmcib_module.core.volume import Grid
from tests.phantoms import PhantomStudy

NOTE = "small network trained by us: not the published model"
PROVENANCE = Provenance("mini", "ab" * 32, NOTE, Mode.PUBLISHED, "1.2.3")

EXTREMES = np.array(
    [
        0.0,
        -0.0,
        1e-45,
        -1e-45,
        1.1754942e-38,
        1.1754944e-38,
        3.4028235e38,
        -3.4028235e38,
        0.1,
        1 / 3,
        1.00000012,
        16777217,
    ],
    dtype=np.float32,
)
"""Zeros, denormals, the smallest and largest normal number, and numbers that need nine digits."""

PRIVATE_CODE_WARNING = "Unrecognized defined term <99FMCIB> for value 1 of attribute <Coding Scheme Designator>"


def instances_of(paths: Sequence[Path]) -> tuple[Instance, ...]:
    """Slices sorted along the normal, from single-frame files."""
    found = []
    for path in paths:
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        x, y, z = map(float, ds.ImagePositionPatient)
        a, b, c, d, e, f = map(float, ds.ImageOrientationPatient)
        spacing = (float(ds.PixelSpacing[0]), float(ds.PixelSpacing[1]))
        uids = (ds.SOPInstanceUID, ds.SOPClassUID)
        found.append(Instance(path, *uids, None, (x, y, z), (a, b, c, d, e, f), spacing, (ds.Rows, ds.Columns)))
    normal = np.cross(found[0].orientation[:3], found[0].orientation[3:])
    return tuple(sorted(found, key=lambda one: float(normal @ one.position_mm)))


def series_of(ct_paths: Sequence[Path], sources: Sequence[tuple[Path, SeedKind]] = ()) -> Series:
    """A series and its ROI sources."""
    first = pydicom.dcmread(ct_paths[0], stop_before_pixels=True)
    roi_sources = tuple(
        RoiSource(path, kind, pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
        for path, kind in sources
    )
    return Series(
        uid=first.SeriesInstanceUID,
        study_uid=first.StudyInstanceUID,
        modality="CT",
        frame_of_reference_uid=first.FrameOfReferenceUID,
        instances=instances_of(ct_paths),
        roi_sources=roi_sources,
    )


def phantom_series(study: PhantomStudy) -> Series:
    """A phantom's CT with its RTSTRUCT and SEG."""
    sources = [(study.rtstruct_path, SeedKind.RTSTRUCT), (study.seg_path, SeedKind.SEG)]
    return series_of(study.ct_paths, [(path, kind) for path, kind in sources if path is not None])


def phantom_lesions(study: PhantomStudy, kind: SeedKind, n_features: int = 16) -> tuple[Lesion, ...]:
    """The phantom's lesions as seeds of one kind, with random features."""
    path = {SeedKind.RTSTRUCT: study.rtstruct_path, SeedKind.SEG: study.seg_path}.get(kind)
    uid = "" if path is None else str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
    numbers = [None] * len(study.centroids) if kind is SeedKind.POINT else range(1, len(study.centroids) + 1)
    return tuple(
        Lesion(Seed(centre, name, uid, kind, number), random_features(n_features, seed))
        for seed, ((name, centre), number) in enumerate(zip(study.centroids.items(), numbers, strict=True))
    )


def random_features(n_features: int, seed: int = 0) -> NDArray[np.float32]:
    """Standard normal values."""
    return np.random.default_rng(seed).standard_normal(n_features).astype(np.float32)


def report_of(series: Series, lesions: Sequence[Lesion], provenance: Provenance = PROVENANCE) -> SeriesReport:
    """A report with the tests' provenance."""
    return SeriesReport(series, tuple(lesions), provenance)


def phantom_masks(study: PhantomStudy) -> list[tuple[int, NDArray[np.bool_]]]:
    """The phantom's masks, each with only the slices that it needs."""
    cut = []
    for mask in study.masks.values():
        slices = np.flatnonzero(mask.any(axis=(1, 2)))
        cut.append((int(slices[0]), mask[slices[0] : slices[-1] + 1]))
    return cut


def tool(name: str) -> str:
    """Path of a command line tool; skips the test where it is not installed."""
    beside_python = Path(sys.executable).parent / name
    found = str(beside_python) if beside_python.is_file() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (apt: dcmtk, dicom3tools; pip: dcmqi)")
    return found


def dciodvfy_complaints(path: Path) -> set[str]:
    """Errors and warnings of dicom3tools' validator, each once."""
    done = subprocess.run([tool("dciodvfy"), str(path)], capture_output=True, check=False)
    lines = (done.stderr + done.stdout).decode("utf-8", "replace").splitlines()
    return {line for line in lines if re.match(r"Error|Warning|Abort", line)}


def dsrdump(path: Path) -> str:
    """DCMTK's reading of an SR; fails on any error."""
    done = subprocess.run([tool("dsrdump"), "+U8", str(path)], capture_output=True, check=False)
    if done.returncode == 1 and b"U8" in done.stderr:  # built without character set conversion
        done = subprocess.run([tool("dsrdump"), str(path)], capture_output=True, check=False)
    messages = done.stderr.decode()
    assert done.returncode == 0, messages
    assert not re.search(r"^[EF]:", messages, re.MULTILINE), messages
    return done.stdout.decode()


def grid_of(study: PhantomStudy) -> Grid:
    k, j, i = study.voxels_hu.shape
    return Grid.from_matrix((k, j, i), study.affine)


def rtstruct_report(study: PhantomStudy, n_features: int = 16) -> SeriesReport:
    return report_of(phantom_series(study), phantom_lesions(study, SeedKind.RTSTRUCT, n_features))


def write_both(report: SeriesReport, study: PhantomStudy, folder: Path) -> Dataset:
    """Write SEG and SR; give the SR back."""
    segmentation = write_seed_seg(report, phantom_masks(study), grid_of(study), folder / "seeds.seg.dcm")
    (path,) = write_sr(report, folder, segmentation=segmentation)
    return pydicom.dcmread(path)


def groups_of(document: Dataset) -> list[Dataset]:
    """The measurement groups, read with pydicom alone."""
    measurements = next(item for item in document.ContentSequence if meaning(item) == "Imaging Measurements")
    return list(measurements.ContentSequence)


def measurement_report(path: Path) -> Any:
    """The content as highdicom's reader gives it."""
    return hd.sr.srread(path).content


def meaning(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def named(group: Dataset, name: str) -> Dataset:
    found: list[Dataset] = [item for item in group.ContentSequence if meaning(item) == name]
    assert len(found) == 1, [meaning(item) for item in group.ContentSequence if item.ValueType != "NUM"]
    return found[0]


def dcmqi_values(path: Path, folder: Path) -> dict[str, list[np.float32]]:
    """Tracking UID -> values, as dcmqi's tid1500reader gives them."""
    out = folder / "dcmqi.json"
    command = [tool("tid1500reader"), "--inputDICOM", str(path), "--outputMetadata", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    groups = json.loads(out.read_text(encoding="utf-8"))["Measurements"]
    return {
        group["TrackingUniqueIdentifier"]: [np.float32(item["value"]) for item in group["measurementItems"]]
        for group in groups
    }
