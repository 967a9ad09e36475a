"""DeepLesion: seeds where the lesions are, volumes with right geometry, the published tables row by row."""

import json
import os
import signal
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fmcib_module.adapters.volume_reader import read_volume
from fmcib_module.core.errors import ConfigError, InputError, OutputError
from tests.shared import DATA, needs_shared
from tests.training.cohorts.dl_info import info_row, rebuild_info, write_info
from training.cache import LesionCache
from training.cache_writer import one_writer
from training.cohorts.cohort import cohort
from training.cohorts.deeplesion_info import read_dl_info
from training.cohorts.deeplesion_published import read_published
from training.lesion_table import read_lesion_table
from training.prepare import prepare

ROOT = Path(__file__).parents[3]
PUBLISHED = DATA / "tables" / "deeplesion-fmcib"
COLUMN, ROW = 14.0, 20.0
"""Where the diameters of `info_row` cross."""

SHAPE = (32, 48)
"""Rows and columns of the phantom's slices."""


def write_slices(folder: Path, scan: str, numbers: range, bright: int, *, hu: int = 900) -> None:
    """Air with one bright pixel where the diameters cross, on slice `bright`; all slices differ."""
    (folder / scan).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        voxels = np.full(SHAPE, -1000 + number, dtype=np.int32)
        if number == bright:
            voxels[int(ROW), int(COLUMN)] = hu
        Image.fromarray((voxels + 32768).astype(np.uint16)).save(folder / scan / f"{number:03d}.png")


def write_phantom(folder: Path) -> None:
    """Eight patients with one lesion each on the third slice of nine: two for pretraining, two training, four tests."""
    rows = []
    for patient, split in enumerate((1, 1, 2, 2, 3, 3, 3, 3), start=1):
        scan = f"{patient:06d}_01_02"
        spacing = (2.0, 2.0, 3.0)
        kind = -1 if split == 1 else 1 + patient % 2
        rows.append(info_row(scan, key_slice=13, slice_range=(11, 19), spacing=spacing, split=split, lesion_type=kind))
        write_slices(folder / "Images_png", scan, range(11, 20), bright=13)
    write_info(folder / "DL_info.csv", rows)


def volumes_in(folder: Path) -> list[Path]:
    """The sub-volumes that were written."""
    return sorted(path for path in (folder / "out" / "volumes").iterdir() if not path.name.startswith("."))


def run(folder: Path, **settings: object) -> dict[str, Any]:
    """The verb, with its record."""
    values = {"kind": "deeplesion", "info": "DL_info.csv", "output": "out", **settings}
    (folder / "cohort.yml").write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
    with chdir(folder):
        return cohort(Path("cohort.yml"))


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


def test_labels_splits_and_diameters_are_those_of_the_data_set(tmp_path: Path) -> None:
    write_phantom(tmp_path)
    record = run(tmp_path)
    assert record["tables"]["pretrain.csv"]["lesions"] == 2
    assert record["patients_in_two_tables"] == 0
    table = read_lesion_table(tmp_path / "out" / "task1.csv")
    assert [row.split for row in table.rows] == ["train", "train", "val", "val", "test", "test"]
    assert {row.label for row in table.rows} == {"bone", "abdomen"}  # Coarse_lesion_type 1 and 2
    assert {row.diameter_mm for row in table.rows} == {16.0}  # 8 pixels of 2 mm


def test_what_is_too_thick_or_does_not_cross_is_left_out_and_counted(tmp_path: Path) -> None:
    apart = (10.0, 20.0, 18.0, 20.0, 14.0, 25.0, 14.0, 31.0)
    form = {"key_slice": 5, "slice_range": (1, 9), "split": 1}
    rows = [
        info_row("000001_01_01", spacing=(1.0, 1.0, 3.0), **form),  # type: ignore[arg-type]
        info_row("000002_01_01", spacing=(1.0, 1.0, 3.01), **form),  # type: ignore[arg-type]
        info_row("000003_01_01", spacing=(1.0, 1.0, 1.0), ends=apart, **form),  # type: ignore[arg-type]
        info_row("000004_01_01", spacing=(1.0, 1.0, 1.0), **{**form, "split": 2}),  # type: ignore[arg-type]
    ]
    write_info(tmp_path / "DL_info.csv", rows)
    left_out = run(tmp_path)["left_out"]
    assert left_out == {"slices are more than 3 mm apart": 1, "its diameters do not cross": 1}
    run(tmp_path, uncrossed="midpoint")
    kept = {row.lesion: row for row in read_lesion_table(tmp_path / "out" / "pretrain.csv").rows}
    assert kept.keys() == {"0", "2"}
    assert kept["2"].lps_mm == (14.0, 20.0, -4.0)  # middle of the long diameter


@pytest.mark.parametrize("change", [{"Key_slice_index": "12"}, {"Spacing_mm_px_": "1, 1, -1"}])
def test_a_lesion_that_cannot_be_placed_is_left_out_with_its_reason(tmp_path: Path, change: dict[str, str]) -> None:
    good = info_row("000001_01_01", key_slice=5, slice_range=(1, 9), spacing=(1.0, 1.0, 1.0), split=1)
    other = info_row("000002_01_01", key_slice=5, slice_range=(1, 9), spacing=(1.0, 1.0, 1.0), split=2)
    write_info(tmp_path / "DL_info.csv", [good, good | change, other])
    record = run(tmp_path)
    assert record["left_out"] == {"its slice is not in its range, or its spacing is not positive": 1}
    assert record["tables"]["pretrain.csv"]["lesions"] == 1


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


