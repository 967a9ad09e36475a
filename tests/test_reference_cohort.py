"""Reference statistics from a table to the flag in every output."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import pytest
from typer.testing import CliRunner

from fmcib_module.adapters import reference_file
from fmcib_module.adapters.runner import load_encoder
from fmcib_module.adapters.weights import verify
from fmcib_module.cli import app
from fmcib_module.core.acceptance import reference_patches
from fmcib_module.core.conventions import Flag
from fmcib_module.core.errors import InputError, WeightsError
from fmcib_module.core.ledger import Ledger
from fmcib_module.core.reference import reference_distances
from fmcib_module.pipeline import run
from fmcib_module.reference_cohort import make_reference
from tests import phantoms

N_FEATURES = 512


def _table(path: Path, *, centre: float, sha256: str = "", mode: str = "published", n: int = 80) -> Path:
    values = np.random.default_rng(0).normal(centre, 0.1, (n, N_FEATURES)).astype(np.float32)
    columns = {
        "study_uid": [f"1.2.{k % 8}" for k in range(n)],
        "weights_sha256": [sha256 or verify("mini").sha256] * n,
        "mode": [mode] * n,
        "features": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), N_FEATURES),
    }
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FMCIB_CACHE", str(tmp_path / "cache"))
    reference_file.find_reference.cache_clear()
    yield
    reference_file.find_reference.cache_clear()


@pytest.mark.parametrize(("centre", "far"), [(1e6, True), (None, False)])
def test_a_lesion_unlike_the_cohort_is_flagged_in_ledger_table_and_sr(
    tmp_path: Path, centre: float | None, far: bool
) -> None:
    phantoms.write_study(tmp_path / "in", seg=False)
    if centre is not None:
        make_reference(_table(tmp_path / "cohort.parquet", centre=centre), cohort="made up")
    ledger: Ledger = run(tmp_path / "in", tmp_path / "out", report=False, pictures=False)
    rois = [roi for entry in ledger.series for roi in entry.rois]
    assert [Flag.FAR_FROM_REFERENCE in roi.flags for roi in rois] == [far] * len(rois)
    if far:
        assert min(roi.reference_distance or 0.0 for roi in rois) > 1
    table = pq.read_table(tmp_path / "out" / "features.parquet", columns=["flags"]).to_pylist()
    assert [Flag.FAR_FROM_REFERENCE in row["flags"] for row in table] == [far] * len(rois)
    sr = next((tmp_path / "out").rglob("features.sr.dcm"))
    assert ("Far from reference" in str(pydicom.dcmread(sr))) == far


def test_the_file_gives_back_the_distances(tmp_path: Path) -> None:
    table = _table(tmp_path / "cohort.parquet", centre=0.0)
    made = make_reference(table, cohort="made up", output=tmp_path / "own.reference.safetensors")
    read = reference_file.read_reference(tmp_path / "own.reference.safetensors")
    values = np.random.default_rng(1).normal(0.0, 0.2, (5, N_FEATURES)).astype(np.float32)
    np.testing.assert_allclose(reference_distances(values, read), reference_distances(values, made), rtol=1e-5)
    plain = ("limit", "rest_variance", "n_lesions", "n_patients")
    assert [getattr(read, name) for name in plain] == [getattr(made, name) for name in plain]


def test_statistics_of_other_weights_or_modes_are_not_taken(tmp_path: Path) -> None:
    make_reference(_table(tmp_path / "cohort.parquet", centre=0.0, sha256="ab" * 32), cohort="made up")
    assert reference_file.find_reference("ab" * 32, "published") is not None
    assert reference_file.find_reference("ab" * 32, "centred") is None
    assert reference_file.find_reference("cd" * 32, "published") is None


def test_the_command_says_what_the_cohort_gave(tmp_path: Path) -> None:
    table = _table(tmp_path / "cohort.parquet", centre=0.0)
    done = CliRunner().invoke(app, ["weights", "reference", str(table), "--cohort", "made up"])
    assert done.exit_code == 0, done.output
    assert "80 lesions of 8 patients" in done.output


def test_a_table_of_two_modes_is_refused(tmp_path: Path) -> None:
    first = pq.read_table(_table(tmp_path / "a.parquet", centre=0.0))
    second = pq.read_table(_table(tmp_path / "b.parquet", centre=0.0, mode="centred"))
    pq.write_table(pa.concat_tables([first, second]), tmp_path / "both.parquet")
    with pytest.raises(InputError, match="expected one mode, found centred, published"):
        make_reference(tmp_path / "both.parquet", cohort="made up")


def test_a_table_without_features_is_refused(tmp_path: Path) -> None:
    table = pq.read_table(_table(tmp_path / "a.parquet", centre=0.0)).drop_columns(["features"])
    pq.write_table(table, tmp_path / "none.parquet")
    with pytest.raises(InputError, match="needs the columns"):
        make_reference(tmp_path / "none.parquet", cohort="made up")


def test_a_damaged_file_says_how_to_make_it_again(tmp_path: Path) -> None:
    make_reference(_table(tmp_path / "cohort.parquet", centre=0.0), cohort="x", output=tmp_path / "own.safetensors")
    whole = (tmp_path / "own.safetensors").read_bytes()
    (tmp_path / "own.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="weights reference"):
        reference_file.read_reference(tmp_path / "own.safetensors")


def test_mini_comes_with_a_reference_and_the_example_lies_within_it_but_noise_does_not() -> None:
    reference = reference_file.find_reference(verify("mini").sha256, "published")
    assert reference is not None
    noise = np.random.default_rng(0).random((4, 50, 50, 50), dtype=np.float32) * 3  # up to 8,000 HU, voxel by voxel
    features = load_encoder("mini").encode(np.concatenate([noise, reference_patches()]))
    shares = reference_distances(features, reference) / reference.limit
    assert min(shares[:4]) > 1
    assert max(shares[4:]) < 1
