"""Figures show the numbers of the results, are the same twice, name nobody, and the report holds them all."""

import json
from contextlib import chdir
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.training.study.results import write_results
from training.__main__ import main
from training.study.drawing import COLOURS, looks, styled
from training.study.plots import draw_p_values, draw_performance
from training.study.study_results import read_study_results
from training.study.survival_plots import draw_survival

FIGURES = {
    *("performance.sites", "average-precision.sites", "p-values.sites", "calibration.sites"),
    *("performance.malignancy", "p-values.malignancy", "calibration.malignancy", "decision-curves.malignancy"),
    *("performance.survival", "survival.survival", "map.sites"),
}


def run(folder: Path, **settings: Any) -> int:
    (folder / "figures.yml").write_text(yaml.safe_dump({"results": "results", "output": "figures"} | settings))
    with chdir(folder):
        return main(["figures", "figures.yml"])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    with chdir(folder):
        write_results(folder)
    points = pd.DataFrame({"patient": "SECRET1", "x": np.arange(6.0), "y": 0.0, "label": list("aabbcc")})
    points.assign(map=["PCA", "t-SNE"] * 3).to_csv(folder / "map.csv", index=False)
    assert run(folder, title="A <study>", maps=[{"name": "sites", "points": "map.csv"}]) == 0
    return folder


class Page(HTMLParser):
    """What a page loads, and its words."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.alternatives: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.sources += [value or "" for name, value in attrs if name in {"src", "href"}]
        self.alternatives += [named.get("alt") or ""] if tag == "img" else []

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read_page(folder: Path) -> tuple[Page, str]:
    page = Page()
    page.feed((folder / "figures" / "report.html").read_text(encoding="utf-8"))
    return page, " ".join(" ".join(page.words).split())


def test_every_figure_is_there_as_png_svg_and_csv(study: Path) -> None:
    found = {path.name for path in (study / "figures").iterdir()} - {"report.html"}
    assert found == {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg", "csv")}
    for name in FIGURES:
        with Image.open(study / "figures" / f"{name}.png") as picture:
            assert min(picture.size) > 400
            assert picture.convert("L").getextrema() != (255, 255)
        ElementTree.parse(study / "figures" / f"{name}.svg")
    values = pd.read_csv(study / "figures" / "performance.sites.csv")
    of_evaluate = pd.read_csv(study / "results" / "metrics.csv").query("task == 'sites' and `class`.isna()")
    assert values["value"].tolist() == of_evaluate["value"].tolist()


def test_points_lie_where_the_results_say(study: Path) -> None:
    results = read_study_results(study / "results")
    with styled():
        drawing = draw_performance(results, "sites")
        assert drawing is not None
    ax = next(ax for ax in drawing.figure.axes if ax.get_title() == "AUC")
    bars: dict[str, Any] = {str(bar.get_label()): bar for bar in ax.containers}
    rows = results.of("metrics", "sites", metric="auc").query("`class` == ''").set_index(["method", "share"])
    for method in ("good & <fast>", "bad"):
        values = [rows.loc[(method, share), "value"] for share in (0.1, 0.5, 1.0)]
        np.testing.assert_array_equal(bars[method].lines[0].get_ydata(), values)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["10%", "50%", "100%"]
    bar = bars["bad"].lines[2][0].get_segments()[2]
    np.testing.assert_allclose(bar[:, 1], rows.loc[("bad", 1.0), ["low", "high"]].to_numpy(dtype=float))


def test_curves_and_tests_of_survival_are_those_of_the_results(study: Path) -> None:
    results = read_study_results(study / "results")
    with styled():
        drawing = draw_survival(results, "survival")
    assert drawing is not None
    ax = drawing.figure.axes[0]
    high = next(line for line in ax.lines if str(line.get_label()).startswith("high risk"))
    rows = results.of("kaplan_meier", "survival", group="high risk")
    np.testing.assert_array_equal(high.get_ydata(), rows["survival"])
    p = results.of("log_rank", "survival")["p"].iloc[0]
    assert (f"p = {p:.3f}" if p >= 0.001 else "p < 0.001") in ax.get_title()


def test_heat_maps_of_two_sided_tests_are_symmetric(study: Path) -> None:
    results = read_study_results(study / "results")
    with styled():
        drawing = draw_p_values(results, "malignancy")
    assert drawing is not None
    p = results.of("pairwise", "malignancy", metric="auc")["p"].iloc[0]
    ax = next(ax for ax in drawing.figure.axes if ax.get_title().startswith("AUC"))
    assert [text.get_text() for text in ax.texts] == [f"{p:.3f}"] * 2


def test_the_same_results_give_the_same_bytes_without_dates_or_names_of_patients(study: Path) -> None:
    assert run(study, output="again", tasks=["malignancy"]) == 0
    again = [path for path in (study / "again").iterdir() if path.name != "report.html"]
    assert len(again) == 12
    for path in again:
        assert path.read_bytes() == (study / "figures" / path.name).read_bytes(), path.name
    for path in (study / "figures").iterdir():
        content = path.read_bytes()
        assert not any(word in content for word in (b"SECRET", b"dc:date", b"tEXtSoftware", str(study).encode()))


def test_the_report_stands_alone_and_says_what_was_done(study: Path) -> None:
    page, words = read_page(study)
    assert len(page.sources) == len(FIGURES)
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert all(page.alternatives)
    assert "A <study>" in words
    row = (
        read_study_results(study / "results").of("metrics", "malignancy", metric="auc", method="good & <fast>").iloc[0]
    )
    assert f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in words
    assert "good & <fast>" in words
    assert "100 bootstrap resamples of lesions" in words
    assert "two-sided permutation tests with 50 exchanges of lesions" in words
    assert "40 lesions of 20 patients (test split)" in words
    assert "is not recorded" in words
    assert "Research use only" in words


def test_methods_are_told_by_colour_and_by_shape() -> None:
    style = looks([str(n) for n in range(2 * len(COLOURS))])
    assert len({(look["color"], look["linestyle"]) for look in style.values()}) == len(style)
    first = [style[str(n)] for n in range(len(COLOURS))]
    assert len({look["marker"] for look in first}) == len({look["color"] for look in first}) == len(COLOURS)


def test_one_sided_tests_fill_one_half_of_the_heat_map(study: Path, tmp_path: Path) -> None:
    found = json.loads((study / "results" / "results.json").read_text())
    for row in found["pairwise"]:
        row["sides"] = "one-sided"
    (tmp_path / "results.json").write_text(json.dumps(found))
    with styled():
        drawing = draw_p_values(read_study_results(tmp_path), "malignancy")
    assert drawing is not None
    assert all(len(ax.texts) == 1 for ax in drawing.figure.axes)
    assert "A row's method against a column's" in drawing.caption


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"results": "absent"}, "the results cannot be read: FileNotFoundError [absent/results.json]"),
        ({"tasks": ["sights"]}, "no such task: sights [tasks]: use some of sites, malignancy, survival"),
        ({"maps": [{"name": "m", "points": "evaluate.yml"}]}, "column(s) x, y, label are missing [evaluate.yml]"),
        ({"maps": [{"name": n, "points": "map.csv"} for n in ("a b", "a_b")]}, "two names give the same file"),
        ({"resulst": ""}, "unknown key(s) resulst [figures.yml]"),
    ],
)
def test_wrong_settings_are_refused(
    study: Path, changes: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(study, **changes) in {2, 3}
    assert message in caplog.text
