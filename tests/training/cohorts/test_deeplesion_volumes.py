"""DeepLesion's slices become volumes with right geometry, whole or not at all, and then patches."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fmcib_module.adapters.volume_reader import read_volume
from fmcib_module.core.errors import OutputError
from tests.training.cohorts.deeplesion_phantom import COLUMN, ROW, run, volumes_in, write_phantom
from training.cache import LesionCache
from training.cache_writer import one_writer
from training.lesion_table import read_lesion_table
from training.prepare import prepare

ROOT = Path(__file__).parents[3]


def test_the_seed_is_the_lesion_in_the_volume_that_is_written(tmp_path: Path) -> None:
    write_phantom(tmp_path)
    run(tmp_path, slices="Images_png")
    for row in read_lesion_table(tmp_path / "out" / "pretrain.csv").rows:
        volume = read_volume(tmp_path / "out" / row.image)
        assert row.lps_mm == (COLUMN * 2, ROW * 2, -2 * 3.0)  # third slice; slices go to the feet
        ijk = np.linalg.solve(volume.grid.matrix, [*row.lps_mm, 1.0])[:3]
        i, j, k = np.rint(ijk).astype(int)
        voxels = volume.read_slab(0, volume.grid.shape[0])
        assert (voxels.max(), voxels[k, j, i], voxels[0].min()) == (900, 900, -1000 + 11)
        assert np.allclose(ijk, (i, j, k), atol=1e-4)


def test_volumes_are_kept_on_a_second_run_and_only_missing_ones_are_made(tmp_path: Path) -> None:
    write_phantom(tmp_path)
    run(tmp_path, slices="Images_png")
    volumes = volumes_in(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in volumes}
    volumes[3].unlink()
    run(tmp_path, slices="Images_png")
    after = {path: path.stat().st_mtime_ns for path in volumes_in(tmp_path)}
    assert after.keys() == before.keys()
    assert [path for path in after if after[path] != before[path]] == [volumes[3]]


@pytest.mark.slow
def test_killed_and_started_again_the_volumes_are_those_of_a_run_that_was_not(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        write_phantom(tmp_path / name)
    run(tmp_path / "whole", slices="Images_png")
    killed = tmp_path / "killed"
    values = {"kind": "deeplesion", "info": "DL_info.csv", "output": "out", "slices": "Images_png"}
    (killed / "cohort.yml").write_text(json.dumps(values), encoding="utf-8")
    stop_at_third = (
        "import os, signal, sys\n"
        "from training.cohorts import deeplesion_volumes\n"
        "replace, done = deeplesion_volumes.Path.replace, []\n"
        "def replace_or_die(self, target):\n"
        "    done.append(target)\n"
        "    if len(done) == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return replace(self, target)\n"
        "deeplesion_volumes.Path.replace = replace_or_die\n"
        "from training.__main__ import main\n"
        "sys.exit(main(['cohort', 'cohort.yml']))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    died = subprocess.run([sys.executable, "-c", stop_at_third], cwd=killed, env=environment, check=False)
    assert died.returncode == -signal.SIGKILL
    assert len(volumes_in(killed)) == 2
    assert list((killed / "out" / "volumes").glob(".*.partial*"))
    run(killed, slices="Images_png")
    assert not list((killed / "out" / "volumes").glob(".*.partial*"))
    for one, other in zip(volumes_in(tmp_path / "whole"), volumes_in(killed), strict=True):
        assert (one.name, one.read_bytes()) == (other.name, other.read_bytes())


def test_a_second_writer_of_volumes_is_refused(tmp_path: Path) -> None:
    write_phantom(tmp_path)
    with one_writer(tmp_path / "out" / "volumes"), pytest.raises(OutputError, match="another process"):
        run(tmp_path, slices="Images_png")


def test_a_lesion_with_an_absent_or_damaged_slice_is_left_out_with_its_reason(tmp_path: Path) -> None:
    write_phantom(tmp_path)
    (tmp_path / "Images_png" / "000001_01_02" / "012.png").unlink()
    (tmp_path / "Images_png" / "000005_01_02" / "019.png").write_bytes(b"not a picture")
    record = run(tmp_path, slices="Images_png")
    assert record["left_out"] == {"slice 012.png is absent": 1, "slice 019.png is damaged": 1}
    assert record["tables"]["pretrain.csv"]["patients"] == 1
    assert len(volumes_in(tmp_path)) == 6


def test_lesions_are_cached_from_png_slices_to_patches(tmp_path: Path) -> None:
    write_phantom(tmp_path)
    run(tmp_path, slices="Images_png", split="patients")
    settings = {"cache": "cache", "licence": "none", "tables": ["out/pretrain.csv", "out/task1.csv"]}
    (tmp_path / "prepare.yml").write_text(json.dumps(settings), encoding="utf-8")
    for _ in range(2):  # the second run finds everything done
        prepare(tmp_path / "prepare.yml")
    cache = LesionCache(tmp_path / "cache")
    assert len(cache.lesions) == 8
    for n, lesion in enumerate(cache.lesions):
        crop = cache.read_crop(n, 50)
        place = np.unravel_index(int(crop.argmax()), crop.shape)
        assert np.abs(np.array(place) - 25).max() <= 1, "the lesion is in the middle, to rounding of the 1 mm grid"
        assert lesion.lesion == str(n)
        assert crop.max() > -500


def test_published_seeds_and_published_loading_meet_the_lesion_only_in_its_plane(tmp_path: Path) -> None:
    # The published tables exchange x and y, the published loader exchanges them again; nothing undoes the mirrored
    # slice: the third of nine slices, index 2, becomes 19 - 13 + 1 = 7.
    write_phantom(tmp_path)
    run(tmp_path, slices="Images_png", seeds="published")
    row = read_lesion_table(tmp_path / "out" / "pretrain.csv").rows[0]
    assert row.lps_mm == (ROW * 2, COLUMN * 2, -7 * 3.0)
    settings = {"cache": "cache", "licence": "none", "tables": ["out/pretrain.csv"]}
    (tmp_path / "prepare.yml").write_text(json.dumps({**settings, "published_seed_index": True}), encoding="utf-8")
    prepare(tmp_path / "prepare.yml")
    cache = LesionCache(tmp_path / "cache")
    scan = cache.read_box(0, tuple(n // 2 for n in cache.scans[0].shape), 150)  # type: ignore[arg-type]
    z, y, x = np.unravel_index(int(scan.argmax()), scan.shape) - (75 - np.array(cache.scans[0].shape) // 2)
    off_z, off_y, off_x = np.abs(np.array(cache.lesions[0].centre_zyx) - (z, y, x))
    assert max(off_x, off_y) <= 2
    assert off_z > 8
