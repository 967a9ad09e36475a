"""What a report shows, gathered from the ledger, the cohort's table and the pictures of an output folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module.core.errors import OutputError
from fmcib_module.core.ledger import LEDGER_NAME, Ledger, Reason, RoiEntry, SeriesEntry, Stage, Status
from fmcib_module.core.similarity import nearest_by_cosine, principal_components
from fmcib_module.core.tsne import tsne
from fmcib_module.ledger_file import read_ledger
from fmcib_module.report.comparison import StabilitySummary, read_stability

COHORT_NAME: Final = "features.parquet"

NEIGHBOURS: Final = 5
MAP_FROM: Final = 3
"""Lesions from which on a map says anything."""

TSNE_FROM: Final = 30
TSNE_UP_TO: Final = 2000
"""Lesions for which t-SNE is drawn too: fewer have no neighbourhoods to show, more would take long."""

TSNE_COMPONENTS: Final = 50
"""Of the features that t-SNE looks at: what lies beyond is mostly noise."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMap:
    """How the lesions' features lie to each other.

    Attributes:
        scores: (n, 2) on the first two principal components.
        shares: (2,) of the variance.
        tsne: (n, 2) places by t-SNE; None for too few or too many lesions, or where all are alike.
        neighbours: (n, k) places of the nearest lesions.
        cosines: (n, k).
        n_features: Length of a feature vector.
    """

    scores: NDArray[np.float64]
    shares: NDArray[np.float64]
    tsne: NDArray[np.float64] | None
    neighbours: NDArray[np.intp]
    cosines: NDArray[np.float32]
    n_features: int


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that failed, once for all ROIs, series and files with the same reason.

    Attributes:
        what: What happened.
        fix: What to do.
        places: Where it happened.
    """

    what: str
    fix: str
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """Everything on the page.

    Attributes:
        ledger: Of the run.
        lesions: ROIs that have features, each with its series, in the order of the tables.
        features: None where there are no tables, or not those of this ledger.
        attention: What failed.
        stability: None where the run did not ask for it, or nothing came of it.
    """

    ledger: Ledger
    lesions: tuple[tuple[SeriesEntry, RoiEntry], ...]
    features: FeatureMap | None
    attention: tuple[Attention, ...]
    stability: StabilitySummary | None = None


def read_contents(output: Path) -> Contents:
    """Gather what a report shows.

    Raises:
        OutputError: The folder holds no ledger, or one that cannot be read.
    """
    ledger = read_ledger(output)
    if ledger is None:
        raise OutputError(f"there is no {LEDGER_NAME}", output.name, "give the OUTPUT folder of `fmcib run`")
    lesions = tuple(
        (entry, roi) for entry in ledger.series for roi in entry.rois if roi.status in (Status.OK, Status.FLAGGED)
    )
    features, stability = _read_features(output, lesions), read_stability(output, lesions)
    return Contents(ledger, lesions, features, gather_attention(ledger), stability)


def picture_path(entry: SeriesEntry, roi: RoiEntry) -> str:
    """A lesion's picture relative to OUTPUT; empty where the ledger lists no such file."""
    return f"{entry.output}/{roi.picture}" if roi.picture in entry.files else ""


def gather_attention(ledger: Ledger) -> tuple[Attention, ...]:
    """Failures by reason, the most frequent first."""
    places: dict[tuple[str, str], list[str]] = {}
    for reason, where in _failures(ledger):
        places.setdefault((reason.what, reason.fix), []).append(where)
    found = [Attention(what, fix, tuple(dict.fromkeys(where))) for (what, fix), where in places.items()]
    return tuple(sorted(found, key=lambda item: -len(item.places)))


def _failures(ledger: Ledger) -> Iterator[tuple[Reason, str]]:
    for problem in ledger.problems:
        yield problem.reason, f"file {problem.path}"
    for entry in ledger.series:
        failed = [roi for roi in entry.rois if roi.reason is not None]
        says_more = entry.stage is Stage.WRITE or not failed  # else it only counts the ROIs below it
        if entry.status is Status.FAILED and entry.reason is not None and says_more:
            yield entry.reason, f"series {entry.series_uid}"
        for roi in failed:
            assert roi.reason is not None
            yield roi.reason, _place(entry, roi)
        for roi in entry.rois:
            yield from ((reason, f"{name} of {_place(entry, roi)}") for name, reason in roi.missing.items())


def _place(entry: SeriesEntry, roi: RoiEntry) -> str:
    return f"ROI {roi.label!r} of {roi.kind} {roi.source_uid} in series {entry.series_uid}"


def _read_features(output: Path, lesions: tuple[tuple[SeriesEntry, RoiEntry], ...]) -> FeatureMap | None:
    """The map of the cohort, None where there is no table for exactly these lesions."""
    path = output / COHORT_NAME
    if not lesions or not path.is_file():
        return None
    values, names = _read_cohort(path)
    if names != [(entry.series_uid, roi.label) for entry, roi in lesions]:
        return None
    by_tsne = TSNE_FROM <= len(values) <= TSNE_UP_TO
    scores, shares = principal_components(values, TSNE_COMPONENTS if by_tsne else 2)
    places = tsne(scores) if by_tsne and shares[0] > 0 else None
    return FeatureMap(scores[:, :2], shares[:2], places, *nearest_by_cosine(values, NEIGHBOURS), values.shape[1])


def _read_cohort(path: Path) -> tuple[NDArray[np.float32], list[tuple[str, str]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table: Any = pq.read_table(path, columns=["features", "series_uid", "Mhub ROI"])
    except (OSError, pa.ArrowException, ValueError) as error:
        reason = type(error).__name__
        raise OutputError(f"the table cannot be read: {reason}", path.name, "run again with --force") from error
    column = table["features"].combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    return values, list(zip(table["series_uid"].to_pylist(), table["Mhub ROI"].to_pylist(), strict=True))
