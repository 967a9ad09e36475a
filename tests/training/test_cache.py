"""The cache holds what the chain cuts, survives kills, notices damage, and is written by one at a time."""

import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmcib_module import Seed, extract_patch, find_seeds, read_studies, read_volume
from fmcib_module.core.conventions import Mode
from fmcib_module.core.errors import InputError, OutputError
from tests import phantoms
from tests.shared import DATA, needs_shared
from tests.training import scans
from training.__main__ import main
from training.cache import LesionCache, cut_box
from training.cache_writer import one_writer
from training.prepare import PrepareSettings, build_cache

sitk: Any = import_module("SimpleITK")  # its stubs are incomplete

HALF_HU = 0.5 / 3072 + 1e-6  # the cache rounds to whole HU


@pytest.mark.parametrize("mode", [Mode.PUBLISHED, Mode.PUBLISHED_MONAI16])
@pytest.mark.parametrize("direction", scans.DIRECTIONS)
def test_a_patch_of_the_cache_is_the_patch_of_the_chain(tmp_path: Path, direction: str, mode: Mode) -> None:
    image = scans.write_image(tmp_path / "a.nrrd", direction=scans.DIRECTIONS[direction], spacing=(1.7, 2.0, 2.5))
    place = scans.middle(image)
    scans.write_table(tmp_path / "t.csv", [scans.lesion("a.nrrd", place)])
    settings = PrepareSettings(cache="cache", licence="CC0-1.0", tables=("t.csv",), mode=mode)
    cache = LesionCache(build_cache(settings, tmp_path).cache)
    patch = extract_patch(read_volume(tmp_path / "a.nrrd"), Seed(place, "", ""), mode=mode)
    assert patch.seed_index_kji == (25, 25, 25)
    assert np.abs(scans.scaled(cache.read_crop(0, 50)) - patch.voxels).max() <= HALF_HU
    centre = cache.lesions[0].centre_zyx
    assert np.array_equal(cache.read_box(0, centre, 50), cache.read_crop(0, 50))
    assert np.array_equal(cache.read_crop(0, 64)[7:57, 7:57, 7:57], cache.read_crop(0, 50))


def test_a_lesion_at_the_border_is_centred_and_padded_with_air(tmp_path: Path) -> None:
    image = scans.write_image(tmp_path / "a.nrrd")
    x, y, z = image.TransformIndexToPhysicalPoint((3, 20, 28))
    scans.write_table(tmp_path / "t.csv", [scans.lesion("a.nrrd", (x, y, z))])
    cache = LesionCache(build_cache(PrepareSettings("cache", "CC0-1.0", tables=("t.csv",)), tmp_path).cache)
    patch = extract_patch(read_volume(tmp_path / "a.nrrd"), Seed((x, y, z), "", ""), mode=Mode.CENTRED)
    assert patch.outside_share > 0.3
    assert np.abs(scans.scaled(cache.read_crop(0, 50)) - patch.voxels).max() <= HALF_HU


def test_lesions_of_a_dicom_folder_are_where_their_contours_are(tmp_path: Path) -> None:
    study = phantoms.write_study(tmp_path / "patient")
    settings = PrepareSettings("cache", "CC0-1.0", folders=("patient",), rois=("GTV-1",))
    cache = LesionCache(build_cache(settings, tmp_path).cache)
    for lesion in cache.lesions:
        assert lesion.label == "GTV-1"
        assert lesion.lps_mm == pytest.approx(study.centroids["GTV-1"], abs=0.05)
    assert cache.read_crop(0, 2).min() > 80  # the lesion has 90 HU, what is around it does not


@needs_shared
def test_a_real_lesion_of_the_cache_is_the_patch_of_the_chain(tmp_path: Path) -> None:
    folder = DATA / "ct-rtstruct-sts" / "STS_003"
    settings = PrepareSettings(str(tmp_path / "cache"), "CC BY 3.0", folders=(str(folder),), rois=("GTV_Mass_CT",))
    cache = LesionCache(build_cache(settings, tmp_path).cache)
    series = next(s for study in read_studies(folder) for s in study.series if s.modality == "CT" and not s.skip_reason)
    (seed,) = find_seeds(series, rois=("GTV_Mass_CT",))
    patch = extract_patch(read_volume(series), seed)
    assert [lesion.lps_mm for lesion in cache.lesions] == [seed.lps_mm]
    assert np.abs(scans.scaled(cache.read_crop(0, 50)) - patch.voxels).max() <= HALF_HU


def test_a_series_is_found_by_its_uid(tmp_path: Path) -> None:
    study = phantoms.write_study(tmp_path / "patient")
    x, y, z = study.centroids["GTV-1"]
    row = {"series_uid": study.series_uid, "coordX": x, "coordY": y, "coordZ": z}
    scans.write_table(tmp_path / "t.csv", [row])
    settings = PrepareSettings("cache", "CC0-1.0", tables=("t.csv",), images="patient")
    cache = LesionCache(build_cache(settings, tmp_path).cache)
    assert cache.read_crop(0, 2).min() > 80


