"""reproduce_paper.yml is whole: every stage reads what an earlier one writes, or raw data, and says so."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fmcib_module.settings import from_plain, read_yaml
from training.adaptation.features import FeatureSettings
from training.adaptation.finetune_settings import FinetuneSettings
from training.adaptation.probe import ProbeSettings
from training.evaluation.evaluate import EvaluateSettings
from training.study.expected import read_expected
from training.study.figures import FigureSettings
from training.study.reproduce import ReproduceSettings
from training.study.stages import Stage

ROOT = Path(__file__).parents[3]
STUDY = ROOT / "config/training/study"

SETTINGS = {
    "features": FeatureSettings,
    "probe": ProbeSettings,
    "finetune": FinetuneSettings,
    "evaluate": EvaluateSettings,
    "figures": FigureSettings,
}
WRITES = ("output", "run")
PUBLISHED = ("data/deeplesion/task1.csv", "data/luna16/task2.csv")
"""Tables whose published splits share patients."""


def stages() -> tuple[Stage, ...]:
    return from_plain(ReproduceSettings, read_yaml(STUDY / "reproduce_paper.yml"), where="paper").stages


def texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of settings, with its key."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from texts(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item, key)
    elif isinstance(value, str):
        yield key, value


@pytest.mark.parametrize("stage", stages(), ids=lambda stage: stage.name)
def test_a_stage_names_what_its_settings_read_and_write(stage: Stage) -> None:
    values = read_yaml(ROOT / stage.settings)
    if stage.verb in SETTINGS:
        from_plain(SETTINGS[stage.verb], values, where=stage.settings)
    found = list(texts(values))
    folders = [text for key, text in found if key in WRITES]
    assert all(any(Path(output).is_relative_to(folder) for folder in folders) for output in stage.outputs)
    written = {output for other in stages() for output in other.outputs}
    read = {text for key, text in found if key not in WRITES and text in written}
    assert read <= set(stage.inputs)
    assert all(path in written or path.startswith("data/raw/") for path in stage.inputs)


@pytest.mark.parametrize("path", sorted(STUDY.glob("*.yml")), ids=lambda path: path.stem)
def test_who_reads_a_published_split_takes_the_patients_that_it_shares(path: Path) -> None:
    values = read_yaml(path)
    data = values.get("data")
    data = data[0] if isinstance(data, list) else data
    if data and data.get("table") in PUBLISHED:
        assert data.get("shared_patients") is True
    if path.stem.startswith("probe") and Path(values["features"]).parent.name in {"task1", "task2"}:
        assert values.get("shared_patients") is True


def test_every_expected_number_comes_from_a_stage() -> None:
    written = {output for stage in stages() for output in stage.outputs}
    methods = {str(read_yaml(ROOT / stage.settings).get("method")) for stage in stages()}
    for expected in read_expected(STUDY / "expected_paper.yml"):
        assert expected.table in written, expected.name
        assert {cell.value for cell in expected.rows if cell.column in {"method", "model"}} <= methods
