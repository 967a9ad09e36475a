"""`python -m training cohort FILE`: a public cohort, or any other, as lesion tables for all other verbs."""

import logging
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from fmcib_module.core.errors import ConfigError
from fmcib_module.settings import from_plain, read_yaml
from training.bars import Bar
from training.cohorts.tables import RECORD, Cohort, Told, write_cohort

log = logging.getLogger(__name__)

KINDS: Final[dict[str, tuple[str, str, str]]] = {
    "deeplesion": ("training.cohorts.deeplesion", "DeepLesionSettings", "build_deeplesion"),
    "dicom": ("training.cohorts.dicom", "DicomSettings", "build_dicom"),
    "luna16": ("training.cohorts.luna16", "Luna16Settings", "build_luna16"),
    "table": ("training.cohorts.any_table", "TableSettings", "build_table"),
}
"""Kind -> (module, its settings, its function); a module is imported when its kind is used."""


def cohort(settings_path: Path) -> dict[str, Any]:
    """The verb.

    Returns:
        The record that is written beside the tables.

    Raises:
        ConfigError: The settings are wrong.
        InputError: An input cannot be read, or some lesions could not be used though they should be (the tables hold
            the others).
        OutputError: The disk is full or read-only.
    """
    values = read_yaml(settings_path)
    kind = values.pop("kind", None)
    if kind not in KINDS:
        raise ConfigError(f"kind is {kind!r}", settings_path.name, f"use one of: {', '.join(KINDS)}")
    module, settings_name, function = KINDS[kind]
    settings = from_plain(getattr(import_module(module), settings_name), values, where=settings_path.name)
    build: Callable[[Any, Path, Told], Cohort] = getattr(import_module(module), function)
    with Bar(kind) as bar:
        found = build(settings, Path(), bar.told)
    output = Path(settings.output)
    record = write_cohort(output, found)
    _show(record)
    log.info("written: %s and %s in %s", ", ".join(found.tables), RECORD, output.name)
    return record


def _show(record: dict[str, Any]) -> None:
    for name, facts in record["tables"].items():
        splits = ", ".join(f"{split} {count}" for split, count in facts["splits"].items())
        log.info("%s: %d lesions of %d patients (%s)", name, facts["lesions"], facts["patients"], splits or "no split")
        if facts["patients_in_two_splits"]:
            text = "%s: %d patients have lesions in more than one split; `split: patients` keeps them apart"
            log.warning(text, name, facts["patients_in_two_splits"])
    if record["patients_in_two_tables"]:
        log.warning("%d patients are in more than one of these tables", record["patients_in_two_tables"])
    for reason, count in record["left_out"].items():
        log.info("left out: %d, because %s", count, reason)
