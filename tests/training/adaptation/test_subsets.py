"""Shares of the training data: nested, stratified, whole patients; leakage is found."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmcib_module.core.errors import InputError
from training.adaptation.subsets import check_leakage, training_subset

SHARES = (0.1, 0.2, 0.5, 1.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc")), min_size=1, max_size=80), st.integers(0, 5))
def test_shares_are_nested_and_hold_whole_patients_and_every_stratum(rows: list[tuple[int, str]], seed: int) -> None:
    patients, strata = [str(p) for p, _ in rows], [s for _, s in rows]
    taken = [training_subset(patients, strata, share, seed) for share in SHARES]
    assert taken[-1].all()
    for smaller, larger in pairwise(taken):
        assert (larger | ~smaller).all()
    for mask in taken:
        inside = {p for p, taken_in in zip(patients, mask, strict=True) if taken_in}
        outside = {p for p, taken_in in zip(patients, mask, strict=True) if not taken_in}
        assert not inside & outside


@pytest.mark.parametrize("share", SHARES)
def test_every_class_keeps_its_share(share: float) -> None:
    rng = np.random.default_rng(0)
    strata = rng.choice(["common", "rare"], size=1000, p=[0.9, 0.1]).tolist()
    patients = [f"{stratum}{n // 3}" for n, stratum in enumerate(strata)]
    mask = training_subset(patients, strata, share, seed=1)
    for name in ("common", "rare"):
        inside = [taken for taken, stratum in zip(mask, strata, strict=True) if stratum == name]
        assert np.mean(inside) == pytest.approx(share, abs=0.02)


def test_the_order_of_the_lesions_does_not_matter_and_the_seed_does() -> None:
    patients, strata = [str(n) for n in range(50)], ["a"] * 50
    mask = training_subset(patients, strata, 0.2, seed=1)
    assert mask.sum() == 10
    order = np.random.default_rng(0).permutation(50)
    shuffled = training_subset([patients[n] for n in order], strata, 0.2, seed=1)
    np.testing.assert_array_equal(shuffled, mask[order])
    assert (training_subset(patients, strata, 0.2, seed=2) != mask).any()


def test_a_rare_class_has_a_patient_in_the_smallest_share() -> None:
    strata = ["common"] * 99 + ["rare"]
    assert training_subset([str(n) for n in range(100)], strata, 0.01, seed=1)[-1]


def test_shared_patients_are_refused_or_counted(caplog: pytest.LogCaptureFixture) -> None:
    frame = pd.DataFrame({"patient": ["a", "b", "a", "b", "c"], "split": ["train", "train", "val", "train", "test"]})
    with pytest.raises(InputError, match=r"1 patients are in the training split and in another one .f.parquet"):
        check_leakage(frame, shared_patients=False, where="f.parquet")
    assert check_leakage(frame, shared_patients=True, where="f.parquet") == 1
    assert "as asked for" in caplog.text
    assert check_leakage(frame[frame["patient"] != "a"], shared_patients=False, where="") == 0
