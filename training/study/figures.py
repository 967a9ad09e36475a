"""`python -m training figures FILE`: results of `evaluate` -> figures (PNG, SVG, CSV) and report.html."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from fmcib_module.core.errors import ConfigError, InputError
from fmcib_module.settings import from_plain, read_yaml
from training.study.drawing import Drawing, file_name, save_drawing, styled
from training.study.expected import judge_expected, read_expected, verdict_table
from training.study.plots import draw_calibration, draw_class_precision, draw_decisions, draw_p_values, draw_performance
from training.study.records import read_records
from training.study.report import write_study_report
from training.study.study_results import StudyResults, read_study_results
from training.study.survival_plots import draw_hazards, draw_map, draw_survival

log = logging.getLogger(__name__)

FIGURES: Final[tuple[Callable[[StudyResults, str], Drawing | None], ...]] = (
    draw_performance,
    draw_class_precision,
    draw_p_values,
    draw_survival,
    draw_hazards,
    draw_calibration,
    draw_decisions,
)

MAP_COLUMNS: Final = ("map", "x", "y", "label")


@dataclass(frozen=True, slots=True)
class MapSettings:
    """A feature map to draw.

    Attributes:
        name: Of the task or table, in the report.
        points: CSV with `x`, `y`, `label` per lesion, and `map` where it holds several ("PCA", "t-SNE, 30"). Other
            columns are not shown.
    """

    name: str
    points: str


@dataclass(frozen=True, slots=True)
class FigureSettings:
    """The keys of the YAML file are exactly these fields; paths relative to where it is run.

    Attributes:
        results: OUTPUT of `evaluate`.
        output: Folder for the figures and report.html.
        title: Of the report.
        tasks: Which, in which order; empty takes all.
        maps: Feature maps.
        expected: File of expected values (docs/study.md), compared in the report; "" for none.
    """

    results: str
    output: str
    title: str = "Study report"
    tasks: tuple[str, ...] = ()
    maps: tuple[MapSettings, ...] = ()
    expected: str = ""


def figures(settings_path: Path) -> list[Path]:
    """The verb.

    Returns:
        The report, and the PNG file of each figure.

    Raises:
        ConfigError: The settings are wrong.
        InputError: The results or a map cannot be read.
        OutputError: The folder cannot be written.
    """
    settings = from_plain(FigureSettings, read_yaml(settings_path), where=settings_path.name)
    results, output = read_study_results(Path(settings.results)), Path(settings.output)
    if strange := [task for task in settings.tasks if task not in results.tasks]:
        raise ConfigError(f"no such task: {', '.join(strange)}", "tasks", f"use some of {', '.join(results.tasks)}")
    tasks = list(settings.tasks) or results.tasks
    verdicts = judge_expected(read_expected(Path(settings.expected))) if settings.expected else []
    with styled():
        drawings = list(_draw(results, tasks, settings))
        for drawing in drawings:
            save_drawing(output, drawing)
    records = read_records(results.settings)
    report = write_study_report(output, settings.title, results, tasks, drawings, records, verdict_table(verdicts))
    log.info("written: %d figures and %s in %s", len(drawings), report.name, output.name)
    return [report, *(output / f"{drawing.name}.png" for drawing in drawings)]


def _draw(results: StudyResults, tasks: list[str], settings: FigureSettings) -> Iterator[Drawing]:
    names = [file_name(name) for name in (*tasks, *(one.name for one in settings.maps))]
    if len({*names[: len(tasks)]}) < len(tasks) or len({*names[len(tasks) :]}) < len(settings.maps):
        raise ConfigError("two names give the same file", "tasks, maps", "let them differ in letters or digits")
    for task in tasks:
        yield from (drawing for draw in FIGURES if (drawing := draw(results, task)) is not None)
    for one in settings.maps:
        yield draw_map(one.name, _read_points(Path(one.points)))


def _read_points(path: Path) -> pd.DataFrame:
    try:
        points = pd.read_csv(
            path, dtype={"label": str, "map": str}, keep_default_na=False, na_values={"x": "", "y": ""}
        )
    except (OSError, ValueError) as error:
        reason = type(error).__name__
        raise InputError(f"the map cannot be read: {reason}", path.name, "give a CSV file with x, y, label") from error
    if "map" not in points:
        points = points.assign(map="features")
    missing = [name for name in MAP_COLUMNS if name not in points]
    if missing or points.empty or not points[["x", "y"]].notna().all(axis=None):
        what = f"column(s) {', '.join(missing)} are missing" if missing else "there is no point, or one without a place"
        raise InputError(what, path.name, "give x, y and label of every lesion")
    return points[list(MAP_COLUMNS)]
