"""Any extractor over a lesion table or a cache: the features are those of the chain, and nothing disappears."""

import logging

import numpy as np
import pandas as pd
import pytest
import yaml

from fmcib_module import Seed, extract_patch, load_encoder, read_volume
from fmcib_module.adapters.extractors import load_extractor
from fmcib_module.core.conventions import Mode
from fmcib_module.core.errors import ConfigError, InputError
from fmcib_module.core.extractors import cut_cube
from tests import phantoms
from tests.adapters import published_forms
from tests.adapters.small_weights import sha256_of
from tests.chain import LESIONS
from tests.shared import DATA, needs_shared
from tests.training import scans
from training.__main__ import main
from training.adaptation.feature_table import read_feature_table
from training.adaptation.features import FeatureSettings, compute_features, features
from training.adaptation.lesions import LesionSettings, open_lesions
from training.lesion_table import read_lesion_table
from training.prepare import build_cache
from training.verbs import VERBS


def settings(folder, **values):
    path = folder / "features.yml"
    path.write_text(yaml.safe_dump({"output": "features", **values}), encoding="utf-8")
    return path


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Two scans with two lesions each; columns that mean nothing here, and outcomes."""
    monkeypatch.setenv("FMCIB_CACHE", str(tmp_path / "cache_of_weights"))
    monkeypatch.chdir(tmp_path)
    scans.make_inputs(tmp_path, n_scans=2)
    table = pd.read_csv(tmp_path / "lesions.csv")
    table = table.assign(lesion=[f"L{n}" for n in range(4)], split=["train", "train", "test", "test"])
    table = table.assign(time=[1.5, 2.5, 0.5, 3.0], event=[1, 0, 1, 0], stage=["I", "II", "I", "IV"])
    table.to_csv(tmp_path / "lesions.csv", index=False)
    return tmp_path


def test_features_are_those_of_the_chain_with_the_tables_columns(inputs):
    (path,) = features(settings(inputs, data={"table": "lesions.csv"}, extractors=["mini"], device="cpu"))
    table = read_feature_table(path)
    given = pd.read_csv(inputs / "lesions.csv")
    encoder = load_encoder("mini", device="cpu")
    for row, values in zip(given.to_dict("records"), table.values, strict=True):
        seed = Seed((row["coordX"], row["coordY"], row["coordZ"]), "", "")
        patch = extract_patch(read_volume(inputs / row["image_path"]), seed)
        np.testing.assert_array_equal(values, encoder.encode([patch])[0])
    for name in ("lesion", "patient", "split", "label", "stage"):
        assert table.frame[name].tolist() == given[name].tolist()
    assert table.frame["time"].tolist() == [1.5, 2.5, 0.5, 3.0]
    assert table.frame["event"].tolist() == [1, 0, 1, 0]
    assert table.meta.table_sha256 == read_lesion_table(inputs / "lesions.csv").sha256
    assert (table.meta.extractor, table.meta.mode) == ("mini", "published")
    assert str(inputs) not in table.frame.to_csv()


@pytest.mark.slow
def test_each_scan_is_read_once_for_all_extractors(inputs, monkeypatch):
    from training.adaptation import lesions as module

    opened = []
    monkeypatch.setattr(module, "read_volume", lambda source, **more: opened.append(source) or read_volume(source))
    weights = published_forms.write_genesis(inputs / "genesis.pt", 2)
    wanted = ["mini", f"models-genesis={weights}"]
    paths = features(settings(inputs, data={"table": "lesions.csv"}, extractors=wanted, device="cpu"))
    assert [path.name for path in paths] == ["mini.parquet", "models-genesis.parquet"]
    assert len(opened) == 2
    table = read_feature_table(paths[1])
    assert table.meta.weights_sha256 == sha256_of(weights)
    extractor = load_extractor(wanted[1], device="cpu")
    row = table.frame.iloc[3]
    seed = Seed((row["coordX"], row["coordY"], row["coordZ"]), "", "")
    region = cut_cube(read_volume(inputs / row["image"]), seed, Mode.PUBLISHED, extractor.card.form)
    np.testing.assert_allclose(table.values[3], extractor.encode([region])[0], rtol=1e-5, atol=1e-6)


def test_a_cache_gives_the_same_within_its_rounding_to_whole_hu(inputs):
    prepare = scans.PrepareSettings(cache="cache", licence="CC0-1.0", tables=("lesions.csv",), mode=Mode.CENTRED)
    build_cache(prepare, inputs)
    of_cache = open_lesions(LesionSettings(cache="cache"))
    of_table = open_lesions(LesionSettings(table="lesions.csv", mode=Mode.CENTRED))
    order = [of_cache.frame["lesion"].tolist().index(name) for name in of_table.frame["lesion"]]
    form = {"x": load_extractor("mini", device="cpu").card.form}
    cached = {row: found["x"].voxels for row, found in of_cache.regions(form)}
    for row, found in of_table.regions(form):
        assert np.abs(cached[order[row]] - found["x"].voxels).max() <= 0.5 / 3072 + 1e-6
    rows = range(4)
    theirs, ours = of_table.crop_reader(rows, 54), of_cache.crop_reader(rows, 54)
    for row in rows:
        np.testing.assert_array_equal(theirs(row), ours(order[row]))
    assert of_cache.frame["time"].iloc[order].tolist() == of_table.frame["time"].tolist()


@pytest.mark.slow
def test_dicom_series_are_found_by_their_uid(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = phantoms.write_study(tmp_path / "dicom", lesions=LESIONS)
    x, y, z = study.centroids["GTV-1"]
    scans.write_table(
        tmp_path / "lesions.csv",
        [{"SeriesInstanceUID": study.series_uid, "coordX": x, "coordY": y, "coordZ": z, "patient": "p"}],
    )
    data = {"table": "lesions.csv", "images": "dicom/ct"}
    (path,) = features(settings(tmp_path, data=data, extractors=["mini"], device="cpu"))
    patch = extract_patch(read_volume(study.folder / "ct"), Seed((x, y, z), "", ""))
    np.testing.assert_array_equal(read_feature_table(path).values, load_encoder("mini", device="cpu").encode([patch]))


def test_radiomics_measure_the_mask_of_each_lesion_and_the_others_are_named(inputs, caplog):
    itk = scans.sitk
    image = itk.ReadImage(str(inputs / "s0.nrrd"))
    labels = np.zeros(image.GetSize()[::-1], dtype=np.uint8)
    labels[10:16, 10:20, 12:22] = 2
    mask = itk.GetImageFromArray(labels)
    mask.CopyInformation(image)
    itk.WriteImage(mask, str(inputs / "mask.nrrd"))
    table = pd.read_csv(inputs / "lesions.csv").assign(mask=["mask.nrrd", "", "", ""], mask_label=[2, "", "", ""])
    table.to_csv(inputs / "lesions.csv", index=False)
    path = settings(inputs, data={"table": "lesions.csv"}, extractors=["radiomics"])
    with caplog.at_level(logging.WARNING), pytest.raises(InputError, match=r"3 lesion\(s\) have no features"):
        features(path)
    assert "lesion L1, radiomics: the lesion has no mask to measure" in caplog.text
    found = read_feature_table(inputs / "features/radiomics.parquet")
    names = pd.read_csv(inputs / "features/radiomics.names.csv")["name"].tolist()
    assert found.frame["lesion"].tolist() == ["L0"]
    volume = found.values[0][names.index("shape_VoxelVolume")]
    assert volume == pytest.approx(600 * 2 * 2 * 3, rel=0.02)
    inside = itk.GetArrayFromImage(image)[labels == 2]
    assert found.values[0][names.index("firstorder_Mean")] == pytest.approx(inside.mean(), abs=20)


def test_what_is_there_is_kept_and_what_changed_is_made_again(inputs):
    one = FeatureSettings("features", LesionSettings(table="lesions.csv"), ("mini",), device="cpu")
    (path,), _ = compute_features(one)
    before = path.stat().st_mtime_ns
    compute_features(one)
    assert path.stat().st_mtime_ns == before
    table = pd.read_csv(inputs / "lesions.csv")
    table.loc[0, "coordX"] += 3
    table.to_csv(inputs / "lesions.csv", index=False)
    old = read_feature_table(path).values
    compute_features(one)
    changed = (read_feature_table(path).values != old).any(axis=1)
    assert changed.tolist() == [True, False, False, False]


def test_a_missing_image_is_named_and_the_others_are_done(inputs, caplog):
    (inputs / "s1.nrrd").unlink()
    path = settings(inputs, data={"table": "lesions.csv"}, extractors=["mini"], device="cpu")
    assert main(["features", str(path)]) == 3
    assert "no such image or series" in caplog.text
    assert read_feature_table(inputs / "features/mini.parquet").frame["lesion"].tolist() == ["L0", "L1"]


def test_wrong_settings_are_refused(inputs):
    with pytest.raises(ConfigError, match="one source of lesions"):
        LesionSettings(table="a.csv", cache="b")
    with pytest.raises(ConfigError, match="no extractor 'x'"):
        features(settings(inputs, data={"table": "lesions.csv"}, extractors=["x"]))
    assert "features" in VERBS


@needs_shared
@pytest.mark.slow
def test_real_lung_lesions_are_as_large_as_their_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, itk, rows, expected = DATA / "volumes-pyradiomics", scans.sitk, [], []
    for name in ("lung1", "lung2"):
        mask = itk.ReadImage(str(folder / f"{name}_label.nrrd"))
        labels = itk.GetArrayFromImage(mask)
        k, j, i = (float(np.mean(axis)) for axis in np.nonzero(labels))
        place = mask.TransformContinuousIndexToPhysicalPoint((i, j, k))
        rows.append(scans.lesion(f"{name}_image.nrrd", place, mask=f"{name}_label.nrrd", mask_label=int(labels.max())))
        expected.append((labels > 0).sum() * np.prod(mask.GetSpacing()))
    scans.write_table(tmp_path / "lesions.csv", rows)
    features(settings(tmp_path, data={"table": "lesions.csv", "images": str(folder)}, extractors=["radiomics"]))
    table = read_feature_table(tmp_path / "features/radiomics.parquet")
    names = pd.read_csv(tmp_path / "features/radiomics.names.csv")["name"].tolist()
    assert table.values[:, names.index("shape_VoxelVolume")] == pytest.approx(expected, rel=0.05)
