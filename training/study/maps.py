"""`python -m training maps FILE`: features on a plane, by PCA and by t-SNE at several perplexities.

OUTPUT/<name>.points.csv   map, x, y, label, lesion, split: what `figures` takes as a map too
OUTPUT/<name>.spread.csv   per map: how far apart the classes are
OUTPUT/feature-map.<name>.png, .svg, .csv   lesions with contours of each class's density
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from fmcib_module.adapters.atomic import replacing
from fmcib_module.core.errors import ConfigError, InputError
from fmcib_module.settings import from_plain, read_yaml
from training.adaptation.class_names import class_order
from training.adaptation.feature_table import FeatureTable, read_feature_table
from training.adaptation.fitting import Standardised
from training.evaluation.metrics import Floats
from training.study.drawing import COLOURS, MARKERS, Drawing, file_name, legend_below, panels, save_drawing, styled

log = logging.getLogger(__name__)

PCA_NAME: Final = "PCA"
COMPONENTS: Final = 50
"""Of the PCA that t-SNE starts from: distances of thousands of features, at the cost of fifty."""

GRID: Final = 60
"""Points along each side of a panel at which a density is worked out."""

INSIDE: Final = (0.25, 0.5, 0.75)
"""Shares of a class's lesions that its contours hold."""


@dataclass(frozen=True, slots=True)
class MapsSettings:
    """The keys of the YAML file are exactly these fields; paths relative to where it is run.

    Attributes:
        output: Folder.
        name: Of the files.
        features: Feature table, or OUTPUT of `fmcib run`.
        labels: CSV with labels to join; empty where the table has them.
        splits: Whose lesions are shown; empty for all.
        perplexities: Of t-SNE, a map each; empty for PCA alone. Each must be less than the number of lesions.
        standardise: Whether each feature is divided by its standard deviation first.
        seed: Of t-SNE.
    """

    output: str
    name: str
    features: str
    labels: str = ""
    splits: tuple[str, ...] = ()
    perplexities: tuple[float, ...] = (5.0, 15.0, 30.0, 50.0)
    standardise: bool = True
    seed: int = 1

    def __post_init__(self) -> None:
        if not all(perplexity > 0 for perplexity in self.perplexities):
            raise ConfigError(f"perplexities are {self.perplexities}", "perplexities", "use positive numbers")


def maps(settings_path: Path) -> pd.DataFrame:
    """The verb.

    Returns:
        The points of all maps.

    Raises:
        ConfigError: The settings are wrong, or a perplexity is too large.
        InputError: The features cannot be read, or there are too few.
        OutputError: The folder cannot be written.
    """
    settings = from_plain(MapsSettings, read_yaml(settings_path), where=settings_path.name)
    where = Path(settings.features).name
    table = read_feature_table(Path(settings.features), Path(settings.labels) if settings.labels else None)
    table = _of_splits(table, settings.splits, where)
    if settings.perplexities and max(settings.perplexities) >= len(table):
        what = f"a perplexity of {max(settings.perplexities):g} is too large for {len(table)} lesions"
        raise ConfigError(what, "perplexities", "leave it out")
    planes = map_features(table.values, settings)
    points = pd.concat([_points(table, name, plane) for name, plane in planes.items()], ignore_index=True)
    output, name = Path(settings.output), file_name(settings.name)
    output.mkdir(parents=True, exist_ok=True)
    spread = pd.DataFrame([{"map": key, **class_spread(part)} for key, part in points.groupby("map", sort=False)])
    for table_name, rows in (("points", points), ("spread", spread)):
        with replacing(output / f"{name}.{table_name}.csv") as temporary:
            rows.to_csv(temporary, index=False)
    with styled():
        save_drawing(output, draw_densities(settings.name, points))
    log.info("%d maps of %d lesions in %s", len(planes), len(table), output.name)
    return points


