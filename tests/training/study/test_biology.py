"""A planted set of genes comes out first and others do not; the filter and the correlations are those of loops."""

from contextlib import chdir

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import pearsonr, spearmanr

from fmcib_module.core.errors import ConfigError, InputError
from training.__main__ import main
from training.adaptation.feature_table import FeatureMeta, FeatureTable, write_feature_table
from training.cohorts.dicom import pseudonym
from training.study.expression import (
    Correlation,
    correlate,
    filter_genes,
    mean_by_sample,
    p_of_correlation,
    read_expression,
)
from training.study.gene_sets import ranked_enrichment, read_gene_sets

N, G = 40, 400
PLANTED = [f"g{n:03d}" for n in range(60, 75)]
SAMPLES = [f"R01-{n:03d}" for n in range(N)]


def planted_expression():
    """Genes from the 60th on are expressed; those of the planted set follow a hidden number of each patient."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal(N)
    values = rng.standard_normal((G, N)) + 5
    values[60:] += 20
    values[60:75] += 4 * hidden
    return hidden, pd.DataFrame(values, index=[f"g{n:03d}" for n in range(G)], columns=SAMPLES)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Model `good` predicts the hidden number, `null` noise; patients are pseudonyms, one has two lesions."""
    folder = tmp_path_factory.mktemp("biology")
    hidden, expression = planted_expression()
    expression.to_csv(folder / "expression.csv")
    rng = np.random.default_rng(1)
    lines = {"planted": PLANTED, "unknown": ["x", "y", "z"]}
    lines |= {f"null{k}": [f"g{n:03d}" for n in range(80 + 20 * k, 100 + 20 * k)] for k in range(10)}
    text = "\n".join("\t".join([name, "-", *genes]) for name, genes in lines.items())
    (folder / "sets.gmt").write_text(text + "\n")
    for name, number in (("good", hidden), ("null", rng.standard_normal(N))):
        patients = [pseudonym(sample) for sample in SAMPLES] + [pseudonym(SAMPLES[0]), "someone"]
        risk = [number[0] + 1, *number[1:], number[0] - 1, 0.0]
        columns = {"lesion": range(N + 2), "patient": patients, "split": "test", "method": name, "share": 1, "seed": 1}
        frame = pd.DataFrame(columns | {"time": 1.0, "event": 1, "risk": risk})
        frame.to_csv(folder / f"{name}.csv", index=False)
        values = np.array(risk)[:, None] + rng.standard_normal((N + 2, 4))
        table = FeatureTable(frame[["lesion", "patient", "split"]], values.astype(np.float32), FeatureMeta(name))
        write_feature_table(folder / f"{name}.parquet", table)
    models = [{"name": n, "predictions": f"{n}.csv", "features": f"{n}.parquet"} for n in ("good", "null")]
    plain = {"output": "out", "expression": "expression.csv", "models": models, "gene_sets": "sets.gmt"}
    (folder / "biology.yml").write_text(yaml.safe_dump({**plain, "permutations": 200, "split": "test"}))
    with chdir(folder):
        assert main(["biology", "biology.yml"]) == 0
    return folder


def test_the_planted_genes_and_their_set_come_out_first(study):
    genes = pd.read_csv(study / "out/genes.csv")
    good = genes[genes["model"] == "good"].sort_values("p")
    assert set(good["gene"][: len(PLANTED)]) == set(PLANTED)
    assert (good["fdr"][: len(PLANTED)] < 0.05).all()
    sets = pd.read_csv(study / "out/gsea.csv")
    first = sets[sets["model"] == "good"].iloc[0]
    assert first["set"] == "planted"
    assert first["nes"] > 1
    assert first["fdr"] < 0.05
    assert set(sets["set"]) == {"planted", *(f"null{k}" for k in range(10))}


def test_nothing_is_found_of_what_is_not_there(study):
    genes, sets = (pd.read_csv(study / f"out/{name}.csv") for name in ("genes", "gsea"))
    assert (genes.loc[genes["model"] == "null", "fdr"] > 0.05).all()
    assert (sets.loc[sets["set"] != "planted", "fdr"] > 0.05).all()
    assert (sets.loc[sets["model"] == "null", "fdr"] > 0.05).all()


