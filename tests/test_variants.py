"""Stability and drift as the chain computes them: tables, ledger and SR agree, and the features stay as they are."""

import csv
import json

import numpy as np
import pydicom
import pytest

from fmcib_module import Seed, extract_patch, load_encoder, read_volume, run
from fmcib_module.adapters import volume_reader
from fmcib_module.adapters.variants_file import read_variants
from fmcib_module.core.conventions import Mode
from fmcib_module.core.errors import ConfigError, OutputError
from fmcib_module.core.variants import jittered_seeds
from tests import phantoms
from tests.adapters.report_builders import dciodvfy_complaints, groups_of, meaning
from tests.chain import LESIONS, features_of, noting, rows_of

PLAIN = {"seg": False, "pictures": False, "report": False}


def _rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A study, run without and with both options."""
    base = tmp_path_factory.mktemp("variants")
    study = phantoms.write_study(base / "in", lesions=LESIONS)
    run(base / "in", base / "plain", **PLAIN)
    run(base / "in", base / "out", stability=4, compare_modes=True, **{**PLAIN, "report": True})
    return study, base


def test_features_are_the_same_bytes_with_and_without(both):
    study, base = both
    for name in ("features.csv", f"{study.series_uid}/features.csv"):
        assert (base / "out" / name).read_bytes() == (base / "plain" / name).read_bytes()
    names = {path.name for path in (base / "plain").rglob("*")}
    assert {path.name for path in (base / "out").rglob("*")} - names == {
        *("variants.npz", "stability.csv", "stability_icc.csv", "modes.csv", "report.html"),
    }


def test_cosines_are_those_of_features_computed_one_by_one(both):
    study, base = both
    volume, encoder = read_volume(study.folder / "ct"), load_encoder("mini")
    for row, features in zip(
        _rows(base / "out" / "stability.csv"), rows_of(base / "out" / "features.csv"), strict=True
    ):
        own = features_of(features).astype(float)
        lps = tuple(float(features[f"coord{axis}"]) for axis in "XYZ")
        number = int(features["roi_number"]) if features["roi_number"] else None
        seed = Seed(lps, features["Mhub ROI"], features["source_uid"], roi_number=number)
        others = encoder.encode([extract_patch(volume, s) for s in jittered_seeds(seed, study.series_uid, 4)])
        cosines = [other @ own / np.linalg.norm(other) / np.linalg.norm(own) for other in others.astype(float)]
        assert (row["n_seeds"], row["n_lost"]) == ("4", "0")
        assert float(row["cosine_mean"]) == pytest.approx(np.mean(cosines), abs=1e-6)
        assert float(row["cosine_min"]) == pytest.approx(min(cosines), abs=1e-6)


def test_drift_is_that_of_features_computed_in_each_mode(both):
    study, base = both
    volume, encoder = read_volume(study.folder / "ct"), load_encoder("mini")
    rows = _rows(base / "out" / "modes.csv")
    assert len(rows) == 2 * 3
    for row in rows:
        seed = Seed(study.centroids[row["Mhub ROI"]], row["Mhub ROI"], "")
        a, b = encoder.encode([extract_patch(volume, seed, row[key]) for key in ("mode", "other")]).astype(float)
        assert float(row["relative_l2"]) == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a), abs=1e-4)
        assert float(row["cosine"]) == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-6)
    assert any(float(row["relative_l2"]) > 1e-3 for row in rows)


def test_icc_stands_for_each_feature_over_all_lesions(both):
    study, base = both
    rows = _rows(base / "out" / "stability_icc.csv")
    assert [row["feature"] for row in rows] == [f"feature_{n}" for n in range(512)]
    assert {(row["n_lesions"], row["n_raters"]) for row in rows} == {("2", "5")}
    names = ["", *(f"jitter-{n:03d}" for n in range(1, 5))]
    stored = read_variants(base / "out" / study.series_uid / "variants.npz")
    table = np.array([[lesion[name][7] for name in names] for lesion in stored], float)  # feature 7, (2, 5)
    (n, k), grand = table.shape, table.mean()
    by_row, by_column = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True)
    msr, msc = k * ((by_row - grand) ** 2).sum() / (n - 1), n * ((by_column - grand) ** 2).sum() / (k - 1)
    mse = ((table - by_row - by_column + grand) ** 2).sum() / ((n - 1) * (k - 1))
    assert float(rows[7]["icc"]) == pytest.approx((msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n), rel=1e-6)


def test_ledger_and_sr_hold_the_numbers_of_the_table(both):
    study, base = both
    ledger = json.loads((base / "out" / "run_status.json").read_text())
    [entry] = [entry for entry in ledger["series"] if entry["rois"]]
    path = base / "out" / study.series_uid / "features.sr.dcm"
    groups = groups_of(pydicom.dcmread(path))
    for row, roi, group in zip(_rows(base / "out" / "stability.csv"), entry["rois"], groups, strict=True):
        assert roi["stability"]["cosine_mean"] == float(row["cosine_mean"])
        numbers = {meaning(i): i.MeasuredValueSequence[0] for i in group.ContentSequence if i.ValueType == "NUM"}
        found = {name: float(value.NumericValue) for name, value in numbers.items() if "jittered" in name.lower()}
        assert found == pytest.approx(
            {
                "Jittered seeds with features": 4,
                "Mean cosine to features of jittered seeds": float(row["cosine_mean"]),
                "Lowest cosine to features of jittered seeds": float(row["cosine_min"]),
            },
            abs=1e-6,
        )
        assert len(numbers) == 512 + 3
    plain = dciodvfy_complaints(base / "plain" / study.series_uid / "features.sr.dcm")
    assert dciodvfy_complaints(path) == plain


def test_the_report_says_how_far_features_move(both):
    _, base = both
    page = (base / "out" / "report.html").read_text()
    assert "4 jittered seeds per lesion" in page
    assert "ICC(2,1)" in page
    assert '"stable":[' in page
    assert page.count("<td>published-monai16</td>") == 2


def test_seeds_whose_patch_lies_outside_the_scan_are_counted(tmp_path):
    study = phantoms.write_study(tmp_path / "in", rtstruct=False, seg=False)
    x, y, z = phantoms.CENTRE_LPS
    at = x + 48 / 2 + 22  # 24 mm beyond the last voxel there is no patch any more
    (tmp_path / "in" / f"{study.series_uid}.csv").write_text(f"coordX,coordY,coordZ\n{at},{y},{z}\n")
    run(tmp_path / "in", tmp_path / "out", stability=20, sr=False, **PLAIN)
    [row] = _rows(tmp_path / "out" / "stability.csv")
    assert 0 < int(row["n_lost"]) < 20
    assert row["cosine_mean"]
    assert _rows(tmp_path / "out" / "stability_icc.csv") == []  # no lesion has all of its repeats


def test_no_slice_is_decoded_twice(tmp_path, monkeypatch):
    phantoms.write_study(tmp_path / "in", lesions=LESIONS, seg=False)
    decoded = []
    monkeypatch.setattr(volume_reader, "decode_slices", noting(decoded))
    run(tmp_path / "in", tmp_path / "out", stability=3, compare_modes=True, sr=False, **PLAIN)
    uids = [instance.sop_instance_uid for instance in decoded]
    assert len(uids) == len(set(uids))


def test_a_rerun_takes_over_and_writes_the_same_tables(tmp_path):
    phantoms.write_study(tmp_path / "in", lesions=LESIONS)
    options = {"stability": 2, "compare_modes": True, "sr": False, **PLAIN}
    tables = []
    for _ in range(2):
        run(tmp_path / "in", tmp_path / "out", **options)
        tables.append({path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.csv")})
    assert tables[0] == tables[1]
    assert set(tables[0]) == {"features.csv", "patients.csv", "stability.csv", "stability_icc.csv", "modes.csv"}
    run(tmp_path / "in", tmp_path / "out", force=True, **{**options, "stability": 0, "compare_modes": False})
    assert {path.name for path in (tmp_path / "out").rglob("*.*")} & {
        "stability.csv",
        "modes.csv",
        "variants.npz",
    } == set()


def test_the_run_s_own_mode_is_one_of_the_compared(tmp_path):
    phantoms.write_study(tmp_path / "in", lesions=LESIONS[:1], seg=False)
    run(tmp_path / "in", tmp_path / "out", mode="centred", compare_modes=True, sr=False, **PLAIN)
    pairs = {(row["mode"], row["other"]) for row in _rows(tmp_path / "out" / "modes.csv")}
    assert pairs == {("published", "published-monai16"), ("published", "centred"), ("published-monai16", "centred")}
    assert not (tmp_path / "out" / "stability.csv").exists()
    assert {Mode(mode) for pair in pairs for mode in pair} == set(Mode)


def test_a_damaged_file_of_variants_says_what_to_do(tmp_path):
    (tmp_path / "variants.npz").write_bytes(b"PK nonsense")
    with pytest.raises(OutputError, match=r"variants\.npz.*--force"):
        list(read_variants(tmp_path / "variants.npz"))


@pytest.mark.parametrize("count", [-1, 1000])
def test_a_number_of_seeds_out_of_range_is_refused(tmp_path, count):
    with pytest.raises(ConfigError, match="stability is"):
        run(tmp_path, tmp_path / "out", stability=count)
