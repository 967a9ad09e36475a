"""Tables over the whole run: stability.csv, stability_icc.csv, modes.csv."""

import csv
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Final

import numpy as np

from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.adapters.variants_file import VARIANTS_NAME, read_variants
from fmcib_module.core.agreement import Agreement
from fmcib_module.core.ledger import Ledger, RoiEntry, SeriesEntry, Status
from fmcib_module.core.naming import ICC_NAME, MODES_NAME, STABILITY_NAME
from fmcib_module.core.variants import jitter_name
from fmcib_module.settings import Settings

_LESION: Final = ("series_uid", "study_uid", "Mhub ROI", "roi_number", "source_uid")


def write_comparisons(output: Path, ledger: Ledger, settings: Settings) -> None:
    """Write what `stability` and `compare_modes` ask for, from the ledger and the series' variants.

    Raises:
        OutputError: A table cannot be written, or a series' variants cannot be read.
    """
    if settings.stability:
        columns = ("n_seeds", "n_lost", "cosine_mean", "cosine_min")
        _write(output / STABILITY_NAME, (*_LESION, *columns), _stability_rows(ledger))
        agreement = _agreement(output, ledger, settings.stability)
        counts = (agreement.n_rows, agreement.n_raters)
        values = ((f"feature_{n}", *counts, repr(float(icc))) for n, icc in enumerate(agreement.icc()))
        _write(output / ICC_NAME, ("feature", "n_lesions", "n_raters", "icc"), values)
    if settings.compare_modes:
        columns = ("mode", "other", "cosine", "relative_l2")
        _write(output / MODES_NAME, (*_LESION, *columns), _drift_rows(ledger))


def _lesions(ledger: Ledger) -> Iterator[tuple[SeriesEntry, RoiEntry]]:
    for entry in ledger.series:
        for roi in entry.rois:
            if roi.status in (Status.OK, Status.FLAGGED):
                yield entry, roi


def _name(entry: SeriesEntry, roi: RoiEntry) -> tuple[object, ...]:
    return entry.series_uid, entry.study_uid, roi.label, roi.roi_number, roi.source_uid


def _stability_rows(ledger: Ledger) -> Iterator[Sequence[object]]:
    for entry, roi in _lesions(ledger):
        if (found := roi.stability) is not None:
            yield *_name(entry, roi), found.n_seeds, found.n_lost, found.cosine_mean, found.cosine_min


def _drift_rows(ledger: Ledger) -> Iterator[Sequence[object]]:
    for entry, roi in _lesions(ledger):
        for drift in roi.drift:
            yield *_name(entry, roi), drift.mode.value, drift.other.value, drift.cosine, drift.relative_l2


def _agreement(output: Path, ledger: Ledger, n_seeds: int) -> Agreement:
    """ICC over the lesions that have all repeats; the own seed is the first rater."""
    agreement = Agreement()
    raters = ["", *(jitter_name(number) for number in range(1, n_seeds + 1))]
    for entry in ledger.series:
        if VARIANTS_NAME in entry.files:
            for variants in read_variants(output / entry.output / VARIANTS_NAME):
                if all(name in variants for name in raters):
                    agreement.add(np.stack([variants[name] for name in raters]))
    return agreement


def _write(path: Path, columns: Sequence[str], rows: Iterator[Sequence[object]]) -> None:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())
