"""Other extractors in a batch job: the same tables as `fmcib run` writes."""

from pathlib import Path

import pytest

from fmcib_module.core.errors import OutputError
from fmcib_module.pipeline import run
from fmcib_module.settings import Settings
from tests.batch.cohorts import batch, write_cohort


@pytest.mark.slow
def test_a_job_writes_the_tables_of_other_extractors_as_a_run_does(tmp_path: Path) -> None:
    write_cohort(tmp_path / "input", 2)
    settings = Settings(extractors=("mini", "radiomics"), sr=False, seg=False, pictures=False, report=False)
    manifest, output, scratch = tmp_path / "input/manifest.csv", tmp_path / "output", tmp_path / "scratch"
    batch(manifest, output, scratch, settings=settings)
    run(tmp_path / "input", tmp_path / "expected", settings=settings)
    for name in ("features.csv", "features.mini.csv", "features.radiomics.csv", "features.radiomics.names.csv"):
        assert (output / name).read_bytes() == (tmp_path / "expected" / name).read_bytes(), name
    with pytest.raises(OutputError, match="another configuration"):
        batch(manifest, output, scratch, settings=Settings(extractors=("mini",), sr=False, seg=False, pictures=False))
