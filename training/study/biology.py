"""`python -m training biology FILE`: gene expression of the patients against predictions and features of their lesions.

OUTPUT/genes.csv    per model and gene: correlation with the prediction (p, FDR), and with the features
OUTPUT/tests.csv    Wilcoxon signed-rank tests between models, gene by gene
OUTPUT/gsea.csv     gene sets enriched among the genes ranked by correlation (with a file of sets)
OUTPUT/biology.png, .svg, .csv
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmcib_module.adapters.atomic import replacing
from fmcib_module.core.errors import ConfigError, InputError
from fmcib_module.settings import from_plain, read_yaml
from training.adaptation.feature_table import read_feature_table
from training.cohorts.dicom import pseudonym
from training.evaluation.predictions import read_predictions
from training.study.drawing import Drawing, panels, save_drawing, styled
from training.study.expression import (
    Correlation,
    correlate,
    filter_genes,
    mean_by_sample,
    p_of_correlation,
    read_expression,
)
from training.study.gene_sets import ranked_enrichment, read_gene_sets
from training.study.signed_rank import signed_rank_tests

log = logging.getLogger(__name__)

LEAST_SAMPLES: Final = 5
MEASURES: Final = {"prediction": "|r| with the prediction", "features": "Mean |r| with the features"}
"""What is compared between models -> label of its axis."""


@dataclass(frozen=True, slots=True)
class BiologyModel:
    """A model to compare; at least one of both files.

    Attributes:
        name: In tables and figures.
        predictions: Predictions table with risks or two classes; of several fits the one on most data, first seed.
        features: Feature table.
    """

    name: str
    predictions: str = ""
    features: str = ""

    def __post_init__(self) -> None:
        if not self.predictions and not self.features:
            raise ConfigError("the model has neither predictions nor features", self.name, "name one")


@dataclass(frozen=True, slots=True)
class BiologySettings:
    """The keys of the YAML file are exactly these fields; paths relative to where it is run.

    Attributes:
        output: Folder.
        expression: CSV or TSV: genes (rows) and samples (columns), which are named as the patients, or as the
            PatientIDs whose pseudonyms the cohort has.
        models: To compare.
        gene_sets: GMT file; "" for no enrichment.
        split: Whose lesions; "" for all.
        missing_as_zero: Take missing expression as 0; else its gene is left out.
        most_genes: That vary most, of those expressed above the overall mean.
        correlation: spearman or pearson.
        rank_all: Rank all genes for enrichment, not only the filtered ones.
        least_genes: Of a set among the ranked ones; smaller sets are not tested.
        permutations: Of enrichment.
        seed: Likewise.
    """

    output: str
    expression: str
    models: tuple[BiologyModel, ...]
    gene_sets: str = ""
    split: str = ""
    missing_as_zero: bool = False
    most_genes: int = 500
    correlation: Correlation = Correlation.SPEARMAN
    rank_all: bool = False
    least_genes: int = 5
    permutations: int = 1000
    seed: int = 1

    def __post_init__(self) -> None:
        names = [model.name for model in self.models]
        if not names or len({*names}) < len(names):
            raise ConfigError("there is no model, or two have the same name", "models", "name each once")
        if min(self.most_genes, self.least_genes, self.permutations) < 1:
            raise ConfigError("most_genes, least_genes or permutations is too small", "biology", "use 1 or more")


Values = NDArray[np.floating]
Lesions = tuple[pd.DataFrame, Values]
"""A frame with `patient`, and (n, d) numbers of the same lesions."""


def biology(settings_path: Path) -> None:
    """The verb.

    Raises:
        ConfigError: The settings are wrong, or no gene set is large enough.
        InputError: A file cannot be read, or too few patients have everything.
        OutputError: The folder cannot be written.
    """
    settings = from_plain(BiologySettings, read_yaml(settings_path), where=settings_path.name)
    output = Path(settings.output)
    expression = read_expression(Path(settings.expression), missing_as_zero=settings.missing_as_zero)
    numbers = {
        (model.name, what): read(Path(path), settings.split)
        for model in settings.models
        for what, path, read in _sources(model)
        if path
    }
    samples = _common_samples(expression, numbers)
    everything = expression[samples]
    kept = filter_genes(everything, settings.most_genes)
    if kept.empty:
        raise InputError("no gene is expressed above the mean and varies", Path(settings.expression).name, "check it")
    log.info("%d samples, %d of %d genes", len(samples), len(kept), len(expression))
    genes = _genes(settings, kept, numbers, samples)
    enriched = _enriched(settings, everything if settings.rank_all else kept, numbers, samples)
    output.mkdir(parents=True, exist_ok=True)
    tables = {
        "genes": genes,
        "tests": signed_rank_tests(genes, [name for name in MEASURES if name in genes], "gene"),
        "gsea": enriched,
    }
    for name, table in tables.items():
        if not table.empty:
            with replacing(output / f"{name}.csv") as temporary:
                table.to_csv(temporary, index=False)
    with styled():
        save_drawing(output, draw_biology(genes, enriched))


def _sources(model: BiologyModel) -> tuple[tuple[str, str, Callable[[Path, str], Lesions]], ...]:
    return ("prediction", model.predictions, _predicted), ("features", model.features, _features)


def _predicted(path: Path, split: str) -> Lesions:
    runs = read_predictions([path])
    run = max(runs, key=lambda run: (run.share, -run.seed))
    if len(run.classes) > 2:
        raise InputError(
            f"there are {len(run.classes)} classes", path.name, "give risks, or predictions of two classes"
        )
    run = run.split(split) if split else run
    return run.frame, np.asarray(run.risk, dtype=np.float64)[:, None]


def _features(path: Path, split: str) -> Lesions:
    table = read_feature_table(path)
    if split:
        table = table.take((table.frame["split"] == split).to_numpy())
    return table.frame, table.values


def _common_samples(expression: pd.DataFrame, numbers: dict[tuple[str, str], Lesions]) -> list[str]:
    """Samples of the patients that every model knows, and `sample` in every frame."""
    names = [str(name) for name in expression]
    sample_of = {pseudonym(name): name for name in names} | {name: name for name in names}
    common = set(names)
    for key, (frame, values) in numbers.items():
        sample = [sample_of.get(str(patient), "") for patient in frame["patient"]]
        numbers[key] = (frame.assign(sample=sample), values)
        common &= set(sample)
    if len(common) < LEAST_SAMPLES:
        fix = "name samples as the tables name patients"
        raise InputError(f"{len(common)} patients have expression and are in every table", "biology", fix)
    return [name for name in names if name in common]


def _genes(
    settings: BiologySettings, kept: pd.DataFrame, numbers: dict[tuple[str, str], Lesions], samples: list[str]
) -> pd.DataFrame:
    from scipy.stats import false_discovery_control

    parts = []
    for model in settings.models:
        columns: dict[str, object] = {"model": model.name, "gene": kept.index, "n": len(samples)}
        for what in MEASURES:
            if (model.name, what) not in numbers:
                continue
            means = mean_by_sample(*numbers[model.name, what], samples)
            found = correlate(kept.to_numpy(), means, settings.correlation)
            if what == "prediction":
                r = found[:, 0]
                if np.isnan(r).any():
                    raise InputError("its prediction is the same for every patient", model.name, "leave it out")
                p = p_of_correlation(r, len(samples))
                columns |= {"r": r, "p": p, "fdr": false_discovery_control(p), "prediction": np.abs(r)}
            else:
                varying = np.abs(found[:, ~np.isnan(found).any(axis=0)])
                columns |= {"features": varying.mean(axis=1), "features_most": varying.max(axis=1)}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _enriched(
    settings: BiologySettings, genes: pd.DataFrame, numbers: dict[tuple[str, str], Lesions], samples: list[str]
) -> pd.DataFrame:
    if not settings.gene_sets:
        return pd.DataFrame()
    sets = read_gene_sets(Path(settings.gene_sets))
    parts = []
    for model in settings.models:
        if (model.name, "prediction") in numbers:
            means = mean_by_sample(*numbers[model.name, "prediction"], samples)
            r = pd.Series(correlate(genes.to_numpy(), means, settings.correlation)[:, 0], genes.index).dropna()
            found = ranked_enrichment(
                r, sets, least=settings.least_genes, permutations=settings.permutations, seed=settings.seed
            )
            parts.append(found.assign(model=model.name))
    return pd.concat(parts, ignore_index=True)[["model", *parts[0].columns.drop("model")]] if parts else pd.DataFrame()


SHOWN_SETS: Final = 8
"""Of each model, by FDR and then by the size of the score."""


def draw_biology(genes: pd.DataFrame, enriched: pd.DataFrame) -> Drawing:
    """Absolute correlations per model, and each model's most enriched sets."""
    measures = [name for name in MEASURES if name in genes and genes[name].notna().any()]
    models = list(enriched["model"].drop_duplicates()) if len(enriched) else []
    figure, axes = panels(len(measures) + len(models), size=(3.6, 3.0), most=2)
    for ax, measure in zip(axes, measures, strict=False):
        of = genes[genes[measure].notna()]
        names = list(of["model"].drop_duplicates())
        ax.boxplot([of.loc[of["model"] == name, measure] for name in names], tick_labels=names, widths=0.5)
        ax.set_ylabel(MEASURES[measure])
        ax.tick_params(axis="x", rotation=20)
    for ax, model in zip(axes[len(measures) :], models, strict=True):
        of = enriched[enriched["model"] == model].head(SHOWN_SETS).iloc[::-1]
        colours = ["#0072B2" if q < 0.25 else "#BBBBBB" for q in of["fdr"]]
        ax.barh(of["set"], of["nes"], color=colours)
        ax.axvline(0, color="#666666", linewidth=0.8)
        ax.set_xlabel("Normalised enrichment score")
        ax.set_title(model)
    caption = (
        f"{genes['gene'].nunique()} genes of {genes['n'].iloc[0]} patients; sets with an FDR under 0.25 in colour."
    )
    return Drawing("biology", "", "Biological associations", caption, figure, genes)
