"""The mhubio modules, run by Config in folders of the test: results of the pipeline, and an exit code that tells."""

import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
from mhubio.core import IO, Instance, Module

import fmcib_module.pipeline
from fmcib_module.core.errors import ConfigError
from fmcib_module.settings import Settings
from mhub.utils import DicomImporter
from mhub.utils.workflow import SETTINGS_OF, settings_of
from tests import phantoms
from tests.mhub.chain import MODULES, OUTSIDE, make_config, read_ledger_json, run_chain, write_points

TIMED = {"started", "finished", "timings_s", "files"}  # SR and SEG hold the time of writing, so their hashes differ
TIME_TAGS = {"DA", "TM", "DT"}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two patients and a file that is neither, run by the pipeline and by the modules: the two output folders."""
    base = tmp_path_factory.mktemp("app_data")
    source = base / "input_data"
    first = phantoms.write_study(source / "a")
    phantoms.write_study(source / "b", seed=1, orientation="coronal", seg=False)
    phantoms.write_study(source / "c", seed=2, rtstruct=False, seg=False)  # nothing drawn on it
    write_points(source / f"{first.series_uid}.json", inside=phantoms.CENTRE_LPS, outside=OUTSIDE)
    (source / "notes.txt").write_text("not imaging data")
    fmcib_module.pipeline.run(source, base / "by_pipeline", weights="mini", batch_size=3)
    assert run_chain(make_config(base, EncoderRunner__batch_size=3)) == 3
    return base / "by_pipeline", base / "output_data"


def test_the_modules_write_the_files_that_the_pipeline_writes(both: tuple[Path, Path]) -> None:
    by_pipeline, by_modules = ({p.relative_to(root) for p in root.rglob("*")} for root in both)
    assert by_modules == by_pipeline
    assert len([path for path in by_modules if path.name == "features.sr.dcm"]) == 2


def test_tables_are_equal_byte_by_byte(both: tuple[Path, Path]) -> None:
    tables = sorted(path.relative_to(both[0]) for path in both[0].rglob("features.csv"))
    assert len(tables) == 3
    for name in tables:
        assert (both[1] / name).read_bytes() == (both[0] / name).read_bytes()
    cohorts = [pd.read_parquet(root / "features.parquet") for root in both]
    values = [np.stack(cohort.pop("features").tolist()) for cohort in cohorts]
    np.testing.assert_array_equal(values[0], values[1])
    pd.testing.assert_frame_equal(cohorts[0], cohorts[1])


def test_ledgers_are_equal_but_for_times(both: tuple[Path, Path]) -> None:
    ledgers = [_without_times(read_ledger_json(root)) for root in both]
    assert ledgers[1] == ledgers[0]
    assert ledgers[0]["exit_code"] == 3
    assert {entry["status"] for entry in ledgers[0]["series"]} == {"failed", "flagged", "skipped"}


@pytest.mark.parametrize("name", ["features.sr.dcm", "seeds.seg.dcm"])
def test_dicom_objects_are_equal_but_for_times(both: tuple[Path, Path], name: str) -> None:
    for path in both[0].rglob(name):
        ours = pydicom.dcmread(both[1] / path.relative_to(both[0]))
        assert _untimed(ours) == _untimed(pydicom.dcmread(path))


def test_a_second_run_takes_over_what_is_done(tmp_path: Path) -> None:
    phantoms.write_study(tmp_path / "input_data")
    assert run_chain(make_config(tmp_path)) == 0
    before = read_ledger_json(tmp_path / "output_data")
    again = make_config(tmp_path)
    assert run_chain(again) == 0
    assert again.data.instances == []
    after = read_ledger_json(tmp_path / "output_data")
    assert after["series"] == before["series"]  # with the times of the first run
    assert "load_encoder" not in after["run"]["timings_s"]


def test_results_of_another_configuration_are_refused_before_anything_runs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    phantoms.write_study(tmp_path / "input_data", seg=False)
    assert run_chain(make_config(tmp_path)) == 0
    before = (tmp_path / "output_data/run_status.json").read_bytes()
    config = make_config(tmp_path, PatchExtractor__mode="centred")
    assert run_chain(config) == 2
    assert config.data.instances == []
    assert (tmp_path / "output_data/run_status.json").read_bytes() == before
    assert "another configuration" in capfd.readouterr().err


def test_features_follow_the_mode_of_their_section(tmp_path: Path) -> None:
    phantoms.write_study(tmp_path / "input_data", seg=False)
    assert run_chain(make_config(tmp_path, PatchExtractor__mode="centred", CentroidFinder__rois=["Node"])) == 0
    rows = pd.read_csv(tmp_path / "output_data/features.csv")
    assert rows["mode"].tolist() == ["centred"]
    assert rows["Mhub ROI"].tolist() == ["Node"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"EncoderRunner__weights": "no_such_weights"}, "no_such_weights"),
        ({"PatchExtractor__mode": "publshed"}, "publshed"),
        ({"ReportWriter__target_dir": "input_data"}, "same folder"),
        ({"DicomImporter__source_dir": "nowhere"}, "nowhere"),
    ],
    ids=["weights", "value", "same folder", "no input"],
)
def test_a_wrong_setting_ends_with_2_and_one_message(
    tmp_path: Path, settings: dict[str, str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    phantoms.write_study(tmp_path / "input_data", seg=False)
    assert run_chain(make_config(tmp_path, **settings)) == 2
    assert re.search(f"^error: .*{message}", capfd.readouterr().err)
    assert not (tmp_path / "output_data").exists()


def test_a_folder_without_lesions_ends_with_4(tmp_path: Path) -> None:
    study = phantoms.write_study(tmp_path / "input_data", rtstruct=False, seg=False)
    assert run_chain(make_config(tmp_path)) == 4
    (entry,) = read_ledger_json(tmp_path / "output_data")["series"]
    assert (entry["series_uid"], entry["status"]) == (study.series_uid, "skipped")


def test_without_a_ledger_of_this_run_the_gate_ends_with_2(tmp_path: Path) -> None:
    phantoms.write_study(tmp_path / "input_data", seg=False)
    assert run_chain(make_config(tmp_path)) == 0
    without_writer = [module for module in MODULES if module.__name__ != "ReportWriter"]
    assert run_chain(make_config(tmp_path), without_writer) == 2


class PatchExtractor(Module):
    """A step that breaks, as a bug would; mhubio goes on."""

    @IO.Instance()
    def task(self, instance: Instance) -> None:
        """Fail."""
        raise RuntimeError("a bug")


class CentroidFinder(PatchExtractor):
    """The same one step earlier."""


@pytest.mark.parametrize(("broken", "stage"), [(CentroidFinder, "find"), (PatchExtractor, "extract")])
def test_a_series_that_a_step_loses_is_on_the_ledger(tmp_path: Path, broken: type[Module], stage: str) -> None:
    study = phantoms.write_study(tmp_path / "input_data")
    modules = [broken if module.__name__ == broken.__name__ else module for module in MODULES]
    assert run_chain(make_config(tmp_path), modules) == 4
    (entry,) = read_ledger_json(tmp_path / "output_data")["series"]
    assert entry["status"] == "failed"
    assert {roi["stage"] for roi in entry["rois"]} == {stage}
    for roi in entry["rois"]:
        assert roi["reason"]["what"] == f"{broken.__name__} ended without a result"
        assert study.series_uid in roi["reason"]["where"]


class TakeOut(Module):
    """What mhubio's filters do: later modules see fewer instances."""

    def task(self) -> None:
        """Keep the first."""
        self.config.data.instances = self.config.data.instances[:1]


