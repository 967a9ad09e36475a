"""The note on contrast, on files with and without the attribute."""

import pydicom
import pytest

from fmcib_module.adapters.contrast import UNKNOWN, contrast_note
from fmcib_module.core.domain import Series
from tests import phantoms
from tests.adapters.report_builders import phantom_series


@pytest.mark.parametrize(("agent", "note"), [(None, UNKNOWN), ("", UNKNOWN), ("ULTRAVIST", "")])
def test_a_series_that_names_no_agent_gets_a_note(tmp_path, agent, note):
    study = phantoms.write_study(tmp_path, rtstruct=False, seg=False)
    series = phantom_series(study)
    if agent is not None:
        first = pydicom.dcmread(series.instances[0].path)
        first.ContrastBolusAgent = agent
        first.save_as(series.instances[0].path)
    assert contrast_note(series) == note
    assert "ULTRAVIST" not in contrast_note(series)


def test_the_sequence_of_enhanced_ct_counts_too(tmp_path):
    series = phantom_series(phantoms.write_study(tmp_path, rtstruct=False, seg=False))
    first = pydicom.dcmread(series.instances[0].path)
    agent = pydicom.Dataset()
    agent.CodeValue, agent.CodingSchemeDesignator, agent.CodeMeaning = "109219008", "SCT", "Iodinated contrast agent"
    first.ContrastBolusAgentSequence = [agent]
    first.save_as(series.instances[0].path)
    assert contrast_note(series) == ""


def test_an_image_file_has_no_header_to_say_it():
    assert contrast_note(Series("CT", "", "CT")) == ""
