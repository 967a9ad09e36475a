import hashlib
import json
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import UID

from fmcib_module.core.conventions import Flag, Mode, SeedKind
from fmcib_module.core.domain import Lesion, Provenance, Seed, Series, SeriesReport
from fmcib_module.core.heads import HeadFacts, HeadKind, HeadScore
from fmcib_module.core.report import (
    TEXT_COLUMNS,
    Concept,
    deterministic_uid,
    feature_columns,
    feature_concept,
    flag_concept,
    lesion_scores,
    provenance_json,
    score_column,
    score_concept,
    series_rows,
    tracking_identifier,
    tracking_uid,
)

SEED = Seed((12.0, -7.25, 30.1), "GTV-1", "1.2.3", SeedKind.RTSTRUCT, 4, flags=(Flag.NEAR_BORDER, Flag.OUTSIDE_MASK))


def test_uids_are_valid_and_hold_a_custom_uuid() -> None:
    for n in range(200):
        uid = deterministic_uid("a", str(n))
        made = uuid.UUID(int=int(uid.removeprefix("2.25.")))
        assert UID(uid).is_valid
        assert made.version == 8
        assert made.variant == uuid.RFC_4122


def test_a_uid_is_the_sha_256_of_its_parts_in_a_version_8_uuid() -> None:
    """RFC 9562 5.8: 122 custom bits around the version, 8, and the variant, 0b10."""
    digits = hashlib.sha256(b'["lesion", "J\\u00f6rg"]').hexdigest()[:32]
    variant = f"{int(digits[16], 16) & 0b0011 | 0b1000:x}"
    made = f"{digits[:12]}8{digits[13:16]}{variant}{digits[17:]}"
    assert deterministic_uid("lesion", "Jörg") == f"2.25.{int(made, 16)}"


def test_uids_do_not_mix_up_where_parts_end() -> None:
    assert deterministic_uid("ab", "c") != deterministic_uid("a", "bc")
    assert deterministic_uid("ab", "c") == deterministic_uid("ab", "c")


def test_tracking_uid_survives_noise_below_a_micrometre_and_a_negative_zero() -> None:
    at_zero = replace(SEED, lps_mm=(0.0, 1.0, 2.0))
    assert tracking_uid("9.9", SEED) == tracking_uid("9.9", replace(SEED, lps_mm=(12.0000001, -7.25, 30.1)))
    assert tracking_uid("9.9", at_zero) == tracking_uid("9.9", replace(SEED, lps_mm=(-0.0001, 1.0, 2.0)))


@pytest.mark.parametrize(
    "other",
    [
        replace(SEED, lps_mm=(12.002, -7.25, 30.1)),
        replace(SEED, label="GTV-2"),
        replace(SEED, roi_number=5),
        replace(SEED, source_uid="1.2.4"),
    ],
)
def test_tracking_uid_tells_lesions_apart(other: Seed) -> None:
    assert tracking_uid("9.9", SEED) != tracking_uid("9.9", other)
    assert tracking_uid("9.9", SEED) != tracking_uid("9.8", SEED)


def test_a_lesion_is_named_by_its_label_or_by_what_it_is() -> None:
    assert tracking_identifier(replace(SEED, label=" Tümor\n=1+1 ")) == " Tümor\n=1+1 "
    assert tracking_identifier(replace(SEED, label="  ")) == "RTSTRUCT 4"
    assert tracking_identifier(Seed((0, 0, 0), "", "")) == "POINT"


def test_codes_fit_the_lengths_that_dicom_allows_and_are_unique() -> None:
    codes = [feature_concept(index) for index in range(4096)]
    assert len({code.value for code in codes}) == 4096
    assert all(len(code.value) <= 16 and len(code.meaning) <= 64 for code in codes)
    assert all(len(flag_concept(flag).meaning) <= 64 for flag in Flag)
    with pytest.raises(ValueError, match="10000"):
        feature_concept(10_000)


def test_a_row_holds_every_column_of_its_lesion() -> None:
    series = Series("9.9", "8.8", "CT")
    provenance = Provenance("mini", "f" * 64, "not the published model", Mode.CENTRED, "1.0")
    report = SeriesReport(series, (Lesion(SEED, np.zeros(3, np.float32)),), provenance)
    cells = dict(zip(TEXT_COLUMNS, series_rows(report)[0].cells(), strict=True))
    metadata = json.loads(cells.pop("MHub Metadata"))
    assert cells == {
        "Mhub ROI": "GTV-1",
        "Centroid": "12.0,-7.25,30.1",
        "Image": "9.9",
        "coordX": "12.0",
        "coordY": "-7.25",
        "coordZ": "30.1",
        "roi_number": "4",
        "source_uid": "1.2.3",
        "series_uid": "9.9",
        "study_uid": "8.8",
        "mode": "centred",
        "weights": "mini",
        "weights_sha256": "f" * 64,
        "flags": "near_border;centroid_outside_roi",
    }
    assert list(metadata) == sorted(metadata)
    assert metadata["note"] == "not the published model"