def test_a_series_that_a_filter_takes_out_is_on_the_ledger_as_skipped(tmp_path: Path) -> None:
    for seed in (0, 1):
        phantoms.write_study(tmp_path / "input_data" / str(seed), seed=seed, seg=False)
    assert run_chain(make_config(tmp_path), [MODULES[0], TakeOut, *MODULES[1:]]) == 0
    statuses = [entry["status"] for entry in read_ledger_json(tmp_path / "output_data")["series"]]
    assert sorted(statuses) == ["flagged", "skipped"]


def test_one_instance_per_series_with_its_uid_and_its_own_dicom_folder(tmp_path: Path) -> None:
    study = phantoms.write_study(tmp_path / "input_data" / "sorted")
    flat = phantoms.write_study(tmp_path / "elsewhere", seed=1)
    for path in [*flat.ct_paths, flat.rtstruct_path]:
        assert path is not None
        shutil.copy(path, tmp_path / "input_data" / f"flat_{path.name}")
    config = make_config(tmp_path)
    DicomImporter.DicomImporter(config).execute()
    found = {instance.attr["sid"]: instance.data.filter("dicom:mod=ct") for instance in config.data.instances}
    assert set(found) == {study.series_uid, flat.series_uid}
    assert Path(found[study.series_uid].first().abspath) == study.ct_paths[0].parent
    assert len(found[flat.series_uid]) == 0  # its folder holds other objects too


def test_every_setting_has_one_section() -> None:
    placed = [field for section in SETTINGS_OF.values() for field in section]
    assert sorted(placed) == sorted(field.name for field in fields(Settings))


def test_settings_beside_a_module_s_name_win() -> None:
    workflow = {
        "modules": {"PatchExtractor": {"mode": "published", "irregular": "resample"}},
        "execute": [{"module": "PatchExtractor", "mode": "centred"}, "StatusGate"],
    }
    settings = settings_of(workflow)
    assert (settings.mode, settings.irregular) == ("centred", "resample")


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({"PatchExtractor": {"moed": "centred"}}, r"'moed' \[modules.PatchExtractor\]: known keys: mode, irregular"),
        ({"PatchExtractor": {"weights": "fmcib"}}, "belongs under modules.EncoderRunner"),
        ({"PatchExtractor": "centred"}, "not a mapping"),
        ({"PatchExtractor": {"mode": None}}, "mode is None"),
    ],
    ids=["unknown key", "wrong section", "no mapping", "no value"],
)
def test_a_wrong_section_is_an_error(modules: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of({"modules": modules})


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if key not in TIMED}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def _untimed(dataset: pydicom.Dataset) -> pydicom.Dataset:
    for element in dataset.iterall():
        if element.VR in TIME_TAGS:
            element.value = None
    return dataset


def test_variants_pass_from_module_to_module(tmp_path: Path) -> None:
    phantoms.write_study(tmp_path / "input_data")
    fmcib_module.pipeline.run(
        tmp_path / "input_data", tmp_path / "by_pipeline", weights="mini", stability=2, compare_modes=True
    )
    config = make_config(tmp_path, PatchExtractor__stability=2, PatchExtractor__compare_modes=True)
    assert run_chain(config) == 0
    names = sorted(p.relative_to(tmp_path / "by_pipeline") for p in (tmp_path / "by_pipeline").rglob("*.[cn][sp][vz]"))
    assert {path.name for path in names} == {
        "features.csv",
        "patients.csv",
        "stability.csv",
        "stability_icc.csv",
        "modes.csv",
        "variants.npz",
    }
    for name in names:
        assert (tmp_path / "output_data" / name).read_bytes() == (tmp_path / "by_pipeline" / name).read_bytes()
