"""Survival statistics against R's printed outputs, other implementations and the real Radiogenomics cohort."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from lifelines.datasets import load_lung, load_rossi
from sksurv.compare import compare_survival
from sksurv.nonparametric import kaplan_meier_estimator

from fmcib_module.core.errors import InputError
from tests.shared import DATA, needs_shared
from training.evaluation.metrics import RiskScores
from training.evaluation.survival import cox, kaplan_meier, log_rank, median_groups, median_survival, risk_hazard

ROSSI = {
    "fin": (0.684, 0.470, 0.996, 0.047),
    "age": (0.944, 0.904, 0.986, 0.009),
    "race": (1.369, 0.748, 2.503, 0.308),
    "wexp": (0.861, 0.568, 1.305, 0.480),
    "mar": (0.648, 0.307, 1.370, 0.256),
    "paro": (0.919, 0.626, 1.348, 0.665),
    "prio": (1.096, 1.036, 1.159, 0.001),
}
"""R's coxph on Rossi's data, exp(coef), lower .95, upper .95 and Pr(>|z|): Fox and Weisberg, "Cox Proportional-Hazards
Regression for Survival Data in R" (appendix to An R Companion to Applied Regression)."""


def lung() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """NCCTG lung cancer data of R's survival package: days, death, sex (1 male, 2 female)."""
    table = load_lung()
    return table["time"].to_numpy(dtype=float), table["status"].to_numpy(dtype=bool), table["sex"].to_numpy()


def test_cox_regression_is_rs() -> None:
    table = load_rossi()
    covariates = table.drop(columns=["week", "arrest"])
    found = cox(table["week"].to_numpy(dtype=float), table["arrest"].to_numpy(dtype=bool), covariates)
    assert [hazard.covariate for hazard in found] == list(ROSSI)
    for hazard in found:
        assert (hazard.ratio, hazard.low, hazard.high, hazard.p) == pytest.approx(ROSSI[hazard.covariate], abs=6e-4)
        assert (hazard.n, hazard.events) == (432, 114)


def test_log_rank_is_rs() -> None:
    # survdiff(Surv(time, status) ~ sex, data = lung): Chisq = 10.3267 on 1 degree of freedom, p = 0.00131116
    found = log_rank(*lung())
    assert found.statistic == pytest.approx(10.3267, abs=5e-5)
    assert found.degrees == 1
    assert found.p == pytest.approx(0.00131116, abs=5e-9)


def test_median_survival_is_rs() -> None:
    # survfit(Surv(time, status) ~ sex, data = lung): medians 270 and 426; of all: 310
    time, event, sex = lung()
    assert median_survival(kaplan_meier(time, event)) == 310
    assert [median_survival(kaplan_meier(time[sex == s], event[sex == s])) for s in (1, 2)] == [270, 426]
    assert median_survival(kaplan_meier(time, np.zeros_like(event))) == float("inf")


def test_kaplan_meier_by_hand() -> None:
    curve = kaplan_meier(np.array([1.0, 2.0, 2.0, 3.0]), np.array([True, True, False, False]))
    assert [(s.time, s.at_risk, s.events) for s in curve] == [(0, 4, 0), (1, 4, 1), (2, 3, 1), (3, 1, 0)]
    assert [s.survival for s in curve] == pytest.approx([1, 3 / 4, 3 / 4 * 2 / 3, 1 / 2])
    assert all(s.low <= s.survival <= s.high for s in curve)


def test_the_cut_comes_from_the_tuning_set_alone() -> None:
    groups = median_groups(np.array([0.1, 0.4, 0.5, 9.0]), tuning_risk=np.array([0.2, 0.4, 8.0]))
    assert groups.tolist() == [False, False, True, True]


