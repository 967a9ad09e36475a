"""What a run would do with a folder, from headers alone: series, ROIs, what would run and what would not, why."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fmcib_module import steps
from fmcib_module.adapters.dicom_import import scan_folder
from fmcib_module.adapters.volume_reader import grid_of
from fmcib_module.core.checks import flag_spacing
from fmcib_module.core.conventions import Flag
from fmcib_module.core.domain import Series
from fmcib_module.core.errors import InputError
from fmcib_module.core.ledger import Ledger, ProblemEntry, Reason, RoiEntry, SeriesEntry, Stage, Status, finish_entry
from fmcib_module.core.patch import plan_patch
from fmcib_module.core.volume import Grid
from fmcib_module.settings import Settings


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is in a folder.

    Attributes:
        ledger: As a run would write it, with `ok` for "would run"; nothing was decoded or computed.
        grids: Folder name under OUTPUT -> grid of each series that is one.
    """

    ledger: Ledger
    grids: dict[str, Grid]


def inspect_folder(
    source: str | Path,
    *,
    settings: Settings | None = None,
    scanned: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Look at a folder without decoding pixels, loading weights or writing anything.

    Raises:
        InputError: The folder does not exist.
    """
    settings = settings or Settings()
    scan = scan_folder(Path(source), progress=scanned)
    entries: list[SeriesEntry] = []
    grids: dict[str, Grid] = {}
    for series in (series for study in scan.studies for series in study.series):
        if reason := steps.why_skipped(series, settings):
            entries.append(SeriesEntry.skipped(series, reason))
            continue
        entry, grid = _inspect_series(series, settings)
        entries.append(entry)
        if grid is not None:
            grids[series.output_name] = grid
    ledger = Ledger(
        run={"settings": settings.to_dict()},
        series=tuple(entries),
        problems=tuple(map(ProblemEntry.of, scan.problems)),
        ignored_files=scan.ignored_files,
    )
    return Inspection(ledger, grids)


def _inspect_series(series: Series, settings: Settings) -> tuple[SeriesEntry, Grid | None]:
    work = steps.find(series, settings)
    entry = SeriesEntry(series.uid, series.study_uid, series.modality, Status.OK, Stage.FIND, output=series.output_name)
    try:
        grid, flags = grid_of(series, irregular=settings.irregular)
    except InputError as error:
        for seed in work.seeds:
            work.fail_seed(seed, error, Stage.EXTRACT)
        return replace(entry, status=Status.FAILED, reason=Reason.of(error), rois=tuple(work.failed)), None
    rois = []
    for seed in work.seeds:
        try:
            plan = plan_patch(grid, seed, mode=settings.mode, series_uid=series.uid)
        except InputError as error:
            work.fail_seed(seed, error, Stage.EXTRACT)
            continue
        border = (Flag.NEAR_BORDER,) if plan.outside_share > 0 else ()
        rois.append(RoiEntry.done(replace(seed, flags=(*seed.flags, *border))))
    all_flags = tuple(dict.fromkeys((*series.flags, *flags, *flag_spacing(grid, series.instances))))
    return finish_entry(replace(entry, flags=all_flags, rois=(*rois, *work.failed))), grid
