"""Gene set enrichment of ranked genes (gseapy), from a file of gene sets: nothing is fetched."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from fmcib_module.core.errors import ConfigError, InputError
from training.evaluation.quiet import without_deprecations

COLUMNS = {
    "Term": "set", "ES": "es", "NES": "nes", "NOM p-val": "p", "FDR q-val": "fdr", "Tag %": "tags",
    "Lead_genes": "leading_genes",
}  # fmt: skip
"""gseapy's columns -> ours."""


def read_gene_sets(path: Path) -> dict[str, list[str]]:
    """Read a GMT file: name, description and genes of a set per line, with tabs between.

    Raises:
        InputError: It cannot be read, or holds no set.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the gene sets cannot be read", path.name, "give a GMT file") from error
    cells = [line.rstrip("\t").split("\t") for line in lines if line.strip()]
    if not cells or any(len(row) < 3 for row in cells):
        raise InputError("a line holds no name, description and genes", path.name, "give a GMT file, with tabs")
    return {row[0]: [gene for gene in row[2:] if gene] for row in cells}


def ranked_enrichment(
    ranked: "pd.Series[float]", sets: Mapping[str, list[str]], *, least: int, permutations: int, seed: int
) -> pd.DataFrame:
    """Enrichment of each set among ranked genes: permutation of genes, FDR over the sets.

    Args:
        ranked: A number per gene, in any order.
        sets: Name -> genes.
        least: Ranked genes that a set must hold.
        permutations: How many.
        seed: Of them.

    Returns:
        `set`, `es`, `nes`, `p`, `fdr`, `tags`, `leading_genes`, by FDR and then by the size of the normalised score.

    Raises:
        ConfigError: No set holds so many of the genes.

    References:
        Subramanian et al. 2005, doi:10.1073/pnas.0506580102.
    """
    import gseapy

    known = {name: [gene for gene in genes if gene in ranked.index] for name, genes in sets.items()}
    known = {name: genes for name, genes in known.items() if least <= len(genes) < len(ranked)}
    if not known:
        raise ConfigError(f"no gene set holds {least} of the ranked genes", "gene_sets", "compare the genes' names")
    with without_deprecations():
        found = gseapy.prerank(
            rnk=ranked.sort_values(ascending=False),
            gene_sets=known,
            min_size=least,
            max_size=len(ranked),
            permutation_num=permutations,
            seed=seed,
            threads=1,
            outdir=None,
            no_plot=True,
        )
    table: pd.DataFrame = found.res2d[list(COLUMNS)].rename(columns=COLUMNS)
    numbers = ["es", "nes", "p", "fdr"]
    table[numbers] = table[numbers].astype(float)
    order = table.assign(size=-table["nes"].abs()).sort_values(["fdr", "size"], kind="stable").index
    return table.reindex(order).reset_index(drop=True)
