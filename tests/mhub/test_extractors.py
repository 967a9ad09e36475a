"""Other extractors in a workflow of MHub: the same tables as `fmcib run` writes."""

from pathlib import Path

import pytest

from fmcib_module import run
from tests import phantoms
from tests.mhub.chain import make_config, read_ledger_json, run_chain


@pytest.mark.slow
def test_a_workflow_writes_the_tables_of_other_extractors_as_the_command_line_does(tmp_path: Path) -> None:
    study = phantoms.write_study(tmp_path / "input_data", seg=False)
    assert run_chain(make_config(tmp_path, ReportWriter__extractors=["mini", "radiomics"])) == 0
    run(tmp_path / "input_data", tmp_path / "ours", extractors=("mini", "radiomics"))
    for name in ("features.mini.csv", "features.radiomics.csv", "features.radiomics.names.csv", "features.csv"):
        assert (tmp_path / "output_data" / name).read_bytes() == (tmp_path / "ours" / name).read_bytes(), name
    ledgers = [read_ledger_json(tmp_path / folder) for folder in ("output_data", "ours")]
    assert ledgers[0]["run"]["extractors"] == ledgers[1]["run"]["extractors"]
    (entry,) = (entry for entry in ledgers[0]["series"] if entry["output"] == study.series_uid)
    assert "features.radiomics.csv" in entry["files"]


def test_an_extractor_that_there_is_not_ends_with_2_before_anything_runs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    phantoms.write_study(tmp_path / "input_data", seg=False)
    assert run_chain(make_config(tmp_path, ReportWriter__extractors=["resnet"])) == 2
    assert "no extractor 'resnet'" in capfd.readouterr().err
    assert not (tmp_path / "output_data").exists()