def map_features(values: NDArray[np.floating], settings: MapsSettings) -> dict[str, Floats]:
    """Name of the map -> (n, 2).

    Args:
        values: (n, d) features.
        settings: Which maps. t-SNE starts from the first principal components, so that it is the same every time.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    prepared = Standardised.of(values)
    rows = (values - prepared.mean) / (prepared.scale if settings.standardise else 1.0)
    components = PCA(min(COMPONENTS, *rows.shape), svd_solver="full").fit(rows)
    reduced = components.transform(rows)
    first, second = components.explained_variance_ratio_[:2]
    planes = {f"{PCA_NAME}, {first:.0%} and {second:.0%} of the variance": reduced[:, :2].astype(np.float64)}
    for perplexity in settings.perplexities:
        tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=settings.seed)
        with threadpool_limits(1):  # threads that wait for each other cost more than they bring, and change sums
            plane = tsne.fit_transform(reduced)
        planes[f"t-SNE, perplexity {perplexity:g}"] = plane.astype(np.float64)
    return planes


def class_spread(points: pd.DataFrame) -> dict[str, float]:
    """Mean silhouette of the labelled points of a map: 1 where classes lie apart, 0 where they are mixed.

    NaN with fewer than two classes, or a class for every point.
    """
    from sklearn.metrics import silhouette_score

    known = points[points["label"] != ""]
    n_classes = known["label"].nunique()
    if not 2 <= n_classes < len(known):
        return {"silhouette": float("nan"), "n": len(known)}
    return {"silhouette": float(silhouette_score(known[["x", "y"]], known["label"])), "n": len(known)}


def draw_densities(name: str, points: pd.DataFrame) -> Drawing:
    """Every lesion, and for each class the regions of highest density that hold a quarter, a half, three quarters.

    Args:
        name: Of what is shown.
        points: `map`, `x`, `y`, `label`.
    """
    shown = list(points.groupby("map", sort=False))
    labels = sorted(points["label"].unique(), key=class_order)
    figure, axes = panels(len(shown), size=(3.2, 3.0))
    for ax, (title, of) in zip(axes, shown, strict=True):
        for k, label in enumerate(labels):
            colour = COLOURS[k % len(COLOURS)]
            marker = MARKERS[(k + k // len(COLOURS)) % len(MARKERS)]
            at = of.loc[of["label"] == label, ["x", "y"]].to_numpy(dtype=np.float64)
            ax.scatter(
                at[:, 0], at[:, 1], s=8, c=colour, marker=marker, linewidths=0, alpha=0.6, label=label or "no label"
            )
            _contours(ax, at, of[["x", "y"]].to_numpy(dtype=np.float64), colour)
        ax.set_title(str(title), wrap=True)
        ax.set_xticks([])
        ax.set_yticks([])
    legend_below(figure, axes[0])
    caption = f"{name}: features of {len(shown[0][1])} lesions on a plane; contours hold a quarter, a half and three "
    caption += "quarters of a class. Axes have no unit."
    return Drawing(file_name("feature-map", name), name, "Feature map", caption, figure, points)


def density_levels(at: Floats) -> tuple[Floats, Floats] | None:
    """Where a class is dense: its kernel density at its own points, and the levels that hold the shares `INSIDE`.

    Args:
        at: (n, 2) points.

    Returns:
        (n,) densities, and the levels, rising; None where there are too few points, or they lie on one line.
    """
    from scipy.stats import gaussian_kde

    if len(at) < 4 or np.linalg.matrix_rank(at - at.mean(axis=0)) < 2:
        return None
    densities = gaussian_kde(at.T)(at.T)
    return densities, np.unique(np.quantile(densities, [1 - share for share in INSIDE]))


def _contours(ax: Axes, at: Floats, everything: Floats, colour: str) -> None:
    from scipy.stats import gaussian_kde

    found = density_levels(at)
    if found is None:
        return
    low, high = everything.min(axis=0), everything.max(axis=0)
    margin = 0.1 * (high - low)
    x, y = (np.linspace(*ends, GRID) for ends in zip(low - margin, high + margin, strict=True))
    density = gaussian_kde(at.T)(np.stack(np.meshgrid(x, y)).reshape(2, -1)).reshape(GRID, GRID)
    levels = found[1][found[1] < density.max()]
    if len(levels):
        ax.contour(x, y, density, levels=levels, colors=colour, linewidths=0.8)


def _of_splits(table: FeatureTable, splits: tuple[str, ...], where: str) -> FeatureTable:
    if splits:
        if "split" not in table.frame:
            raise InputError("there is no column split", where, "leave `splits` out")
        table = table.take(table.frame["split"].isin(splits).to_numpy())
    if len(table) < 3:
        raise InputError(f"there are {len(table)} lesions", where, "give three or more")
    return table


def _points(table: FeatureTable, name: str, plane: Floats) -> pd.DataFrame:
    columns = {"map": name, "x": plane[:, 0], "y": plane[:, 1]}
    columns |= {key: table.frame.get(key, "") for key in ("label", "lesion", "split")}
    return pd.DataFrame(columns)
