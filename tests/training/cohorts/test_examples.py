"""The example files of cohorts: every key is known, and they fit together."""

from importlib import import_module
from pathlib import Path

import pytest

from fmcib_module.settings import from_plain, read_yaml
from training.cohorts.cohort import KINDS
from training.cohorts.manifest import ManifestSettings
from training.prepare import PrepareSettings

STUDY = Path(__file__).parents[3] / "config/training/study"
FILES = sorted(path for verb in ("cohort", "manifest", "prepare") for path in STUDY.glob(f"{verb}_*.yml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_is_read_and_says_how_it_is_run(path: Path) -> None:
    values = read_yaml(path)
    verb = path.stem.partition("_")[0]
    if verb == "cohort":
        module, settings, function = KINDS[values.pop("kind")]
        assert callable(getattr(import_module(module), function))
        from_plain(getattr(import_module(module), settings), values, where=path.name)
    else:
        from_plain({"manifest": ManifestSettings, "prepare": PrepareSettings}[verb], values, where=path.name)
    assert f"python -m training {verb} config/training/study/{path.name}\n" in path.read_text(encoding="utf-8")


def test_what_one_example_writes_is_what_the_next_reads() -> None:
    written = {read_yaml(path)["output"] for path in FILES if path.stem.startswith("cohort")}
    assert {str(Path(table).parent) for table in read_yaml(STUDY / "cohort_task3.yml")["tables"]} <= written
    for name in ("deeplesion", "luna16"):
        for table in read_yaml(STUDY / f"prepare_{name}.yml")["tables"]:
            assert str(Path(table).parent).removeprefix("../../../") in written
    for name in ("lung1", "radio", "rider"):
        manifest = read_yaml(STUDY / f"manifest_{name}.yml")["output"]
        assert read_yaml(STUDY / f"cohort_{name}.yml")["images"] == f"{manifest}/dicom"