def test_the_published_index_is_mirrored_where_the_scan_is_not_stored_towards_inferior(tmp_path: Path) -> None:
    found = {}
    for name in ("axial", "lpi"):
        image = scans.write_image(tmp_path / f"{name}.nrrd", direction=scans.DIRECTIONS[name], spacing=(1.0, 1.0, 1.0))
        x, y, z = image.TransformIndexToPhysicalPoint((20, 20, 9))
        scans.write_table(tmp_path / f"{name}.csv", [scans.lesion(f"{name}.nrrd", (x, y, z))])
        settings = PrepareSettings(name, "CC0-1.0", tables=(f"{name}.csv",), published_seed_index=True)
        found[name] = LesionCache(build_cache(settings, tmp_path).cache)
        # the published steps, with the library they use
        lpi = sitk.DICOMOrient(image, "LPI")
        centroid = [int(c) for c in image.TransformPhysicalPointToContinuousIndex((x, y, z))]
        start = [c - 5 for c in centroid]
        published = sitk.DICOMOrient(sitk.RegionOfInterest(lpi, [10] * 3, start), "LPS")
        assert np.array_equal(found[name].read_crop(0, 10), sitk.GetArrayFromImage(published)), name
    assert found["lpi"].lesions[0].centre_zyx[0] == 30 - 9  # slices towards inferior: one beside the seed's own
    assert found["axial"].lesions[0].centre_zyx[0] == 30 - 9  # slices towards superior: mirrored, it should be 9


