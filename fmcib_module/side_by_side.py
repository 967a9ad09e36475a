"""Other extractors beside the weights of a run: on the same lesions, from the same seeds and decoded slices.

One table per extractor: OUTPUT/<series>/features.<extractor>.csv, and over the run features.<extractor>.csv and
.parquet, in the form of the main tables. Features that have names (radiomics) have them in
features.<extractor>.names.csv.
"""

import csv
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module import __version__
from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.adapters.extractors import ExtractorChoice, choose_extractor, feature_names, load_extractor
from fmcib_module.adapters.gather import gather_compiled
from fmcib_module.adapters.seed_finder import roi_mask
from fmcib_module.adapters.tables import CohortWriter, read_series_csv, write_series_csv
from fmcib_module.core.conventions import POINT_KINDS
from fmcib_module.core.domain import Lesion, Provenance, SeriesReport
from fmcib_module.core.errors import FmcibError, InputError, SeedNotFoundError
from fmcib_module.core.extractors import Extractor, InputForm, Region, cut_cube, cut_roi
from fmcib_module.core.ledger import Ledger, Reason, SeriesEntry
from fmcib_module.core.naming import extractor_stem
from fmcib_module.core.volume import Volume
from fmcib_module.output import sha256_of
from fmcib_module.settings import Settings
from fmcib_module.work import SeriesWork

CHUNK: Final = 64
"""Lesions whose cubes are held in memory at once: 32 MB."""

Values = NDArray[np.float32]


def describe_extractors(settings: Settings) -> list[dict[str, Any]]:
    """What the ledger says of each extractor.

    Raises:
        ConfigError, WeightsError: As `choose_extractor`.
    """
    return [_described(choose_extractor(wanted)) for wanted in settings.extractors]


class SideBySide:
    """The extractors that a run's settings ask for, each loaded once, with the first lesion that needs it."""

    def __init__(self, settings: Settings) -> None:
        """Check that each can run here; nothing is loaded.

        Raises:
            ConfigError, WeightsError: As `choose_extractor`.
        """
        self._settings = settings
        self._wanted = {choose_extractor(wanted).card.name: wanted for wanted in settings.extractors}
        self._loaded: dict[str, Extractor] = {}

    def add(self, work: SeriesWork, report: SeriesReport, entry: SeriesEntry, output: Path) -> SeriesEntry:
        """Compute a series' lesions with every extractor, write the tables, and note them in the series' entry.

        Args:
            work: The series, with its opened scan.
            report: Its lesions, as they were written.
            entry: Its entry; the lesions come first among its ROIs, in the report's order.
            output: OUTPUT.

        Returns:
            The entry with the files, and with the reason of every lesion that an extractor gives no features for.

        Raises:
            OutputError: A table cannot be written.
            ConfigError, WeightsError: An extractor cannot be loaded.
        """
        for name in self._wanted if report.lesions and work.volume is not None else ():
            started = time.perf_counter()
            extractor = self._extractor(name)
            values, missing = _compute(extractor, work, report)
            files = dict(entry.files)
            if values:
                path = output / report.series.output_name / f"{extractor_stem(name)}.csv"
                write_series_csv(_report_of(extractor, report, values), path)
                files[path.name] = sha256_of(path)
            rois = list(entry.rois)
            for place, error in missing.items():
                rois[place] = replace(rois[place], missing={**rois[place].missing, name: Reason.of(error)})
            spent = {**entry.timings_s, f"extractor {name}": round(time.perf_counter() - started, 4)}
            entry = replace(entry, files=files, rois=tuple(rois), timings_s=spent)
        return entry

    def _extractor(self, name: str) -> Extractor:
        if name not in self._loaded:
            options = self._settings
            self._loaded[name] = load_extractor(
                self._wanted[name], device=options.device, engine=options.engine, precision=options.precision
            )
        return self._loaded[name]


def write_extractor_tables(output: Path, ledger: Ledger, settings: Settings) -> None:
    """Gather the series' tables over the whole run, those that an earlier run left included.

    Raises:
        OutputError: A table cannot be read or written.
    """
    for name in settings.extractor_names:
        stem = extractor_stem(name)
        with CohortWriter(output, stem) as cohort:
            for entry in ledger.series:
                if f"{stem}.csv" in entry.files:
                    table = output / entry.output / f"{stem}.csv"
                    cohort.add(read_series_csv(table), table)
        if cohort.n_rows and (names := feature_names(name)):
            write_bytes(output / f"{stem}.names.csv", _names_table(names))


def _compute(
    extractor: Extractor, work: SeriesWork, report: SeriesReport
) -> tuple[dict[int, Values], dict[int, FmcibError]]:
    """Features by the lesion's place in the report, and why the others have none."""
    values: dict[int, Values] = {}
    missing: dict[int, FmcibError] = {}
    waiting: list[tuple[int, Region]] = []

    def flush() -> None:
        try:
            found = extractor.encode([region for _, region in waiting])
        except InputError as error:  # radiomics go one by one, so it is this lesion's
            missing.update(dict.fromkeys((place for place, _ in waiting), error))
        else:
            for (place, _), row in zip(waiting, found, strict=True):
                if np.isfinite(row).all():
                    values[place] = row
                else:
                    missing[place] = _not_finite(extractor.card.name, report.lesions[place], report)
        waiting.clear()

    for place, region in _regions(extractor.card.form, work, report, missing):
        waiting.append((place, region))
        if len(waiting) == (1 if extractor.card.form.needs_mask else CHUNK):
            flush()
    if waiting:
        flush()
    return values, missing


def _regions(
    form: InputForm, work: SeriesWork, report: SeriesReport, missing: dict[int, FmcibError]
) -> Iterator[tuple[int, Region]]:
    assert work.volume is not None
    for place, lesion in enumerate(report.lesions):
        try:
            region = _cut(form, work.volume, lesion, report)
        except InputError as error:
            missing[place] = error
        else:
            yield place, region


def _cut(form: InputForm, volume: Volume, lesion: Lesion, report: SeriesReport) -> Region:
    if not form.needs_mask:
        return cut_cube(volume, lesion.seed, report.provenance.mode, form, gather_compiled)
    if lesion.seed.kind in POINT_KINDS:
        raise SeedNotFoundError(
            "the lesion is a point: there is no ROI to measure",
            f"SeriesInstanceUID {report.series.uid}, {lesion.seed.label!r}",
            "draw it as a contour, a segment or a mask",
        )
    return cut_roi(volume, roi_mask(report.series, lesion.seed, volume.grid))


def _report_of(extractor: Extractor, report: SeriesReport, values: Mapping[int, Values]) -> SeriesReport:
    card = extractor.card
    provenance = Provenance(card.name, extractor.weights_sha256, card.note, report.provenance.mode, __version__)
    lesions = tuple(Lesion(report.lesions[place].seed, values[place]) for place in sorted(values))
    return SeriesReport(report.series, lesions, provenance)


def _described(choice: ExtractorChoice) -> dict[str, Any]:
    card = asdict(choice.card)
    return {**card, "form": choice.card.form.describe(), "weights_sha256": choice.weights_sha256}


def _not_finite(name: str, lesion: Lesion, report: SeriesReport) -> InputError:
    where = f"SeriesInstanceUID {report.series.uid}, ROI {lesion.seed.label!r}"
    return InputError(f"{name} returned values that are not finite", where, "check the scan and the ROI")


def _names_table(names: tuple[str, ...]) -> bytes:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("feature", "name"))
    writer.writerows((f"feature_{n}", name) for n, name in enumerate(names))
    return text.getvalue().encode()
