"""Folders of DICOM: lesions where they were drawn, pairs of scans, pseudonyms, outcomes, patches."""

import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmcib_module.adapters.image_files import read_mask
from tests import phantoms
from tests.shared import DATA, needs_shared
from training.cache import LesionCache
from training.cohorts.cohort import cohort
from training.lesion_table import LesionRow, read_lesion_table
from training.prepare import prepare


def write_patients(folder: Path, scans: dict[str, int], **options: Any) -> dict[str, phantoms.PhantomStudy]:
    """Patient -> number of scans; each scan has the default lesions."""
    studies = [
        phantoms.write_study(folder / f"s{n}-{name}", seed=10 * n + repeat, patient_id=name, **options)
        if repeat == 0
        else phantoms.write_study(folder / f"s{n}-{name}-{repeat}", seed=10 * n + repeat, patient_id=name, **options)
        for n, (name, count) in enumerate(scans.items())
        for repeat in range(count)
    ]
    return {study.series_uid: study for study in studies}


def run(folder: Path, **settings: object) -> dict[str, Any]:
    """The verb with `kind: dicom`, with its record."""
    values = {"kind": "dicom", "images": "dicom", "output": "out", **settings}
    (folder / "cohort.yml").write_text(json.dumps(values), encoding="utf-8")
    with chdir(folder):
        return cohort(Path("cohort.yml"))


def rows_of(folder: Path) -> tuple[LesionRow, ...]:
    """Of the table that was written."""
    return read_lesion_table(folder / "out" / "lesions.csv").rows


@pytest.mark.parametrize("source", ["RTSTRUCT", "SEG"])
def test_lesions_are_where_they_were_drawn(tmp_path: Path, source: str) -> None:
    studies = write_patients(tmp_path / "dicom", {"A": 1, "B": 1})
    run(tmp_path, sources=[source])
    rows = rows_of(tmp_path)
    assert len(rows) == 4
    for row in rows:
        assert row.lps_mm == pytest.approx(studies[row.image].centroids[row.others["roi"]], abs=1e-3)
    assert len({row.patient for row in rows}) == 2


def test_patients_are_pseudonyms_unless_identifiers_are_asked_for(tmp_path: Path) -> None:
    write_patients(tmp_path / "dicom", {"LUNG1-001": 1})
    run(tmp_path, rois=["GTV-1"], sources=["RTSTRUCT"])
    text = "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    assert "LUNG1-001" not in text
    assert "PHANTOM" not in text
    run(tmp_path, rois=["GTV-1"], sources=["RTSTRUCT"], identifiers=True)
    assert [row.patient for row in rows_of(tmp_path)] == ["LUNG1-001"]


def test_the_largest_roi_is_taken_where_one_is_asked_for(tmp_path: Path) -> None:
    write_patients(tmp_path / "dicom", {"A": 1})
    run(tmp_path, take="largest", sources=["SEG"])
    assert [row.others["roi"] for row in rows_of(tmp_path)] == ["GTV-1"]  # radius 7 mm; the other is a box of 6 mm


def test_outcomes_are_joined_by_patient_id_also_behind_pseudonyms(tmp_path: Path) -> None:
    write_patients(tmp_path / "dicom", {"LUNG1-001": 1, "LUNG1-002": 1, "LUNG1-003": 1})
    clinical = "PatientID,Survival.time,deadstatus.event\nLUNG1-001,900,1\nLUNG1-002,100,1\nLUNG1-003,100,0\n"
    (tmp_path / "clinical.csv").write_text(clinical, encoding="utf-8")
    outcome = {"table": "clinical.csv", "form": "lung1"}
    record = run(tmp_path, take="largest", sources=["RTSTRUCT"], outcome=outcome, test=1.0)
    assert sorted((row.label, row.split) for row in rows_of(tmp_path)) == [("0", "test"), ("1", "test")]
    assert record["left_out"] == {"its patient was last seen alive before 2 years": 1}


def test_pairs_are_patients_with_two_scans(tmp_path: Path) -> None:
    studies = write_patients(tmp_path / "dicom", {"A": 2, "B": 1, "C": 2})
    record = run(tmp_path, pairs=True, sources=["RTSTRUCT"])
    rows = rows_of(tmp_path)
    assert [(row.others["pair"], row.others["repeat"]) for row in rows] == [
        ("1", "1"),
        ("1", "2"),
        ("2", "1"),
        ("2", "2"),
    ]
    for first, second in ((rows[0], rows[1]), (rows[2], rows[3])):
        assert first.patient == second.patient
        assert first.image != second.image
        assert first.lps_mm == pytest.approx(second.lps_mm, abs=0.1)
    assert {row.image for row in rows} < set(studies)
    assert record["left_out"] == {"its patient has 1 scan(s) with a lesion, not two": 1}


def test_series_without_lesions_or_of_no_uniform_grid_are_left_out_with_their_reason(tmp_path: Path) -> None:
    write_patients(tmp_path / "dicom", {"A": 1})
    write_patients(tmp_path / "dicom" / "b", {"-": 0, "B": 1}, rtstruct=False, seg=False)
    broken = next(iter(write_patients(tmp_path / "dicom" / "c", {"C": 1}, shape_kji=(12, 32, 32)).values()))
    broken.ct_paths[5].unlink()
    record = run(tmp_path, sources=["SEG"])
    assert record["tables"]["lesions.csv"]["patients"] == 1
    assert record["left_out"].pop("nothing is drawn on the series") == 1
    assert sum(record["left_out"].values()) == 1


def test_patches_of_a_dicom_cohort_are_cached_and_kept(tmp_path: Path) -> None:
    studies = write_patients(tmp_path / "dicom", {"A": 1, "B": 1})
    run(tmp_path, rois=["GTV-1"], sources=["SEG"], val=0.5)
    settings = {"cache": "cache", "licence": "none", "tables": ["out/lesions.csv"], "images": "dicom"}
    (tmp_path / "prepare.yml").write_text(json.dumps(settings), encoding="utf-8")
    for _ in range(2):
        prepare(tmp_path / "prepare.yml")
    cache = LesionCache(tmp_path / "cache")
    assert {lesion.split for lesion in cache.lesions} == {"train", "val"}
    for n, lesion in enumerate(cache.lesions):
        study = studies[cache.scans[lesion.scan].image]
        assert lesion.lps_mm == pytest.approx(study.centroids["GTV-1"], abs=1e-3)
        crop = cache.read_crop(n, 50)
        assert np.abs(crop[23:28, 23:28, 23:28] - 90).max() <= 1, "the ball of 90 HU is in the middle"


@needs_shared
def test_real_patients_get_seeds_at_the_centre_of_their_independent_masks(tmp_path: Path) -> None:
    sarcoma = DATA / "ct-rtstruct-sts"
    record = run(tmp_path, images=str(sarcoma), sources=["RTSTRUCT"])
    assert record["tables"]["lesions.csv"]["patients"] == 5
    centres = []
    for path in sorted(sarcoma.glob("*/reference_mask.nii.gz")):
        mask, affine = read_mask(path)
        kji = np.argwhere(mask > 0).mean(axis=0)
        centres.append((affine @ [*kji[::-1], 1.0])[:3])
    seeds = np.array([row.lps_mm for row in rows_of(tmp_path)])
    distances = np.linalg.norm(np.array(centres)[:, None] - seeds[None], axis=-1)
    assert distances.min(axis=1).max() < 1.0, "mm; voxels are 0.98 x 0.98 x 3.27 mm"
    assert sorted(distances.argmin(axis=1)) == [0, 1, 2, 3, 4]