KILLED = """
import os, signal, sys
from pathlib import Path
from training import cache_writer
from training.prepare import build_cache
from tests.training.scans import make_inputs
folder, when = Path(sys.argv[1]), sys.argv[2]
settings = make_inputs(folder)
if when == "in a scan":
    save, calls = cache_writer.np.save, []
    def dying_save(file, array):
        calls.append(1)
        if len(calls) == 4:  # crops of the second scan: half of them
            file.write(b"half"); file.flush(); os.kill(os.getpid(), signal.SIGKILL)
        save(file, array)
    cache_writer.np.save = dying_save
build_cache(settings, folder, told=lambda done, total: when == "between" and os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["between", "in a scan"])
def test_killed_and_continued_the_cache_has_the_same_bytes(tmp_path: Path, when: str) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "killed"), when], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "killed" / "cache" / "scans").is_dir()
    with pytest.raises(InputError, match="no finished cache"):
        LesionCache(tmp_path / "killed" / "cache")
    continued = build_cache(scans.make_inputs(tmp_path / "killed"), tmp_path / "killed")
    assert continued.n_kept == 1
    build_cache(scans.make_inputs(tmp_path / "whole"), tmp_path / "whole")
    assert scans.cache_bytes(tmp_path / "killed" / "cache") == scans.cache_bytes(tmp_path / "whole" / "cache")


@pytest.mark.slow
def test_two_processes_write_the_same_bytes_as_one(tmp_path: Path) -> None:
    build_cache(scans.make_inputs(tmp_path / "one"), tmp_path / "one")
    build_cache(replace(scans.make_inputs(tmp_path / "two"), workers=2), tmp_path / "two")
    assert scans.cache_bytes(tmp_path / "one" / "cache") == scans.cache_bytes(tmp_path / "two" / "cache")


@pytest.mark.parametrize("kind", ["scans", "crops"])
def test_a_changed_byte_is_found_by_verify_and_repaired_by_prepare(tmp_path: Path, kind: str) -> None:
    cache = scans.make_cache(tmp_path)
    cache.verify()
    before = scans.cache_bytes(cache.folder)
    victim = cache.folder / kind / "s1.nrrd.npy"
    content = bytearray(victim.read_bytes())
    content[1000] ^= 1
    victim.write_bytes(content)
    with pytest.raises(InputError, match=rf"SHA-256.*{kind}/s1.nrrd.npy"):
        LesionCache(cache.folder).verify()
    report = build_cache(scans.make_inputs(tmp_path), tmp_path)
    assert report.n_kept == 2
    assert scans.cache_bytes(cache.folder) == before


def test_a_cut_or_absent_file_is_found_when_the_cache_is_opened(tmp_path: Path) -> None:
    cache = scans.make_cache(tmp_path)
    victim = cache.folder / "crops" / "s2.nrrd.npy"
    os.truncate(victim, victim.stat().st_size - 2)
    with pytest.raises(InputError, match=r"damaged: \d+ bytes.*crops/s2"):
        LesionCache(cache.folder)
    victim.unlink()
    with pytest.raises(InputError, match="damaged: absent"):
        LesionCache(cache.folder)


def test_nothing_is_written_where_the_disk_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = scans.make_inputs(tmp_path)
    usage = namedtuple("usage", "total used free")
    # 3 scans of 79 x 87 x 88 voxels and 6 crops of 64, 2 bytes each: 6.8 MB
    needed = 2 * (3 * 79 * 87 * 88 + 6 * 64**3)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, needed))
    with pytest.raises(OutputError, match=r"needs 0.01 GB more and the disk has 0.01 GB"):
        build_cache(settings, tmp_path)
    assert not (tmp_path / "cache" / "scans").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, int(needed * 1.03)))
    assert build_cache(settings, tmp_path).n_scans == 3


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    settings = scans.make_inputs(tmp_path)
    with one_writer(tmp_path / "cache"), pytest.raises(OutputError, match="another process is writing"):
        build_cache(settings, tmp_path)


def test_a_cache_of_other_lesions_is_not_overwritten(tmp_path: Path) -> None:
    scans.make_cache(tmp_path)
    settings = scans.make_inputs(tmp_path, lesions_per_scan=1)
    with pytest.raises(OutputError, match="other lesions or settings"):
        build_cache(settings, tmp_path)
    with pytest.raises(OutputError, match="other lesions or settings"):
        build_cache(replace(scans.make_inputs(tmp_path), crop_edge=50), tmp_path)


def test_what_cannot_be_cached_is_listed_and_the_rest_is_there(tmp_path: Path) -> None:
    image = scans.write_image(tmp_path / "good.nrrd")
    (tmp_path / "bad.nrrd").write_bytes(b"not an image")
    scans.write_image(tmp_path / "coarse.nrrd", spacing=(2.0, 2.0, 9.0), size=(20, 20, 10))
    place = scans.middle(image)
    far = (place[0] + 500, place[1], place[2])
    names = ["good.nrrd", "bad.nrrd", "coarse.nrrd", "absent.nrrd"]
    scans.write_table(tmp_path / "t.csv", [scans.lesion(n, place) for n in names] + [scans.lesion("good.nrrd", far)])
    (tmp_path / "p.yml").write_text("{cache: cache, licence: CC0-1.0, tables: [t.csv], max_spacing_mm: 5}")
    assert main(["prepare", str(tmp_path / "p.yml")]) == 3
    cache = LesionCache(tmp_path / "cache")
    assert [scan.image for scan in cache.scans] == ["good.nrrd"]
    assert len(cache.lesions) == 1
    reasons = {what.split(" ")[0].rstrip(":"): reason for what, reason in cache.failures}
    assert set(reasons) == {"good.nrrd", "bad.nrrd", "coarse.nrrd", "absent.nrrd"}
    assert "9.00 mm, above 5" in reasons["coarse.nrrd"]
    assert reasons["good.nrrd"] == "its patch is outside the scan"


def test_lesions_of_a_patient_stay_in_one_split(tmp_path: Path) -> None:
    settings = replace(scans.make_inputs(tmp_path, n_scans=5), val=0.4, test=0.2, proposals=2)
    cache = LesionCache(build_cache(settings, tmp_path).cache)
    splits: dict[str, set[str]] = {}
    for lesion in cache.lesions:
        splits.setdefault(lesion.patient, set()).add(lesion.split)
    assert all(len(found) == 1 for found in splits.values())
    assert sorted(next(iter(found)) for found in splits.values()) == ["test", "train", "train", "val", "val"]


def test_a_patient_in_two_splits_of_two_tables_is_refused_unless_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = scans.make_inputs(tmp_path, n_scans=2, lesions_per_scan=1)
    place = scans.middle(scans.write_image(tmp_path / "s0.nrrd"))
    for split in ("train", "test"):
        scans.write_table(tmp_path / f"{split}.csv", [scans.lesion("s0.nrrd", place, patient="p0", split=split)])
    settings = replace(settings, tables=("train.csv", "test.csv"))
    with pytest.raises(InputError, match=r"1 patient.* more than one split"):
        build_cache(settings, tmp_path)
    assert not (tmp_path / "cache").exists()
    report = build_cache(replace(settings, shared_patients=True), tmp_path)
    assert [row.split for row in LesionCache(report.cache).lesions] == ["train", "test"]
    assert "1 patients have lesions in more than one split" in caplog.text


def test_a_box_beyond_the_scan_is_air() -> None:
    voxels = np.arange(27, dtype=np.int16).reshape(3, 3, 3)
    box = cut_box(voxels, (0, 1, 3), 4)
    assert box.shape == (4, 4, 4)
    assert box[2, 1, 1] == voxels[0, 0, 2]  # voxel (0, 1, 3) would be at [2, 2, 2]
    assert (box == -1024).sum() == 64 - 2 * 3 * 2
    assert (cut_box(voxels, (90, 1, 1), 4) == -1024).all()