def test_patients_are_never_in_two_splits_when_split_by_patient(tmp_path: Path) -> None:
    rows = [
        info_row(f"{n // 4:06d}_01_{n % 4:02d}", key_slice=5, slice_range=(1, 9), spacing=(1.0, 1.0, 1.0), split=3)
        for n in range(1, 60)
    ] + [info_row("000900_01_01", key_slice=5, slice_range=(1, 9), spacing=(1.0, 1.0, 1.0), split=s) for s in (1, 2)]
    write_info(tmp_path / "DL_info.csv", rows)
    assert run(tmp_path)["tables"]["task1.csv"]["patients_in_two_splits"] > 0
    with pytest.raises(InputError, match="in two splits"):
        read_lesion_table(tmp_path / "out" / "task1.csv")
    facts = run(tmp_path, split="patients")["tables"]["task1.csv"]
    assert facts["patients_in_two_splits"] == 0
    assert set(facts["splits"]) == {"train", "val", "test"}
    assert abs(facts["splits"]["val"] - facts["splits"]["test"]) <= 8  # 15 patients with 4 lesions each
    read_lesion_table(tmp_path / "out" / "task1.csv")


def test_patients_who_are_pretrained_on_and_tested_on_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scans = [("000001_01_01", 1), ("000001_02_01", 3), ("000002_01_01", 2), ("000003_01_01", 1)]
    rows = [
        info_row(scan, key_slice=5, slice_range=(1, 9), spacing=(1.0, 1.0, 1.0), split=split) for scan, split in scans
    ]
    write_info(tmp_path / "DL_info.csv", rows)
    assert run(tmp_path)["patients_in_two_tables"] == 1
    assert "1 patients are in more than one of these tables" in caplog.text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"Slice_range": "1, nine"}, "nine"),
        ({"Spacing_mm_px_": "1, 1"}, "expected 3 numbers"),
        ({"Train_Val_Test": "4"}, "Train_Val_Test is 4"),
        ({"Measurement_coordinates": "1, 2, 3, 4, 5, 6, 7, nan"}, "expected 8 numbers"),
    ],
)
def test_a_row_that_is_not_of_the_data_set_is_refused_by_its_number(
    tmp_path: Path, change: dict[str, str], problem: str
) -> None:
    good = info_row("000001_01_01", key_slice=5, slice_range=(1, 9), spacing=(1.0, 1.0, 1.0), split=1)
    write_info(tmp_path / "DL_info.csv", [good, good | change])
    with pytest.raises(InputError, match=problem) as caught:
        read_dl_info(tmp_path / "DL_info.csv")
    assert "row 2" in caught.value.where


def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    for settings, message in (
        ({"kind": "deeplesions"}, "kind is 'deeplesions'"),
        ({"seeds": "published", "uncrossed": "midpoint"}, "published seeds are crossings"),
        ({"workers": 0}, "too small"),
        ({"thickness": 3}, "unknown key"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(tmp_path, **settings)
    with pytest.raises(InputError, match="cannot be read"):
        run(tmp_path)


@pytest.mark.slow
@needs_shared
def test_the_published_tables_are_reproduced_row_by_row(tmp_path: Path) -> None:
    write_info(tmp_path / "DL_info.csv", rebuild_info(read_published(PUBLISHED).values()))
    record = run(tmp_path, published=str(PUBLISHED))
    counts = {name: (facts["lesions"], facts["splits"]) for name, facts in record["tables"].items()}
    # Pai et al. 2024: 16,518 lesions, 11,467 unlabelled, 5,051 labelled of eight sites
    assert counts["pretrain.csv"] == (11467, {"train": 11467})
    assert counts["task1.csv"] == (5051, {"train": 2610, "val": 1220, "test": 1221})
    assert len(record["tables"]["task1.csv"]["labels"]) == 8
    assert record["patients_in_two_tables"] == 0
    shares = record["published"]["shares_the_same"]
    assert shares.pop("seed_to_the_last_bit") > 0.7  # the rest differ by less than 1e-12 mm
    assert shares == dict.fromkeys(("seed", "spacing", "diameters", "image", "label", "split"), 1.0)
    assert record["published"]["n_both"] == 16518


@needs_shared
def test_the_published_split_shares_patients_between_val_and_test_only() -> None:
    rows = read_published(PUBLISHED).values()
    of = {name: {row["Volume_fn"][:6] for row in rows if row["table"] == name} for name in {r["table"] for r in rows}}
    assert len(of["task1_val.csv"] & of["task1_test.csv"]) == 291
    assert not of["pretrain.csv"] & (of["task1_train.csv"] | of["task1_val.csv"] | of["task1_test.csv"])
    assert not of["task1_train.csv"] & (of["task1_val.csv"] | of["task1_test.csv"])
