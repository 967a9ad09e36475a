"""Other extractors beside the weights: the same lesions and seeds, no second read, a table each, all on the ledger."""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from fmcib_module import run
from fmcib_module.adapters import volume_reader
from fmcib_module.adapters.extractors import load_extractor
from fmcib_module.cli import app
from fmcib_module.cli_display import show_ledger
from fmcib_module.core.conventions import Mode
from fmcib_module.core.domain import Seed
from fmcib_module.core.errors import ConfigError, OutputError, WeightsError
from fmcib_module.core.extractors import CARDS, cut_cube
from fmcib_module.core.ledger import ExitCode
from fmcib_module.core.volume import Volume
from fmcib_module.report.contents import gather_attention
from tests import phantoms
from tests.adapters import published_forms
from tests.adapters.small_weights import sha256_of
from tests.chain import LESIONS, features_of, noting, rows_of

PLAIN = {"seg": False, "sr": False, "pictures": False, "report": False}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FMCIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A study with a contour, a segment and a point; weights of Models Genesis; and a run with all of it."""
    base = tmp_path_factory.mktemp("side")
    study = phantoms.write_study(base / "in", lesions=LESIONS)
    x, y, z = phantoms.CENTRE_LPS
    (base / "in" / "points.csv").write_text(f"series_uid,coordX,coordY,coordZ\n{study.series_uid},{x},{y},{z}\n")
    weights = published_forms.write_genesis(base / "genesis.pt", 2)
    decoded = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(volume_reader, "decode_slices", noting(decoded))
        ledger = run(base / "in", base / "out", extractors=(f"models-genesis={weights}", "mini", "radiomics"), **PLAIN)
    return base, study, ledger, decoded, weights


def test_the_main_table_is_the_same_bytes_with_and_without(base):
    folder, study, *_ = base
    run(folder / "in", folder / "plain", **PLAIN)
    for name in ("features.csv", f"{study.series_uid}/features.csv"):
        assert (folder / "plain" / name).read_bytes() == (folder / "out" / name).read_bytes()
    assert not list((folder / "plain").rglob("features.*.csv"))


def test_no_slice_is_decoded_twice(base):
    *_, decoded, _ = base
    paths = [instance.path for instance in decoded]
    assert len(paths) == len(set(paths)) > 0


def test_features_are_the_extractors_output_for_its_own_cube_at_the_same_seed(base):
    folder, study, _, _, weights = base
    extractor = load_extractor(f"models-genesis={weights}", device="cpu")
    volume = Volume.from_array(study.voxels_hu, study.affine, study.series_uid)
    main, rows = (rows_of(folder / "out" / f"features{infix}.csv") for infix in ("", ".models-genesis"))
    assert [row["Mhub ROI"] for row in rows] == [row["Mhub ROI"] for row in main]
    assert len(rows) == 3
    for row, ours in zip(rows, main, strict=True):
        assert {row[f"coord{axis}"] for axis in "XYZ"} == {ours[f"coord{axis}"] for axis in "XYZ"}
        seed = Seed(tuple(float(row[f"coord{axis}"]) for axis in "XYZ"), row["Mhub ROI"], "")
        region = cut_cube(volume, seed, Mode.PUBLISHED, extractor.card.form)
        np.testing.assert_allclose(features_of(row), extractor.encode([region])[0], rtol=1e-4, atol=1e-5)
        assert (row["weights"], row["weights_sha256"]) == ("models-genesis", sha256_of(weights))


def test_mini_beside_mini_is_the_same(base):
    folder, *_ = base
    main, rows = (rows_of(folder / "out" / f"features{infix}.csv") for infix in ("", ".mini"))
    for row, ours in zip(rows, main, strict=True):
        np.testing.assert_array_equal(features_of(row), features_of(ours))


def test_csv_and_parquet_hold_the_same_values_and_radiomics_have_names(base):
    folder, study, *_ = base
    rows = rows_of(folder / "out" / "features.radiomics.csv")
    assert rows == rows_of(folder / "out" / study.series_uid / "features.radiomics.csv")
    table = pq.read_table(folder / "out" / "features.radiomics.parquet").to_pydict()
    for row, values in zip(rows, table["features"], strict=True):
        np.testing.assert_array_equal(features_of(row), np.array(values, dtype=np.float32))
    with (folder / "out" / "features.radiomics.names.csv").open(encoding="utf-8") as file:
        names = {row["name"]: row["feature"] for row in csv.DictReader(file)}
    assert len(names) == 107
    by_roi = {row["Mhub ROI"]: row for row in rows}
    for name in ("GTV-1", "Node"):
        expected = study.masks[name].sum() * np.prod([1.5, 1.5, 2.5])
        assert float(by_roi[name][names["shape_VoxelVolume"]]) == pytest.approx(expected, rel=0.12)
        inside = study.voxels_hu[study.masks[name]].mean()
        assert float(by_roi[name][names["firstorder_Mean"]]) == pytest.approx(inside, abs=25)


def test_a_point_has_no_radiomics_and_the_ledger_says_why(base):
    folder, _, ledger, _, _ = base
    assert ledger.exit_code is ExitCode.PARTIAL
    missing = {roi.label: roi.missing for entry in ledger.series for roi in entry.rois}
    assert missing["GTV-1"] == missing["Node"] == {}
    (reason,) = (reasons for label, reasons in missing.items() if label not in ("GTV-1", "Node"))
    assert set(reason) == {"radiomics"}
    assert "no ROI to measure" in reason["radiomics"].what
    assert len(rows_of(folder / "out" / "features.radiomics.csv")) == 2
    assert json.loads((folder / "out" / "run_status.json").read_text())["exit_code"] == 3


def test_a_person_is_told_in_the_terminal_and_in_the_report(base, capsys):
    folder, study, ledger, *_ = base
    show_ledger(ledger, folder / "out", json_log=False)
    told = " ".join(capsys.readouterr().err.split())
    assert "no radiomics ROI" in told
    assert "there is no ROI to measure" in told
    (attention,) = gather_attention(ledger)
    assert "there is no ROI to measure" in attention.what
    (place,) = attention.places
    assert study.series_uid in place
    assert "radiomics of ROI" in place


def test_the_ledger_names_each_extractor_and_no_folder(base):
    folder, study, ledger, _, weights = base
    text = (folder / "out" / "run_status.json").read_text()
    assert str(folder) not in text
    run_facts = json.loads(text)["run"]
    assert [one["name"] for one in run_facts["extractors"]] == ["models-genesis", "mini", "radiomics"]
    genesis, mini, measured = run_facts["extractors"]
    assert genesis["weights_sha256"] == sha256_of(weights)
    assert "48 x 48 x 48 mm, -1000..1000 HU" in genesis["form"]
    assert "not in the registry" in genesis["note"]
    assert (mini["n_features"], measured["licence"]) == (512, "BSD-3-Clause")
    (entry,) = (entry for entry in ledger.series if entry.output == study.series_uid)
    assert {"features.mini.csv", "features.models-genesis.csv", "features.radiomics.csv"} <= set(entry.files)
    assert "extractor radiomics" in entry.timings_s


def test_a_rerun_takes_over_and_gives_the_same_tables(base, monkeypatch):
    folder, *_, weights = base
    decoded = []
    monkeypatch.setattr(volume_reader, "decode_slices", noting(decoded))
    names = [path for path in (folder / "out").glob("features.*") if path.is_file()]
    before = {path.name: path.read_bytes() for path in names}
    wanted = (f"models-genesis={weights}", "mini", "radiomics")
    again = run(folder / "in", folder / "out", extractors=wanted, **PLAIN)
    assert again.exit_code is ExitCode.PARTIAL
    assert decoded == []
    assert {path.name: path.read_bytes() for path in names} == before
    other = published_forms.write_genesis(folder / "other.pt", 4)
    with pytest.raises(OutputError, match="extractors"):
        run(folder / "in", folder / "out", extractors=(f"models-genesis={other}", "mini", "radiomics"), **PLAIN)


@pytest.mark.slow
def test_force_without_extractors_leaves_none_of_their_tables(tmp_path):
    phantoms.write_study(tmp_path / "in", lesions=LESIONS[:1], seg=False)
    run(tmp_path / "in", tmp_path / "out", extractors=("radiomics",), **PLAIN)
    assert list((tmp_path / "out").rglob("features.radiomics.*"))
    run(tmp_path / "in", tmp_path / "out", force=True, **PLAIN)
    assert not list((tmp_path / "out").rglob("features.radiomics*"))


@pytest.mark.slow
def test_the_command_line_takes_names_with_commas_and_repeated(tmp_path):
    phantoms.write_study(tmp_path / "in", lesions=LESIONS[:1], seg=False)
    plain = ["--no-sr", "--no-seg", "--no-pictures", "--no-report"]
    arguments = ["run", str(tmp_path / "in"), str(tmp_path / "out"), "--extractor", "mini,radiomics", *plain]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert (tmp_path / "out" / "features.mini.parquet").is_file()
    assert (tmp_path / "out" / "features.radiomics.parquet").is_file()


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        (("mini", "mini=x.pt"), ConfigError, "named twice"),
        (("resnet",), ConfigError, "no extractor 'resnet'"),
        (("med3d",), WeightsError, "not on this machine"),
        (("radiomics=x.pt",), ConfigError, "has no weights"),
    ],
)
def test_what_cannot_run_is_said_before_anything_is_written(tmp_path, monkeypatch, wanted, error, message):
    monkeypatch.setenv("FMCIB_CACHE", str(tmp_path / "cache"))
    phantoms.write_study(tmp_path / "in", lesions=LESIONS[:1], seg=False)
    with pytest.raises(error, match=message):
        run(tmp_path / "in", tmp_path / "out", extractors=wanted, **PLAIN)
    assert not (tmp_path / "out").exists()


def test_every_card_says_its_licence_and_what_it_takes_in():
    for card in CARDS:
        assert card.licence
        assert card.form.describe()
        assert card.n_features > 0
