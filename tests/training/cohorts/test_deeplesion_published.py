"""DeepLesion's published tables come out again, row by row."""

from pathlib import Path

import pytest

from tests.shared import DATA, needs_shared
from tests.training.cohorts.deeplesion_phantom import run
from tests.training.cohorts.dl_info import rebuild_info, write_info
from training.cohorts.deeplesion_published import read_published

PUBLISHED = DATA / "tables" / "deeplesion-fmcib"


@pytest.mark.slow
@needs_shared
def test_the_published_tables_are_reproduced_row_by_row(tmp_path: Path) -> None:
    write_info(tmp_path / "DL_info.csv", rebuild_info(read_published(PUBLISHED).values()))
    record = run(tmp_path, published=str(PUBLISHED))
    counts = {name: (facts["lesions"], facts["splits"]) for name, facts in record["tables"].items()}
    # Pai et al. 2024: 16,518 lesions, 11,467 unlabelled, 5,051 labelled of eight sites
    assert counts["pretrain.csv"] == (11467, {"train": 11467})
    assert counts["task1.csv"] == (5051, {"train": 2610, "val": 1220, "test": 1221})
    assert len(record["tables"]["task1.csv"]["labels"]) == 8
    assert record["patients_in_two_tables"] == 0
    shares = record["published"]["shares_the_same"]
    assert shares.pop("seed_to_the_last_bit") > 0.7  # the rest differ by less than 1e-12 mm
    assert shares == dict.fromkeys(("seed", "spacing", "diameters", "image", "label", "split"), 1.0)
    assert record["published"]["n_both"] == 16518


@needs_shared
def test_the_published_split_shares_patients_between_val_and_test_only() -> None:
    rows = read_published(PUBLISHED).values()
    of = {name: {row["Volume_fn"][:6] for row in rows if row["table"] == name} for name in {r["table"] for r in rows}}
    assert len(of["task1_val.csv"] & of["task1_test.csv"]) == 291
    assert not of["pretrain.csv"] & (of["task1_train.csv"] | of["task1_val.csv"] | of["task1_test.csv"])
    assert not of["task1_train.csv"] & (of["task1_val.csv"] | of["task1_test.csv"])
