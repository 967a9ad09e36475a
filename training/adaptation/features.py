"""`python -m training features FILE`: any extractor over a lesion table; one feature table per extractor.

OUTPUT/<extractor>.parquet, and OUTPUT/<extractor>.names.csv where features have names.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmcib_module import __version__
from fmcib_module.adapters.extractors import choose_extractor, load_extractor
from fmcib_module.core.errors import ConfigError, InputError
from fmcib_module.core.extractors import Extractor, Region
from fmcib_module.settings import Device, Engine, Precision, from_plain, read_yaml
from training.adaptation.feature_table import FeatureMeta, FeatureTable, read_feature_table, write_feature_table
from training.adaptation.lesions import Lesions, LesionSettings, open_lesions
from training.bars import Bar

log = logging.getLogger(__name__)

CHUNK: Final = 32
"""Lesions that are encoded together."""

Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """The keys of the YAML file are exactly these fields; paths relative to where it is run.

    Attributes:
        output: Folder of the feature tables.
        data: Lesions.
        extractors: Names (docs/extractors.md), or NAME=FILE for weights from a file.
        device: auto, cpu or cuda.
        engine: Of fmcib and mini: auto, openvino, torch or compile.
        precision: Of fmcib and mini: float32 or bf16.
    """

    output: str
    data: LesionSettings
    extractors: tuple[str, ...] = ("fmcib",)
    device: Device = Device.AUTO
    engine: Engine = Engine.AUTO
    precision: Precision = Precision.FLOAT32

    def __post_init__(self) -> None:
        if not self.extractors:
            raise ConfigError("there is no extractor", "extractors", "name one")


def features(settings_path: Path) -> list[Path]:
    """The verb.

    Returns:
        The tables.

    Raises:
        ConfigError: The settings are wrong.
        WeightsError: Weights are absent or do not fit.
        InputError: The table is wrong, or some lesions have no features (the tables hold the others).
        OutputError: The folder cannot be written.
    """
    settings = from_plain(FeatureSettings, read_yaml(settings_path), where=settings_path.name)
    paths, missing = compute_features(settings)
    for what, reason in missing:
        log.warning("%s: %s", what, reason)
    if missing:
        what = f"{len(missing)} lesion(s) have no features"
        raise InputError(what, ", ".join(path.name for path in paths), "see the lines above")
    return paths


def compute_features(settings: FeatureSettings) -> tuple[list[Path], list[tuple[str, str]]]:
    """Compute and write what is not there yet.

    Args:
        settings: What.

    Returns:
        The tables, and (what, reason) of every lesion that is in none or not in all of them.

    Raises:
        ConfigError: There is no such extractor.
        WeightsError: Weights are absent or do not fit.
        InputError: The table is wrong, or an extractor gives features of no lesion.
        OutputError: The folder cannot be written.
    """
    choices = {choose_extractor(wanted).card.name: wanted for wanted in settings.extractors}
    lesions = open_lesions(settings.data)
    paths = {name: Path(settings.output) / f"{name}.parquet" for name in choices}
    to_do = {name: wanted for name, wanted in choices.items() if not _is_done(paths[name], wanted, lesions)}
    for name in choices.keys() - to_do.keys():
        log.info("%s is there already", paths[name].name)
    missing = list(lesions.failures)
    if to_do:
        extractors = {
            name: load_extractor(wanted, device=settings.device, engine=settings.engine, precision=settings.precision)
            for name, wanted in to_do.items()
        }
        values = _encode_all(extractors, lesions, missing)
        for name, extractor in extractors.items():
            _write(paths[name], extractor, lesions, values[name])
    return list(paths.values()), missing


def _encode_all(
    extractors: Mapping[str, Extractor], lesions: Lesions, missing: list[tuple[str, str]]
) -> dict[str, dict[int, Values]]:
    """Extractor -> row -> features; each scan is read once for all of them."""
    forms = {name: extractor.card.form for name, extractor in extractors.items()}
    waiting: dict[str, list[tuple[int, Region]]] = {name: [] for name in extractors}
    values: dict[str, dict[int, Values]] = {name: {} for name in extractors}
    names = lesions.frame["lesion"].tolist()

    def note(name: str, row: int, reason: str) -> None:
        missing.append((f"lesion {names[row]}, {name}", reason))

    def flush(name: str) -> None:
        for row, found in _encoded(extractors[name], waiting[name]):
            if isinstance(found, InputError):
                note(name, row, found.what)
            else:
                values[name][row] = found
        waiting[name].clear()

    with Bar("features") as bar:
        for done, (row, regions) in enumerate(lesions.regions(forms), start=1):
            for name, region in regions.items():
                if isinstance(region, InputError):
                    note(name, row, region.what)
                    continue
                waiting[name].append((row, region))
                if len(waiting[name]) == CHUNK:
                    flush(name)
            bar.told(done, len(names))
        for name in extractors:
            flush(name)
    return values


def _encoded(extractor: Extractor, waiting: list[tuple[int, Region]]) -> Iterator[tuple[int, Values | InputError]]:
    """Features of each region; one that cannot be measured does not cost the others theirs."""
    size = 1 if extractor.card.form.needs_mask else CHUNK
    for start in range(0, len(waiting), size):
        rows, regions = zip(*waiting[start : start + size], strict=True)
        try:
            found = extractor.encode(regions)
        except InputError as error:
            yield from ((row, error) for row in rows)
            continue
        for row, values in zip(rows, found, strict=True):
            broken = InputError("its features are not finite", extractor.card.name, "check the scan")
            yield row, values if np.isfinite(values).all() else broken


def _write(path: Path, extractor: Extractor, lesions: Lesions, values: Mapping[int, Values]) -> None:
    if not values:
        raise InputError(f"{extractor.card.name} gives features of no lesion", path.name, "see docs/extractors.md")
    rows = sorted(values)
    meta = _meta(extractor.card.name, extractor.weights_sha256, lesions)
    frame = lesions.frame.iloc[rows].reset_index(drop=True)
    write_feature_table(path, FeatureTable(frame, np.stack([values[row] for row in rows]), meta))
    if extractor.feature_names:
        names = pd.DataFrame({"feature": range(len(extractor.feature_names)), "name": extractor.feature_names})
        names.to_csv(path.with_suffix(".names.csv"), index=False)
    log.info("%s: %d lesions, %d features", path.name, len(rows), extractor.card.n_features)


def _is_done(path: Path, wanted: str, lesions: Lesions) -> bool:
    """Whether a table is there that the same extractor made of the same lesions, all of them."""
    if not path.is_file():
        return False
    choice = choose_extractor(wanted)
    try:
        table = read_feature_table(path)
    except InputError:
        return False
    return table.meta == _meta(choice.card.name, choice.weights_sha256, lesions) and len(table) == len(lesions.frame)


def _meta(name: str, weights_sha256: str, lesions: Lesions) -> FeatureMeta:
    return FeatureMeta(name, __version__, weights_sha256, lesions.table_sha256, lesions.mode.value)
