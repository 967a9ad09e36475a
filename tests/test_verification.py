"""`fmcib verify` passes on a sound installation and finds each kind of damage."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from fmcib_module import verification
from fmcib_module.adapters.gather import gather_compiled
from fmcib_module.adapters.tensor_file import read_metadata
from fmcib_module.adapters.weights import verify as verify_weights
from fmcib_module.cli import app
from fmcib_module.core import acceptance
from fmcib_module.core.acceptance import measure_patch_geometry, reference_patches, relative_deviation
from fmcib_module.core.domain import Patch
from fmcib_module.core.errors import WeightsError
from fmcib_module.core.patch import extract_patch
from fmcib_module.pipeline import run
from tests import phantoms


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("record") / "own.verify.safetensors"
    verification.record("mini", path, engine="torch")
    return path


def test_reference_patches_are_the_integers_of_the_formula() -> None:
    patches = reference_patches()
    assert patches.shape == (6, 50, 50, 50)
    assert patches.dtype == np.float32
    for n, k, j, i in [(0, 0, 0, 0), (2, 25, 25, 25), (5, 25, 30, 40), (3, 49, 1, 7), (4, 25, 25, 43), (4, 25, 25, 44)]:
        texture = ((k * 73 + 11) * (j * 31 + 7) * (i * 17 + 3)) % 97 - 48
        inside = (k - 25) ** 2 + (j - 25) ** 2 + (i - 25) ** 2 <= (4, 7, 10, 14, 18, 23)[n] ** 2
        hu = 40 + 5 * n + texture // 4 if inside else -820 + 120 * n + texture
        assert patches[n, k, j, i] == np.float32(hu + 1024) / np.float32(3072)


def test_a_sound_installation_passes_every_check(record: Path) -> None:
    checks = list(verification.verify_installation(against=record))
    assert [check.name for check in checks] == [
        "weights",
        "patch centre",
        "patch grid",
        "features",
        "repeatability",
        "lesions of the example",
        "centroids",
        "outputs",
    ]
    assert all(check.passed for check in checks), checks


def test_a_patch_one_voxel_off_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(*args: object, **options: object) -> Patch:
        patch = extract_patch(*args, **options)  # type: ignore[arg-type]
        return replace(patch, voxels=np.roll(patch.voxels, 2, axis=(0, 1, 2)))

    monkeypatch.setattr(acceptance, "extract_patch", shifted)
    centre_mm, _ = measure_patch_geometry(gather_compiled)
    assert centre_mm > verification.CENTRE_LIMIT_MM


def test_a_grid_stretched_by_one_percent_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def stretched(*args: object, **options: object) -> Patch:
        patch = extract_patch(*args, **options)  # type: ignore[arg-type]
        middle = patch.voxels[25, 25, 25]
        return replace(patch, voxels=(middle + (patch.voxels - middle) * 1.01).astype(np.float32))

    monkeypatch.setattr(acceptance, "extract_patch", stretched)
    _, step_mm = measure_patch_geometry(gather_compiled)
    assert step_mm == pytest.approx(0.25, abs=0.02)  # 1 % of 25 mm


def test_features_that_moved_fail_with_exit_code_3(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "_run_example", lambda *_: iter(()))  # seconds, and not in question here
    features = load_file(record)["features"] * np.float32(1.0001)
    save_file({"features": features}, tmp_path / "moved.safetensors", read_metadata(record))
    done = CliRunner().invoke(app, ["verify", "--against", str(tmp_path / "moved.safetensors"), "--json"])
    checks = {line["name"]: line for line in map(json.loads, done.output.splitlines())}
    assert done.exit_code == 3
    assert checks["features"]["measured"] == pytest.approx(1e-4, rel=0.05)
    assert [name for name, line in checks.items() if not line["passed"]] == ["features"]


def test_an_sr_that_says_something_else_is_found(tmp_path: Path) -> None:
    study = phantoms.write_study(tmp_path / "in", seg=False)
    run(study.folder, tmp_path / "out", pictures=False, report=False, seg=False)
    values = pq.read_table(tmp_path / "out" / "features.parquet")["features"].to_pylist()
    assert verification._compare_outputs(tmp_path / "out", values).passed
    path = next((tmp_path / "out").rglob("features.sr.dcm"))
    path.write_bytes(path.read_bytes().replace(struct.pack("<d", values[0][5]), struct.pack("<d", values[0][5] + 1e-3)))
    assert verification._compare_outputs(tmp_path / "out", values).measured == 1


def test_a_record_of_other_weights_is_refused(record: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file(load_file(record), other, {"weights_sha256": "ab" * 32})
    with pytest.raises(WeightsError, match="features of other weights"):
        list(verification.verify_installation(against=other))


def test_the_deviation_is_that_of_the_worst_patch() -> None:
    expected = np.array([[3.0, 4.0], [1.0, 0.0]], np.float32)
    found = np.array([[3.0, 4.5], [1.0, 0.2]], np.float32)
    assert relative_deviation(found, expected) == pytest.approx(0.2)


def test_the_packaged_features_belong_to_the_packaged_weights() -> None:
    assert verification._recorded(None, verify_weights("mini").sha256) is not None