def test_models_are_compared_gene_by_gene(study):
    tests = pd.read_csv(study / "out/tests.csv").set_index("measure")
    assert tests["n"].tolist() == [340, 340]
    assert tests.loc["prediction", "median_difference"] > 0
    assert {path.suffix for path in (study / "out").glob("biology.*")} == {".csv", ".png", ".svg"}
    written = "".join(path.read_text() for path in (study / "out").glob("*.csv"))
    assert not any(sample in written or pseudonym(sample) in written for sample in SAMPLES)


def test_correlations_are_of_each_patients_mean_over_lesions(study):
    hidden, expression = planted_expression()
    genes = pd.read_csv(study / "out/genes.csv").set_index(["model", "gene"])
    for gene in ("g060", "g100"):
        expected = spearmanr(expression.loc[gene], hidden)
        assert genes.loc[("good", gene), "r"] == pytest.approx(expected.statistic)
        assert genes.loc[("good", gene), "p"] == pytest.approx(expected.pvalue)


def test_the_filter_is_the_papers_in_plain_loops():
    _, expression = planted_expression()
    overall = sum(float(v) for row in expression.to_numpy() for v in row) / (G * N)
    spread = {}
    for gene in expression.index:
        values = [float(v) for v in expression.loc[gene]]
        mean = sum(values) / N
        if mean > overall:
            spread[gene] = (sum((v - mean) ** 2 for v in values) / (N - 1)) ** 0.5
    expected = sorted(spread, key=lambda gene: -spread[gene])[:25]
    assert filter_genes(expression, 25).index.tolist() == expected


@pytest.mark.parametrize(("kind", "theirs"), [(Correlation.SPEARMAN, spearmanr), (Correlation.PEARSON, pearsonr)])
def test_correlations_are_those_of_scipy(kind, theirs):
    rng = np.random.default_rng(4)
    genes, numbers = rng.integers(0, 6, (5, 20)).astype(float), rng.standard_normal((20, 3))
    numbers[:, 2] = 7.0
    found = correlate(genes, numbers, kind)
    for g in range(5):
        for d in range(2):
            expected = theirs(genes[g], numbers[:, d])
            assert found[g, d] == pytest.approx(expected[0])
            assert p_of_correlation(found[g, d], 20) == pytest.approx(expected[1])
    assert np.isnan(found[:, 2]).all()


def test_lesions_of_a_patient_are_averaged():
    frame = pd.DataFrame({"sample": ["b", "a", "b", ""]})
    values = np.array([[1.0], [5.0], [2.0], [9.0]])
    np.testing.assert_array_equal(mean_by_sample(frame, values, ["a", "b"]), [[5.0], [1.5]])


def test_missing_expression_is_left_out_or_zero(tmp_path):
    (tmp_path / "e.tsv").write_text("gene\tP1\tP2\na\t1\t2\nb\t\t4\n")
    assert read_expression(tmp_path / "e.tsv", missing_as_zero=False).index.tolist() == ["a"]
    assert read_expression(tmp_path / "e.tsv", missing_as_zero=True).loc["b", "P1"] == 0
    (tmp_path / "twice.csv").write_text("gene,P1\na,1\na,2\n")
    with pytest.raises(InputError, match="there twice"):
        read_expression(tmp_path / "twice.csv", missing_as_zero=False)
    (tmp_path / "text.csv").write_text("gene,P1\na,much\n")
    with pytest.raises(InputError, match="cannot be read"):
        read_expression(tmp_path / "text.csv", missing_as_zero=False)


def test_gene_sets_that_do_not_fit_are_refused(tmp_path):
    (tmp_path / "bad.gmt").write_text("set genes\n")
    with pytest.raises(InputError, match="with tabs"):
        read_gene_sets(tmp_path / "bad.gmt")
    ranked = pd.Series([2.0, 1.0, 0.5], index=["a", "b", "c"])
    with pytest.raises(ConfigError, match="no gene set holds 2"):
        ranked_enrichment(ranked, {"s": ["a", "z"]}, least=2, permutations=10, seed=1)


def test_patients_without_expression_are_named_by_their_number(study, caplog):
    plain = yaml.safe_load((study / "biology.yml").read_text())
    other = pd.read_csv(study / "expression.csv", index_col=0).add_prefix("X")
    other.to_csv(study / "other.csv")
    (study / "other.yml").write_text(yaml.safe_dump(plain | {"expression": "other.csv"}))
    with chdir(study):
        assert main(["biology", "other.yml"]) == 3
    assert "0 patients have expression" in caplog.text
