"""What the command line shows: progress bars on a terminal, plain lines elsewhere, JSON lines for machines."""

import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from fmcib_module.core.ledger import Ledger, ProblemEntry, RoiEntry, SeriesEntry, Status
from fmcib_module.core.naming import REPORT_NAME
from fmcib_module.progress import Progress

if TYPE_CHECKING:
    from fmcib_module.adapters.weights_registry import WeightsEntry
    from fmcib_module.core.volume import Grid
    from fmcib_module.inspection import Inspection

COLOURS = {Status.OK: "green", Status.FLAGGED: "yellow", Status.FAILED: "red", Status.SKIPPED: "dim"}

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


class Display:
    """Shows how far a command is; a context manager."""

    def __init__(self, *, json_log: bool = False) -> None:
        """Choose the form: JSON lines if asked for, bars on a terminal, else plain lines."""
        self._json = json_log
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=err,
            disable=json_log or not err.is_terminal,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._plain = not json_log and not err.is_terminal
        self.progress = Progress(scanned=self._scanned, planned=self._planned, series=self._series)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def bytes_done(self, done: int, total: int) -> None:
        """Progress of a download, in bytes; a total of 0 means unknown."""
        self._advance("downloading (MB)", done // 1_000_000, total // 1_000_000)

    def fetched(self, done: int, total: int) -> None:
        """Progress of fetching a study, in objects; a total of 0 means unknown."""
        self._advance("fetching", done, total)

    def _scanned(self, done: int, total: int) -> None:
        self._advance("reading headers", done, total)

    def _planned(self, total: int) -> None:
        self._advance("series", 0, total)
        if self._plain:
            err.print(f"{total} series to do", highlight=False)

    def _series(self, entry: SeriesEntry) -> None:
        if "series" in self._tasks:
            self._bars.advance(self._tasks["series"])
        if self._json:
            self._emit({"event": "series", "series_uid": entry.series_uid, **_summary(entry)})
        elif self._plain:
            err.print(f"{entry.series_uid}: {_line(entry)}", highlight=False, markup=False)

    def _advance(self, name: str, done: int, total: int) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total or None)
        self._bars.update(self._tasks[name], completed=done, total=total or None)

    def _emit(self, event: dict[str, Any]) -> None:
        err.file.write(json.dumps(event) + "\n")
        err.file.flush()


def show_ledger(ledger: Ledger, output: Path, *, json_log: bool) -> None:
    """The summary at the end of a run: counts, and every failure with what to do."""
    if json_log:
        event = {"event": "done", "exit_code": int(ledger.exit_code), "lesions": ledger.counts()}
        err.file.write(json.dumps(event) + "\n")
        return
    for entry in ledger.series:
        _show_failures(entry)
        _show_missing(entry)
    _show_problems(ledger.problems)
    counts = ", ".join(f"{n} {name}" for name, n in ledger.counts().items())
    out.print(f"lesions: {counts}; results in {escape(str(output))}{_and_report(output)}", highlight=False)
    weights, note = ledger.run.get("weights"), ledger.run.get("weights_note")
    if note:
        out.print(f"[yellow]weights {escape(str(weights))}: {escape(str(note))}[/]", highlight=False)


def _and_report(output: Path) -> str:
    return f", open {REPORT_NAME} in a browser" if (output / REPORT_NAME).is_file() else ""


def show_inspection(inspection: "Inspection") -> None:
    """Series and ROIs, one line each, then what cannot be used."""
    for entry in inspection.ledger.series:
        grid = inspection.grids.get(entry.output)
        out.print(
            f"{_status(entry)} series {entry.series_uid} {entry.modality}{_size(grid)}{_why(entry)}", highlight=False
        )
        for roi in entry.rois:
            same = roi.reason is not None and roi.reason == entry.reason
            out.print(_roi_line(roi, why="" if same else _why(roi)), highlight=False)
    _show_problems(inspection.ledger.problems)
    counts = inspection.ledger.counts()
    out.print(
        f"{counts['ok'] + counts['flagged']} lesion(s) would run, {counts['failed']} would not; "
        f"{inspection.ledger.ignored_files} other file(s)",
        highlight=False,
    )


def show_weights(entries: "Iterable[WeightsEntry]") -> None:
    """The registry as a table, with whether each file is on this machine."""
    from fmcib_module.adapters.weights import entry_path

    table = Table("name", "features", "licence", "here", "what", show_lines=False)
    for entry in entries:
        note = entry.note or "the published weights"
        table.add_row(
            entry.name, str(entry.n_features), entry.licence, "yes" if entry_path(entry).is_file() else "no", note
        )
    out.print(table)


def _size(grid: "Grid | None") -> str:
    if grid is None:
        return ""
    spacing = " x ".join(f"{value:.2f}" for value in grid.spacing_mm[::-1])
    return f", {' x '.join(map(str, grid.shape))} voxels of {spacing} mm"


def _roi_line(roi: RoiEntry, *, why: str) -> str:
    number = "" if roi.roi_number is None else f" #{roi.roi_number}"
    centre = f" at ({', '.join(f'{v:.1f}' for v in roi.lps_mm)}) mm" if roi.lps_mm else ""
    size = f", {' x '.join(f'{v:.0f}' for v in roi.extent_mm)} mm" if roi.extent_mm else ""
    return f"    {_status(roi)} {roi.kind} {escape(repr(roi.label))}{number}{centre}{size}{why}"


def _status(entry: SeriesEntry | RoiEntry) -> str:
    return f"[{COLOURS[entry.status]}]{entry.status.value:7}[/]"


def _why(entry: SeriesEntry | RoiEntry) -> str:
    why = entry.reason.what if entry.reason else ", ".join(entry.flags)
    return f": {escape(why)}" if why else ""


def _show_failures(entry: SeriesEntry) -> None:
    if entry.status is not Status.FAILED:
        return
    if entry.reason:
        err.print(f"[red]failed[/] {escape(str(entry.reason))}", highlight=False)
    seen = {str(entry.reason)}
    for roi in entry.rois:
        if roi.reason and str(roi.reason) not in seen:
            err.print(f"[red]failed[/] ROI {escape(repr(roi.label))}: {escape(str(roi.reason))}", highlight=False)


def _show_missing(entry: SeriesEntry) -> None:
    """Lesions that an extractor beside the weights gives no features of."""
    for roi in entry.rois:
        for name, reason in roi.missing.items():
            label = escape(repr(roi.label))
            err.print(f"[yellow]no {name}[/] ROI {label}: {escape(str(reason))}", highlight=False)


def _show_problems(problems: tuple[ProblemEntry, ...]) -> None:
    for problem in problems:
        err.print(f"[red]unusable[/] {escape(problem.path)}: {escape(str(problem.reason))}", highlight=False)


def _summary(entry: SeriesEntry) -> dict[str, Any]:
    reason = str(entry.reason) if entry.reason else None
    return {"status": entry.status, "lesions": entry.n_lesions, "flags": list(entry.flags), "reason": reason}


def _line(entry: SeriesEntry) -> str:
    reason = f" ({entry.reason.what})" if entry.reason else ""
    return f"{entry.status}, {entry.n_lesions} lesion(s) of {len(entry.rois)}{reason}"
