"""A sample input of every workflow, under the names that its `sample:` section gives; and MHub's test data from them.

`python -m tests.mhub.samples FOLDER [--weights NAME]` writes FOLDER/<workflow>/{sample,reference} and
FOLDER/fmcib.test.zip, which MHub's `mhub.test` reads.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from fmcib_module.core.domain import Point
from tests import phantoms
from tests.mhub.chain import make_config, run_chain, write_image, write_points

ARCHIVE = "fmcib.test.zip"
POINT: Point = (10.0, -5.0, 28.0)


def _for_default(folder: Path) -> dict[str, Point]:
    study = _study(folder, rtstruct=True, seg=True)
    write_points(folder / f"{study.series_uid}.json", Point=POINT)
    rois = {f"{name} {kind}": lps for name, lps in study.centroids.items() for kind in ("RTSTRUCT", "SEG")}
    return {**rois, "Point POINT": POINT}


def _for_from_rtstruct(folder: Path) -> dict[str, Point]:
    study = _study(folder, rtstruct=True, seg=True)  # its SEG is left aside
    return {f"{name} RTSTRUCT": lps for name, lps in study.centroids.items()}


def _for_from_json(folder: Path) -> dict[str, Point]:
    study = _study(folder)
    write_points(folder / f"{study.series_uid}.json", Nodule=POINT)
    return {"Nodule POINT": POINT}


def _for_from_centroids(folder: Path) -> dict[str, Point]:
    write_image(_study_apart(folder), folder / "LUNG1-001" / "CT.nrrd")
    write_points(folder / "LUNG1-001" / "centroids.json", GTV=POINT)
    return {"GTV POINT": POINT}


def _for_from_slicer(folder: Path) -> dict[str, Point]:
    write_image(_study_apart(folder), folder / "patient_1" / "CT.nrrd")
    x, y, z = POINT
    points = [{"id": "1", "label": "F-1", "position": [-x, -y, z]}]
    schema = "https://raw.githubusercontent.com/slicer/slicer/main/Modules/Loadable/Markups/Resources/Schema/"
    markups = {
        "@schema": f"{schema}markups-schema-v1.0.3.json#",
        "markups": [{"type": "Fiducial", "coordinateSystem": "RAS", "controlPoints": points}],
    }
    (folder / "patient_1" / "F.mrk.json").write_text(json.dumps(markups))
    return {"F-1 POINT": POINT}


def _for_from_nifti_mask(folder: Path) -> dict[str, Point]:
    study = _study_apart(folder)
    write_image(study, folder / "lung_001" / "CT.nii.gz")
    write_image(study, folder / "lung_001" / "masks" / "GTV.nii.gz", lesion="GTV-1")
    return {"GTV MASK": study.centroids["GTV-1"]}


SAMPLES: dict[str, Callable[[Path], dict[str, Point]]] = {
    "default": _for_default,
    "from_centroids": _for_from_centroids,
    "from_json": _for_from_json,
    "from_nifti_mask": _for_from_nifti_mask,
    "from_rtstruct": _for_from_rtstruct,
    "from_slicer": _for_from_slicer,
}
"""Workflow -> a function that writes its input, and returns "LABEL KIND" -> where each lesion is, LPS mm."""


def write_test_data(folder: Path, *, weights: str, names: Iterable[str] = SAMPLES) -> Path:
    """Write a sample and what the workflow makes of it, for each workflow; returns the archive of all.

    Raises:
        RuntimeError: A workflow did not end well.
    """
    for name in names:
        target = folder / name
        shutil.rmtree(target, ignore_errors=True)
        with tempfile.TemporaryDirectory() as base:
            SAMPLES[name](Path(base) / "input_data")
            if code := run_chain(make_config(Path(base), name, EncoderRunner__weights=weights)):
                msg = f"workflow {name} ended with {code}"
                raise RuntimeError(msg)
            shutil.copytree(Path(base) / "input_data", target / "sample")
            shutil.copytree(Path(base) / "output_data", target / "reference")
    archive = folder / ARCHIVE
    with ZipFile(archive, "w", ZIP_DEFLATED) as zipped:
        for path in sorted(path for name in names for path in ((folder / name), *(folder / name).rglob("*"))):
            zipped.write(path, path.relative_to(folder))  # folders too: MHub's check looks for their entries
    return archive


def _study(folder: Path, *, rtstruct: bool = False, seg: bool = False) -> phantoms.PhantomStudy:
    study = phantoms.write_study(folder, rtstruct=rtstruct, seg=seg)
    (folder / "ct").rename(folder / "CT")
    for path in (study.rtstruct_path, study.seg_path):
        if path is not None:
            path.rename(path.with_name(f"{path.stem.upper()}.dcm"))
    return study


def _study_apart(folder: Path) -> phantoms.PhantomStudy:
    return phantoms.write_study(folder.parent / "phantom", rtstruct=False, seg=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="tests.mhub.samples", description="Write MHub's test data.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", default="mini", help="a submission needs those of the workflows: fmcib")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.write(f"{write_test_data(options.folder, weights=options.weights)}\n")
