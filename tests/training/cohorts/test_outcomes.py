"""Clinical tables: time, event and two-year label with censoring; joined to any table of lesions."""

import csv
import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fmcib_module.core.errors import ConfigError, InputError
from tests.shared import DATA, needs_shared
from training.cohorts.clinical import ClinicalForm, Outcome, read_clinical
from training.cohorts.cohort import cohort
from training.evaluation.survival import cox, kaplan_meier, log_rank
from training.lesion_table import LesionRow, read_lesion_table

RADIOGENOMICS = DATA / "tables" / "nsclc-radiogenomics" / "nsclc_radiogenomics.csv"
LUNG1 = """PatientID,age,clinical.T.Stage,Overall.Stage,Histology,gender,Survival.time,deadstatus.event
LUNG1-001,78.75,2,IIIb,large cell,male,2165,1
LUNG1-002,83.8,2,I,NA,male,155,1
LUNG1-003,,3,IIIa,nos,female,314,0
LUNG1-004,70,4,II,nos,female,2119,0
LUNG1-005,70,4,II,nos,female,NA,0
"""


def run(folder: Path, **settings: object) -> dict[str, Any]:
    """The verb with `kind: table`, with its record."""
    values = {"kind": "table", "tables": "lesions.csv", "output": "out", **settings}
    (folder / "cohort.yml").write_text(json.dumps(values), encoding="utf-8")
    with chdir(folder):
        return cohort(Path("cohort.yml"))


def rows_of(folder: Path) -> tuple[LesionRow, ...]:
    """Of the table that was written."""
    return read_lesion_table(folder / "out" / "lesions.csv").rows


def write_lesions(folder: Path, patients: list[str]) -> None:
    """One lesion per name, each in its own image."""
    lines = [f"scan{n}.nrrd,{n},2,3,{name},secret,spiculated" for n, name in enumerate(patients)]
    header = "image_path,coordX,coordY,coordZ,patient,address,shape"
    (folder / "lesions.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("time", "event", "label"),
    [(2.0, True, "1"), (2.0, False, "1"), (1.99, True, "0"), (1.99, False, ""), (9.0, True, "1")],
)
def test_who_is_alive_after_two_years_and_who_is_not_known_to_be(time: float, event: bool, label: str) -> None:
    assert Outcome(time, event).alive_after(2.0) == label


def test_lung1_counts_days_and_leaves_out_who_has_no_outcome(tmp_path: Path) -> None:
    (tmp_path / "lung1.csv").write_text(LUNG1, encoding="utf-8")
    found = read_clinical(tmp_path / "lung1.csv", ClinicalForm.LUNG1)
    assert {name: (round(o.time * 365.25), o.event) for name, o in found.items()} == {
        "LUNG1-001": (2165, True), "LUNG1-002": (155, True), "LUNG1-003": (314, False), "LUNG1-004": (2119, False),
    }  # fmt: skip
    assert found["LUNG1-001"].covariates == {"age": "78.75", "sex": "male", "stage": "IIIb", "histology": "large cell"}


def test_outcomes_are_joined_by_patient_and_the_censored_left_out(tmp_path: Path) -> None:
    (tmp_path / "lung1.csv").write_text(LUNG1, encoding="utf-8")
    write_lesions(tmp_path, ["LUNG1-002", "LUNG1-003", "LUNG1-004", "LUNG1-004", "LUNG1-999"])
    outcome = {"table": "lung1.csv", "form": "lung1"}
    record = run(tmp_path, outcome=outcome, test=1.0)
    assert record["left_out"] == {
        "its patient was last seen alive before 2 years": 1,
        "its patient has no outcome in the clinical table": 1,
    }
    first, second, third = rows_of(tmp_path)
    assert (first.label, first.event, first.split) == ("0", True, "test")
    assert (second.label, second.event, second.patient) == ("1", False, third.patient)
    assert second.time == pytest.approx(2119 / 365.25)
    assert second.others == {"age": "70", "sex": "female", "stage": "II", "histology": "nos"}, "no address"
    run(tmp_path, outcome={**outcome, "keep_censored": True}, columns=["shape"])
    assert [row.label for row in rows_of(tmp_path)] == ["0", "", "1", "1"]
    assert rows_of(tmp_path)[1].others["shape"] == "spiculated"


