"""How figures look, and how they are kept: PNG, SVG and the numbers behind them, the same bytes every time."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fmcib_module.adapters.atomic import replacing

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, told apart with every common colour vision; without yellow, which white swallows."""

MARKERS: Final = "os^DvPX"
LINES: Final = ("-", "--", "-.", ":")
GREY: Final = "#666666"

STYLE: Final[dict[str, Any]] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "svg.hashsalt": "fmcib",  # names inside the SVG; random without it
}
PANEL: Final = (3.4, 2.9)
"""Width and height, inches."""

DPI: Final = 200


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A figure.

    Attributes:
        name: Of its files.
        task: Whose results it shows.
        title: Short.
        caption: What one sees, in words.
        figure: Drawn within `styled`.
        table: Its numbers.
    """

    name: str
    task: str
    title: str
    caption: str
    figure: Figure
    table: pd.DataFrame


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save within this."""
    with mpl.rc_context(cast("Any", STYLE)):
        yield


def panels(n: int, *, size: tuple[float, float] = PANEL, most: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure of n panels, at most so many beside each other."""
    columns = min(n, most)
    rows = -(-n // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for empty in axes[n:]:
        empty.remove()
    return figure, axes[:n]


def looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Name -> colour, marker and line style: colour is never all that tells two apart."""
    n = len(COLOURS)
    return {
        name: {"color": COLOURS[k % n], "marker": MARKERS[k % n], "linestyle": LINES[(k % n + k // n) % len(LINES)]}
        for k, name in enumerate(names)
    }


def legend_below(figure: Figure, axes: Axes) -> None:
    """One legend for all panels, of what the given one shows."""
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    if once:
        width = 0.6 + 0.07 * max(map(len, once))  # inches that an entry takes, about
        columns = max(1, min(len(once), int(figure.get_figwidth() / width)))
        figure.legend(list(once.values()), list(once), loc="outside lower center", ncols=columns)


def file_name(*parts: str) -> str:
    """Parts as the name of a file: letters, digits and hyphens, with points between."""
    return ".".join(re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-") or "-" for part in parts)


def save_drawing(folder: Path, drawing: Drawing) -> None:
    """Write NAME.png, NAME.svg and NAME.csv; neither date nor software goes into them.

    Raises:
        OutputError: They cannot be written.
    """
    with replacing(folder / f"{drawing.name}.csv") as temporary:
        drawing.table.to_csv(temporary, index=False)
    with replacing(folder / f"{drawing.name}.png") as temporary:
        drawing.figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
    with replacing(folder / f"{drawing.name}.svg") as temporary:
        drawing.figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
