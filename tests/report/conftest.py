"""The report that the browser's tests look at."""

from pathlib import Path

import pytest

from fmcib_module.report import write_report
from tests.report.builders import N_LESIONS, seeds_of, write_output


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 90 lesions in 18 series; every third is flagged."""
    folder = tmp_path_factory.mktemp("out")
    write_output(folder, seeds_of(N_LESIONS))
    return write_report(folder)