def test_any_cohort_is_a_table_with_patient_time_and_event(tmp_path: Path) -> None:
    (tmp_path / "clinic.csv").write_text("patient,time,event,stage\na,0.5,1,III\nb,3,0,I\n", encoding="utf-8")
    write_lesions(tmp_path, ["a", "b"])
    run(tmp_path, outcome={"table": "clinic.csv"})
    assert [(r.time, r.event, r.label, r.others["stage"]) for r in rows_of(tmp_path)] == [
        (0.5, True, "0", "III"),
        (3.0, False, "1", "I"),
    ]


def test_a_lesion_table_may_hold_its_outcomes_itself(tmp_path: Path) -> None:
    header = "image_path,coordX,coordY,coordZ,patient,time,event,stage"
    lines = [header, "a,1,2,3,p,0.5,1,II", "b,4,5,6,p,0.5,1,III", "c,7,8,9,q,3,0,I"]
    (tmp_path / "lesions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    run(tmp_path, outcome={"table": "lesions.csv"})
    rows = rows_of(tmp_path)
    assert [(row.label, row.lps_mm[0]) for row in rows] == [("0", 1.0), ("0", 4.0), ("1", 7.0)]
    assert rows[0].others == {"stage": "II"}


def test_splits_are_drawn_by_patient_and_given_ones_stay(tmp_path: Path) -> None:
    patients = [f"p{n // 3}" for n in range(60)]
    write_lesions(tmp_path, patients)
    facts = run(tmp_path, val=0.25, test=0.25)["tables"]["lesions.csv"]
    assert (facts["splits"], facts["patients_in_two_splits"]) == ({"test": 15, "train": 30, "val": 15}, 0)


def test_a_table_whose_splits_share_patients_is_refused_unless_asked_for_and_then_counted(tmp_path: Path) -> None:
    text = "image_path,coordX,coordY,coordZ,patient,split\na,1,2,3,p,train\nb,1,2,3,p,test\nc,1,2,3,q,test\n"
    (tmp_path / "lesions.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="in two splits"):
        run(tmp_path)
    facts = run(tmp_path, shared_patients=True)["tables"]["lesions.csv"]
    assert (facts["patients_in_two_splits"], facts["lesions_of_patients_in_two_splits"]) == (1, 2)


def test_cohorts_are_put_together_with_images_where_they_are_and_names_of_their_own(tmp_path: Path) -> None:
    for name, patient, split in (("harvard", "h1", "train"), ("lung1", "l1", "test")):
        (tmp_path / name / "scans").mkdir(parents=True)
        text = f"image_path,coordX,coordY,coordZ,patient,split\nscans/a.nrrd,1,2,3,{patient},{split}\n"
        (tmp_path / name / "lesions.csv").write_text(text, encoding="utf-8")
    tables = ["harvard/lesions.csv", "lung1/lesions.csv"]
    run(tmp_path, tables=tables)
    rows = rows_of(tmp_path)
    assert [(row.lesion, row.others["cohort"], row.split) for row in rows] == [
        ("harvard-1", "harvard", "train"),
        ("lung1-1", "lung1", "test"),
    ]
    assert [(tmp_path / "out" / row.image).resolve() for row in rows] == [
        tmp_path / name / "scans" / "a.nrrd" for name in ("harvard", "lung1")
    ]
    (tmp_path / "lung1" / "lesions.csv").write_text(text.replace("l1", "h1"), encoding="utf-8")
    with pytest.raises(InputError, match=r"1 patient.* in two splits"):
        run(tmp_path, tables=tables)
    with pytest.raises(ConfigError, match="folder of its own"):
        run(tmp_path, tables=["lesions.csv", "lesions.csv"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("155", "-3"), "row 2]: correct|expected 0 or more"),
        ((",155,1", ",155,2"), "expected 0 or 1"),
        (("LUNG1-002", "LUNG1-001"), "there twice"),
        (("Survival.time", "months"), "Survival.time' is missing"),
    ],
)
def test_a_wrong_clinical_table_is_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    (tmp_path / "lung1.csv").write_text(LUNG1.replace(*change), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_clinical(tmp_path / "lung1.csv", ClinicalForm.LUNG1)


def test_a_wrong_date_is_refused_without_repeating_it(tmp_path: Path) -> None:
    text = "Case ID,Survival Status,Date of Last Known Alive,CT Date\nR01-001,Alive,31.12.1999,9/6/1990\n"
    (tmp_path / "radio.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="not month/day/year") as caught:
        read_clinical(tmp_path / "radio.csv", ClinicalForm.RADIOGENOMICS)
    assert "1999" not in str(caught.value)


def test_shares_and_years_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    write_lesions(tmp_path, ["a"])
    for settings in ({"val": 0.7, "test": 0.7}, {"test": -0.1}, {"outcome": {"years": 0}}):
        with pytest.raises(ConfigError):
            run(tmp_path, **settings)
    with pytest.raises(InputError, match="name the patient"):
        run(tmp_path, patient_column="name")


@needs_shared
def test_survival_of_the_radiogenomics_patients_is_the_published_one() -> None:
    with RADIOGENOMICS.open(newline="", encoding="utf-8") as file:
        published = {row["Case ID"]: row for row in csv.DictReader(file)}
    found = read_clinical(RADIOGENOMICS, ClinicalForm.RADIOGENOMICS)
    assert len(found) == 144
    for patient, outcome in found.items():
        row = published[patient]
        assert round(outcome.time * 365.25) == int(row["Survival.time"])
        assert outcome.event == (row["deadstatus.event"] == "1")


@needs_shared
def test_dates_of_death_that_come_after_the_last_date_known_alive_are_used_when_asked_for() -> None:
    published = read_clinical(RADIOGENOMICS, ClinicalForm.RADIOGENOMICS)
    death = read_clinical(RADIOGENOMICS, ClinicalForm.RADIOGENOMICS_DEATH)
    later = {name for name in published if death[name].time > published[name].time}
    assert len(later) == 15
    assert all(death[name].event for name in later)
    assert all(death[name] == published[name] for name in published.keys() - later)
    moved = {name for name in later if death[name].alive_after(2) != published[name].alive_after(2)}
    assert len(moved) == 2


@pytest.mark.slow
@needs_shared
def test_radiogenomics_gives_the_papers_133_patients_and_other_libraries_agree_on_their_survival(
    tmp_path: Path,
) -> None:
    import statsmodels.api as sm
    from sksurv.compare import compare_survival
    from sksurv.nonparametric import kaplan_meier_estimator
    from sksurv.util import Surv

    table = {"table": str(RADIOGENOMICS), "form": "radiogenomics"}
    record = run(tmp_path, tables=str(RADIOGENOMICS), patient_column="Case ID", outcome=table, test=1.0)
    assert record["tables"]["lesions.csv"]["patients"] == 133  # Pai et al. 2024; 11 were last seen alive before
    assert record["tables"]["lesions.csv"]["labels"] == {"0": 28, "1": 105}
    run(tmp_path, tables=str(RADIOGENOMICS), patient_column="Case ID", outcome={**table, "keep_censored": True})
    frame = pd.read_csv(tmp_path / "out" / "lesions.csv")
    time, event = frame["time"].to_numpy(), frame["event"].to_numpy() == 1
    assert (len(frame), int(event.sum())) == (144, 51)
    times, survival = kaplan_meier_estimator(event, time)
    curve = {step.time: step.survival for step in kaplan_meier(time, event)}
    assert np.allclose([curve[t] for t in times], survival, atol=1e-12)
    male = (frame["sex"] == "Male").to_numpy()
    statistic, p = compare_survival(Surv.from_arrays(event, time), male)
    ours = log_rank(time, event, male)
    assert (ours.statistic, ours.p) == pytest.approx((statistic, p), rel=1e-9)
    age = frame["age"].to_numpy(dtype=np.float64)
    fitted = sm.PHReg(time, age, status=event, ties="efron").fit()
    (hazard,) = cox(time, event, pd.DataFrame({"age": age}))
    assert hazard.ratio == pytest.approx(float(np.exp(fitted.params[0])), rel=1e-5)
    assert hazard.p == pytest.approx(float(fitted.pvalues[0]), rel=1e-4)
