import json
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import UID

from fmcib_module.core.conventions import Flag, Mode, SeedKind
from fmcib_module.core.domain import Lesion, Provenance, Seed, Series, SeriesReport
from fmcib_module.core.report import (
    TEXT_COLUMNS,
    deterministic_uid,
    feature_concept,
    flag_concept,
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
