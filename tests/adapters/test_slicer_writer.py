"""Files for 3D Slicer, read back by our own importer, by SimpleITK, and checked against a scan that is its own map."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from fmcib_module import run
from fmcib_module.adapters.slicer_markups import markup_rows
from fmcib_module.adapters.slicer_writer import patch_nrrd, seeds_markup
from fmcib_module.core.conventions import Flag, Mode
from fmcib_module.core.domain import Seed
from fmcib_module.core.patch import extract_patch, patch_affine
from fmcib_module.core.volume import Volume
from tests import phantoms
from tests.chain import rows_of

SEEDS = (
    Seed((1.25, -2.5, 30.0), 'Größe "1", links', "1.2.3", flags=(Flag.NEAR_BORDER,)),
    Seed((0.1, 0.2, 1e-3), "GTV-2", "1.2.3"),
)
GRADIENT = np.array([3.0, -2.0, 1.5])
"""HU per millimetre of x, y, z: linear, so that trilinear sampling is exact and each value tells its place."""


def _ramp(orientation: str) -> Volume:
    grid = phantoms.phantom_grid((40, 60, 60), (1.3, 1.3, 2.0), orientation)
    index = np.stack([*np.meshgrid(*map(np.arange, grid.shape), indexing="ij")][::-1], axis=-1)
    lps = index @ grid.matrix[:3, :3].T + grid.matrix[:3, 3]
    return Volume.from_array((lps @ GRADIENT).astype(np.float32), grid.matrix, "1.2.3")


def test_points_come_back_with_names_and_places():
    document = json.loads(seeds_markup(SEEDS))
    rows = list(markup_rows(document, "stem"))
    assert [(row.label, row.lps_mm) for row in rows] == [(seed.label, seed.lps_mm) for seed in SEEDS]
    [markup] = document["markups"]
    assert (markup["type"], markup["coordinateSystem"]) == ("Fiducial", "LPS")
    assert markup["controlPoints"][0]["description"] == "near border"


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("orientation", ["axial", "sagittal", "oblique"])
def test_each_voxel_of_the_patch_lies_where_its_value_comes_from(mode, orientation):
    volume = _ramp(orientation)
    seed = Seed((14.0, -9.0, 28.0), "GTV-1", "")
    patch = extract_patch(volume, seed, mode)
    affine = patch_affine(volume.grid, seed, mode)
    inner = np.stack(np.meshgrid(*[np.arange(20, 31)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)  # (z, y, x)
    hu = patch.voxels[tuple(inner.T)].astype(float) * 3072 - 1024
    lps = inner[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(hu, lps @ GRADIENT, atol=2e-3)


def test_simpleitk_reads_values_and_place(tmp_path):
    volume = _ramp("axial")
    seed = Seed((14.0, -9.0, 28.0), "GTV-1", "")
    patch, affine = extract_patch(volume, seed), patch_affine(volume.grid, seed)
    (tmp_path / "a.nrrd").write_bytes(patch_nrrd(patch, affine))
    image = sitk.ReadImage(str(tmp_path / "a.nrrd"))
    np.testing.assert_allclose((sitk.GetArrayFromImage(image) + 1024) / 3072, patch.voxels, atol=1e-6)
    for index in ((0, 0, 0), (49, 0, 7), (10, 20, 30)):
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index), (affine @ [*index, 1])[:3], atol=1e-6)


def test_a_run_writes_seeds_always_and_patches_on_request(tmp_path):
    study = phantoms.write_study(tmp_path / "in")
    options = {"sr": False, "seg": False, "pictures": False, "report": False}
    run(tmp_path / "in", tmp_path / "plain", **options)
    assert not list((tmp_path / "plain").rglob("*.nrrd"))
    ledger = run(tmp_path / "in", tmp_path / "out", save_patches=True, **options)
    [entry] = [entry for entry in ledger.series if entry.rois]
    folder = tmp_path / "out" / study.series_uid
    patches = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.nrrd"))
    assert len(patches) == len(entry.rois) == 4
    assert set(entry.files) == {"features.csv", "seeds.mrk.json", *patches}
    rows = rows_of(tmp_path / "out" / "features.csv")
    points = json.loads((folder / "seeds.mrk.json").read_text())["markups"][0]["controlPoints"]
    assert [p["position"] for p in points] == [[float(row[f"coord{axis}"]) for axis in "XYZ"] for row in rows]
    assert (tmp_path / "plain" / "features.csv").read_bytes() == (tmp_path / "out" / "features.csv").read_bytes()