def test_an_image_file_is_named_without_its_folder(tmp_path: Path) -> None:
    series = Series("scan", "", "CT", image_path=tmp_path / "scan.nii.gz")
    lesion = Lesion(Seed((0, 0, 0), "", ""), np.zeros(2, np.float32))
    provenance = Provenance("mini", "f" * 64, "", Mode.PUBLISHED, "1.0")
    assert series_rows(SeriesReport(series, (lesion,), provenance))[0].image == "scan.nii.gz"


def test_features_are_numbered_from_0_in_tables_and_codes() -> None:
    assert feature_columns(3) == ["feature_0", "feature_1", "feature_2"]
    assert feature_concept(0) == Concept("FEAT0000", "99FMCIB", "Deep feature 0000")
    assert feature_concept(9_999).value == "FEAT9999"
    with pytest.raises(ValueError, match=r"feature index -1 is not in 0\.\.9999"):
        feature_concept(-1)


def test_the_code_of_a_flag_is_its_word() -> None:
    assert flag_concept(Flag.LARGER_THAN_PATCH) == Concept("larger_than_patch", "99FMCIB", "Larger than patch")


def test_a_lesion_without_number_or_label_is_named_by_its_kind() -> None:
    assert tracking_identifier(replace(SEED, label="", roi_number=None)) == "RTSTRUCT"
    assert tracking_identifier(replace(SEED, label="", roi_number=0)) == "RTSTRUCT 0"


HEADS = (
    HeadFacts("malignancy", "cd" * 32, HeadKind.LOGISTIC, ("benign", "malignant"), "2.0", "ef" * 32),
    HeadFacts("survival", "12" * 32, HeadKind.COX, ("risk",), "3.0", "34" * 32),
)


def test_what_heads_say_are_columns_of_their_own_in_the_order_of_the_run() -> None:
    scores = (HeadScore(HEADS[1], (-1.5,)), HeadScore(HEADS[0], (0.25, 0.75)))
    lesion = Lesion(SEED, np.zeros(3, np.float32), scores=scores)
    expected = {"head.survival.risk": -1.5, "head.malignancy.benign": 0.25, "head.malignancy.malignant": 0.75}
    assert list(lesion_scores(lesion).items()) == list(expected.items())
    assert score_column(HEADS[0], "benign") == "head.malignancy.benign"
    report = SeriesReport(Series("9.9", "8.8", "CT"), (lesion,), Provenance("w", "f" * 64, "", Mode.CENTRED, "1.0"))
    (row,) = series_rows(report)
    assert row.scores == expected
    assert row.values is lesion.values
    assert row.lps_mm == SEED.lps_mm


def test_the_code_of_a_score_is_made_of_head_and_outcome_alone() -> None:
    code = "HEAD" + hashlib.sha256(b'["malignancy", "benign"]').hexdigest()[:12]
    found = score_concept(HEADS[0], "benign")
    assert found == Concept(code, "99FMCIB", "malignancy: probability of benign")
    assert score_concept(replace(HEADS[0], version="9", sha256=""), "benign") == found
    assert score_concept(HEADS[1], "risk").meaning == "survival: log hazard ratio"
    long = score_concept(replace(HEADS[0], name="n" * 32), "c" * 40)
    assert long.meaning == f"{'n' * 32}: probability of {'c' * 40}"[:64]
    assert len(long.value) == 16  # the longest CodeValue (SH)


def test_a_point_has_an_empty_number_and_flags_that_are_not_there_an_empty_cell() -> None:
    seed = Seed((0.1, 1 / 3, -2.0), "", "seeds.csv")
    report = SeriesReport(
        Series("9.9", "8.8", "CT"),
        (Lesion(seed, np.zeros(2, np.float32)),),
        Provenance("w", "f" * 64, "", Mode.PUBLISHED, "1.0"),
    )
    cells = dict(zip(TEXT_COLUMNS, series_rows(report)[0].cells(), strict=True))
    assert (cells["roi_number"], cells["flags"], cells["Mhub ROI"]) == ("", "", "")
    assert [float(cells[name]) for name in ("coordX", "coordY", "coordZ")] == list(seed.lps_mm)
    assert cells["Centroid"] == f"0.1,{1 / 3!r},-2.0"


def test_what_made_the_features_is_told_in_their_own_letters() -> None:
    text = provenance_json(Provenance("müde", "ab", "Gewichte für Prüfungen", Mode.CENTRED, "1.0"))
    assert "für" in text
    assert json.loads(text) == {
        "mode": "centred",
        "note": "Gewichte für Prüfungen",
        "sha256": "ab",
        "version": "1.0",
        "weights": "müde",
    }
    assert list(json.loads(text)) == ["mode", "note", "sha256", "version", "weights"]