def test_categories_are_compared_with_the_first_and_empty_cells_left_out() -> None:
    time, event, sex = lung()
    words = pd.Series(["" if n == 3 else "a man" if s == 1 else "woman" for n, s in enumerate(sex)], name="sex")
    (found,) = cox(time, event, words.to_frame())
    (numbers,) = cox(np.delete(time, 3), np.delete(event, 3), pd.DataFrame({"sex": np.delete(sex, 3)}))
    assert found.covariate == "sex: woman"
    assert (found.ratio, found.low, found.p) == pytest.approx((numbers.ratio, numbers.low, numbers.p))
    assert found.n == 227


def test_one_group_has_no_log_rank_test_and_a_constant_no_regression() -> None:
    time, event, sex = lung()
    assert np.isnan(log_rank(time, event, np.ones_like(sex)).p)
    with pytest.raises(InputError, match=r"age is constant .cox"):
        cox(time, event, pd.DataFrame({"age": np.ones(len(time))}))
    with pytest.raises(InputError, match="there are 0 events"):
        cox(time, np.zeros_like(event), pd.DataFrame({"sex": sex}))


def test_a_separated_covariate_is_refused_and_not_a_number() -> None:
    time, event, _ = lung()
    with pytest.raises(InputError, match="does not converge"):
        cox(time, event, pd.DataFrame({"event": event.astype(float)}))


def radiogenomics() -> pd.DataFrame:
    table = pd.read_csv(DATA / "tables" / "nsclc-radiogenomics" / "nsclc_radiogenomics.csv")
    assert len(table) == 144
    covariates = {"Age at Histological Diagnosis": "age", "Gender": "gender", "Pathological N stage": "N"}
    return table.rename(columns=covariates).assign(
        time=table["Survival.time"] / 365.25, event=table["deadstatus.event"].astype(bool)
    )


@needs_shared
def test_kaplan_meier_and_log_rank_of_144_real_patients_are_scikit_survivals() -> None:
    table = radiogenomics()
    time, event = table["time"].to_numpy(), table["event"].to_numpy()
    curve = kaplan_meier(time, event)[1:]
    times, survival = kaplan_meier_estimator(event, time)
    np.testing.assert_allclose([s.time for s in curve], times)
    np.testing.assert_allclose([s.survival for s in curve], survival, rtol=1e-10)
    for column in ("gender", "N"):
        groups = table[column].to_numpy()
        outcome = np.array(list(zip(event, time, strict=True)), dtype=[("event", bool), ("time", float)])
        statistic, p = compare_survival(outcome, groups)
        found = log_rank(time, event, groups)
        assert (found.statistic, found.p) == pytest.approx((statistic, p), rel=1e-8)
        assert found.degrees == len(set(groups)) - 1


@needs_shared
def test_cox_regression_of_144_real_patients_is_that_of_statsmodels() -> None:
    table = radiogenomics()
    time, event = table["time"].to_numpy(), table["event"].to_numpy()
    found = cox(time, event, table[["age", "gender", "N"]])
    design = pd.DataFrame(
        {
            "age": table["age"].astype(float),
            "gender: Male": (table["gender"] == "Male").astype(float),
            "N: N1": (table["N"] == "N1").astype(float),
            "N: N2": (table["N"] == "N2").astype(float),
        }
    )
    fitted = sm.PHReg(time, design, status=event.astype(int), ties="efron").fit()
    assert [hazard.covariate for hazard in found] == list(design)
    np.testing.assert_allclose([np.log(hazard.ratio) for hazard in found], fitted.params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose([[np.log(h.low), np.log(h.high)] for h in found], fitted.conf_int(), rtol=1e-4)
    np.testing.assert_allclose([hazard.p for hazard in found], fitted.pvalues, rtol=1e-4)


@needs_shared
def test_risk_groups_of_real_patients() -> None:
    table = radiogenomics()
    predictions = RiskScores(table["time"].to_numpy(), table["event"].to_numpy(), table["age"].to_numpy(dtype=float))
    found = risk_hazard(predictions, predictions.risk)
    high = (table["age"] > table["age"].median()).astype(float)
    fitted = sm.PHReg(predictions.time, high.to_frame(), status=predictions.event.astype(int), ties="efron").fit()
    assert found.ratio == pytest.approx(float(np.exp(fitted.params[0])), rel=1e-5)
