"""Results, figures and methods -> report.html: one page, with nothing to load from elsewhere (jinja2)."""

import base64
import math
from collections.abc import Hashable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pandas as pd

from fmcib_module import __version__
from fmcib_module.adapters.atomic import write_bytes
from fmcib_module.report.texts import RESEARCH_ONLY
from training.study.drawing import Drawing
from training.study.methods_text import methods_paragraphs
from training.study.plots import METRIC_NAMES
from training.study.records import FitRecord
from training.study.study_results import StudyResults
from training.study.survival_plots import p_text

REPORT: Final = "report.html"


def write_study_report(
    output: Path,
    title: str,
    results: StudyResults,
    tasks: Sequence[str],
    drawings: Sequence[Drawing],
    records: Sequence[FitRecord],
    verdicts: pd.DataFrame,
) -> Path:
    """Write OUTPUT/report.html.

    Args:
        output: Folder.
        title: Of the page.
        results: Of `evaluate`.
        tasks: Which, in this order.
        drawings: Saved in the folder: their SVG goes into the page.
        records: What made the predictions.
        verdicts: Expected values beside found ones; may be empty.

    Raises:
        OutputError: It cannot be written.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"interval": _interval, "p": p_text, "number": _number}
    page = files("training.study") / "page" / "study.html.j2"
    style = (files("fmcib_module.report") / "page" / "report.css").read_text(encoding="utf-8")
    names = [*tasks, *dict.fromkeys(drawing.task for drawing in drawings if drawing.task not in tasks)]
    text = environment.from_string(page.read_text(encoding="utf-8")).render(
        title=title,
        style=Markup(style),
        research_only=RESEARCH_ONLY,
        version=__version__,
        results=results,
        methods=methods_paragraphs(results, tasks, records),
        tasks=[_task(output, results, name, drawings) for name in names],
        records=[record for record in records if record.task in tasks],
        verdicts=verdicts.to_dict("records"),
    )
    path = output / REPORT
    write_bytes(path, text.encode())
    return path


def _task(output: Path, results: StudyResults, task: str, drawings: Sequence[Drawing]) -> dict[str, Any]:
    rows = results.of("metrics", task, **{"class": ""})
    metrics = list(rows["metric"].drop_duplicates())
    methods = [
        {"method": method, "share": share, "n_seeds": int(of["n_seeds"].iloc[0]), "cells": _cells(of, metrics)}
        for (method, share), of in rows.groupby(["method", "share"], sort=False)
    ]
    return {
        "name": task,
        "metrics": [METRIC_NAMES.get(metric, metric) for metric in metrics],
        "methods": methods,
        "pairs": _named(results.of("pairwise", task)),
        "groups": results.of("groups", task).to_dict("records"),
        "hazards": results.of("cox", task).to_dict("records"),
        "calibration": results.of_most_data("calibration", task).to_dict("records"),
        "notes": results.of("notes", task).to_dict("records"),
        "figures": [
            {"title": one.title, "caption": one.caption, "name": one.name, "uri": _data_uri(output / f"{one.name}.svg")}
            for one in drawings
            if one.task == task
        ],
    }


def _named(pairs: pd.DataFrame) -> list[dict[Hashable, Any]]:
    return pairs.assign(metric=[METRIC_NAMES.get(name, name) for name in pairs["metric"]]).to_dict("records")


def _cells(rows: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    of = rows.set_index("metric")[["value", "low", "high"]].to_dict("index")
    return [_interval(of[metric]) if metric in of else "" for metric in metrics]


def _interval(row: Mapping[Any, float], value: str = "value") -> str:
    """A value with its interval, as the paper prints them: 0.779 [0.750, 0.810]."""
    if math.isnan(row["low"]):
        return _number(row[value])
    return f"{_number(row[value])} [{_number(row['low'])}, {_number(row['high'])}]"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _data_uri(svg: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode("ascii")
