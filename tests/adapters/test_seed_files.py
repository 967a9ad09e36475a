"""Seed tables and 3D Slicer markups, as MHub, spreadsheets and Slicer write them."""

import json
from pathlib import Path

import pytest

from fmcib_module.adapters.seed_files import MAX_BYTES, names_series, sniff
from fmcib_module.adapters.seed_finder import find_rois, find_seeds
from fmcib_module.core.conventions import SeedKind
from fmcib_module.core.domain import RoiSource
from fmcib_module.core.errors import InputError, SeedNotFoundError
from tests.adapters.seed_sources import SERIES_UID, bare_series


def rois_of(tmp_path, name, content, **series):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return find_rois(bare_series(RoiSource(path, SeedKind.POINT, name), **series))


def points_of(tmp_path, name, content, **series):
    seeds, failures = rois_of(tmp_path, name, content, **series)
    assert failures == ()
    assert all(seed.source_uid == name and seed.kind is SeedKind.POINT for seed in seeds)
    return [(seed.label, *seed.lps_mm) for seed in seeds]


def reasons_of(failures):
    return [(failure.label, failure.error.what, failure.error.where) for failure in failures]


def test_one_json_object_is_one_point(tmp_path):
    assert points_of(tmp_path, "c.json", {"coordX": 1, "coordY": -2.5, "coordZ": 3}) == [("point 1", 1, -2.5, 3)]


def test_a_json_list_names_its_rois(tmp_path):
    items = [
        {"Mhub ROI": "GTV", "coordX": 1, "coordY": 2, "coordZ": 3},
        {"coordX": 4, "coordY": 5, "coordZ": 6},
        {"Mhub ROI": 7, "coordX": 7, "coordY": 8, "coordZ": 9},
    ]
    assert points_of(tmp_path, "c.json", items) == [("GTV", 1, 2, 3), ("point 2", 4, 5, 6), ("7", 7, 8, 9)]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"coordX": 1, "coordY": 2}, "'coordZ' is a required property"),
        ({"coordX": 1, "coordY": 2, "coordZ": "3"}, "'3' is not of type 'number'"),
        ({"coordX": 1, "coordY": True, "coordZ": 3}, "True is not of type 'number'"),
        ({"coordX": 1, "coordY": float("nan"), "coordZ": 3}, "nan is not finite"),
    ],
)
def test_a_json_item_that_is_no_point_is_named_and_the_others_go_on(tmp_path, item, reason):
    good = {"Mhub ROI": "GTV", "coordX": 1, "coordY": 2, "coordZ": 3}
    seeds, failures = rois_of(tmp_path, "c.json", [item, good])
    assert [seed.label for seed in seeds] == ["GTV"]
    assert reasons_of(failures) == [("point 1", reason, "c.json, item 1")]


@pytest.mark.parametrize("content", ['{"a": 1}', "[]", "[[1, 2, 3]]", "{not json", "null"])
def test_other_json_is_no_seed_table(tmp_path, content):
    seeds, failures = rois_of(tmp_path, "c.json", content)
    assert seeds == ()
    assert [type(failure.error) for failure in failures] == [InputError]
    assert sniff(tmp_path / "c.json") is None


CSV_FORMS = {
    "commas": "coordX,coordY,coordZ,Mhub ROI\n1.5,2,3,GTV\n4,5,6,\n",
    "lower case and a byte order mark": "\ufeffcoordx,coordy,coordz,mhub roi\n1.5,2,3,GTV\n4,5,6,\n",
    "tabs and Windows lines": "label\tcoordX\tcoordY\tcoordZ\r\nGTV\t1.5\t2\t3\r\n\t4\t5\t6\r\n\r\n",
    "semicolons and decimal commas": "roi;coordX;coordY;coordZ\nGTV;1,5;2,0;3\n;4;5;6\n",
    "quoted": '"coordX","coordY","coordZ","Mhub ROI"\n"1.5","2","3","GTV"\n4,5,6,""\n',
    "UTF-16": "coordX\tcoordY\tcoordZ\tlabel\n1.5\t2\t3\tGTV\n4\t5\t6\t\n".encode("utf-16"),
}


@pytest.mark.parametrize("content", CSV_FORMS.values(), ids=CSV_FORMS.keys())
def test_csv_tables_of_many_makers_give_the_same_points(tmp_path, content):
    assert points_of(tmp_path, "seeds.csv", content) == [("GTV", 1.5, 2, 3), ("point 2", 4, 5, 6)]


def test_a_csv_row_that_is_no_point_is_named_and_the_others_go_on(tmp_path):
    content = "coordX,coordY,coordZ,label\n1,2,3,A\n1,,3,B\n1,2,inf,C\n1,2\n7,8,9,D\n"
    seeds, failures = rois_of(tmp_path, "seeds.csv", content)
    assert [seed.label for seed in seeds] == ["A", "D"]
    assert reasons_of(failures) == [
        ("B", "'' is not a number", "seeds.csv, row 3"),
        ("C", "inf is not finite", "seeds.csv, row 4"),
        ("point 4", "'' is not a number", "seeds.csv, row 5"),
    ]


@pytest.mark.parametrize("column", ["series_uid", "SeriesInstanceUID", "image_path"])
def test_only_the_rows_of_this_series_are_seeds_for_it(tmp_path, column):
    content = f"{column},coordX,coordY,coordZ\n{SERIES_UID},1,2,3\n1.2.3.99,4,5,6\n,7,8,9\n"
    assert points_of(tmp_path, "seeds.csv", content) == [("point 1", 1, 2, 3), ("point 3", 7, 8, 9)]
    assert sniff(tmp_path / "seeds.csv") == (SERIES_UID, "1.2.3.99")


@pytest.mark.parametrize(
    "name", ["scan_1", "scan_1.nii.gz", "/input/ct/scan_1.nii.gz", "D:\\data\\scan_1.nii.gz", "scan_1.nrrd"]
)
def test_an_image_is_named_by_its_path_its_file_or_its_stem(name):
    series = bare_series(uid="scan_1", image_path=Path("scan_1.nii.gz"))
    assert names_series(name, series)
    assert not names_series(name.replace("scan_1", "scan_10"), series)


def test_a_dicom_series_is_named_by_a_folder_called_like_its_uid():
    assert names_series(f"/input/{SERIES_UID}/image.nrrd", bare_series())
    assert not names_series(f"/input/{SERIES_UID}1/image.nrrd", bare_series())


def test_points_without_a_name_are_never_filtered(tmp_path):
    path = tmp_path / "seeds.csv"
    path.write_text("coordX,coordY,coordZ,label\n1,2,3,A\n4,5,6,\n7,8,9,B\n")
    seeds, failures = find_rois(bare_series(RoiSource(path, SeedKind.POINT, "seeds.csv")), rois=("B",))
    assert [seed.label for seed in seeds] == ["point 2", "B"]
    assert failures == ()


def markup(kind="Fiducial", system="LPS", points=(), **fields):
    controls = [{"id": str(n), "label": label, "position": list(xyz)} for n, (label, xyz) in enumerate(points)]
    return {"type": kind, "coordinateSystem": system, "controlPoints": controls, **fields}


def markups(*items):
    return {"@schema": "https://example.org/markups-schema-v1.0.3.json#", "markups": list(items)}


@pytest.mark.parametrize(("system", "sign"), [("LPS", 1), ("1", 1), ("RAS", -1), ("0", -1)])
def test_slicer_points_are_converted_to_lps(tmp_path, system, sign):
    content = markups(markup(system=system, points=[("F-1", (1, 2, 3)), ("F-2", (4, 5, 6))]))
    expected = [("F-1", sign * 1, sign * 2, 3), ("F-2", sign * 4, sign * 5, 6)]
    assert points_of(tmp_path, "F.mrk.json", content) == expected


def test_several_markups_in_one_file_are_all_read(tmp_path):
    content = markups(markup(points=[("A", (1, 2, 3))]), markup(system="RAS", points=[("B", (4, 5, 6))]))
    assert points_of(tmp_path, "markups.json", content) == [("A", 1, 2, 3), ("B", -4, -5, 6)]


def test_a_line_is_the_midpoint_of_its_ends(tmp_path):
    content = markups(markup("Line", points=[("L-1", (0, 0, 0)), ("L-2", (10, 20, 30))]))
    assert points_of(tmp_path, "RECIST.mrk.json", content) == [("RECIST", 5, 10, 15)]


def test_a_box_is_its_centre_and_micrometres_are_converted(tmp_path):
    box = {"type": "ROI", "coordinateSystem": "RAS", "center": [1000, 2000, 3000], "coordinateUnits": "um"}
    assert points_of(tmp_path, "R.mrk.json", markups(box)) == [("R", -1, -2, 3)]


def test_slicer_points_that_are_not_defined_are_failures(tmp_path):
    content = markups(markup(points=[("A", (1, 2, 3)), ("B", (0, 0, 0)), ("C", (0, 0, 0))]))
    points = content["markups"][0]["controlPoints"]
    points[1]["positionStatus"], points[2]["positionStatus"] = "undefined", "preview"
    seeds, failures = rois_of(tmp_path, "F.mrk.json", content)
    assert [seed.label for seed in seeds] == ["A"]
    assert reasons_of(failures) == [
        ("B", "positionStatus is 'undefined'", "F.mrk.json, markups[0].controlPoints[1]"),
        ("C", "positionStatus is 'preview'", "F.mrk.json, markups[0].controlPoints[2]"),
    ]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (markup("Curve", points=[("C", (1, 2, 3))]), "type Curve"),
        (markup("Plane", points=[("P", (1, 2, 3))]), "type Plane"),
        (markup("Line", points=[("L", (1, 2, 3))]), "2 control points, found 1"),
        (markup(system="IJK", points=[("F", (1, 2, 3))]), "'IJK'"),
        (markup(points=[("F", (1, 2))]), "not three numbers"),
        (markup(points=[("F", (1, 2, None))]), "not of type 'number'"),
        (markup(points=[("F", (1, 2, 3))], coordinateUnits="inch"), "'inch'"),
        (markup(), "empty"),
        ("junk", "not of type 'object'"),
        ({"type": "Fiducial", "controlPoints": ["junk"]}, "'junk' is not of type 'object'"),
        ({"type": "Fiducial", "controlPoints": [{"id": "1"}]}, "'position' is a required property"),
        (markup("Line", points=[("A", (1, 2, 3)), ("B", (1, 2))]), "not three numbers"),
        ({"type": "ROI"}, "not three numbers"),
    ],
)
def test_markups_that_give_no_point_say_why(tmp_path, item, reason):
    seeds, failures = rois_of(tmp_path, "F.mrk.json", markups(item))
    assert seeds == ()
    assert len(failures) == 1
    assert reason in failures[0].error.what


FCSV_BODY = "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\nn_0,1,2,3,0,0,0,1,1,1,0,F-1,,\n"


@pytest.mark.parametrize(
    ("header", "sign"),
    [
        ("# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n", 1),
        ("# Markups fiducial file version = 4.11\n# CoordinateSystem = RAS\n", -1),
        ("# Markups fiducial file version = 4.10\n# CoordinateSystem = 1\n", 1),
        ("# Markups fiducial file version = 4.6\n# CoordinateSystem = 0\n", -1),
        ("# Markups fiducial file version = 4.5\n", -1),
    ],
)
def test_fcsv_points_are_converted_to_lps(tmp_path, header, sign):
    assert points_of(tmp_path, "F.fcsv", header + FCSV_BODY) == [("F-1", sign * 1, sign * 2, 3)]


def test_fcsv_columns_may_be_in_another_order_and_bad_rows_are_named(tmp_path):
    content = "# CoordinateSystem = LPS\n# columns = label,x,y,z,sel,vis\nA,1,2,3,1,1\nB,1,?,3,1,1\n"
    seeds, failures = rois_of(tmp_path, "F.fcsv", content)
    assert [(seed.label, seed.lps_mm) for seed in seeds] == [("A", (1, 2, 3))]
    assert reasons_of(failures) == [("B", "'?' is not a number", "F.fcsv, row 4")]


def test_sniffing_tells_seed_tables_from_other_files(tmp_path):
    (tmp_path / "seeds.csv").write_text("coordX,coordY,coordZ\n1,2,3\n")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "features.csv").write_text("feature_0,coordX,coordY,coordZ\n0.1,1,2,3\n")
    (tmp_path / "junk.json").write_bytes(b"\x00\xff\xfe{[" * 50)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "junk.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "nul.csv").write_bytes(b"coordX,coordY,coordZ\n\x00,1,2\n")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "readme.txt").write_text("coordX,coordY,coordZ\n1,2,3\n")
    (tmp_path / "huge.csv").write_bytes(b"coordX,coordY,coordZ\n" + b" " * MAX_BYTES)
    found = {path.name: sniff(path) for path in tmp_path.iterdir()}
    assert found.pop("seeds.csv") == ()
    found.pop("nul.csv")  # a table with a bad row or none, as this Python's csv module has it; it must not raise
    assert set(found.values()) == {None}
    assert sniff(tmp_path / "absent.csv") is None


def test_no_seed_at_all_is_an_error_that_says_why(tmp_path):
    path = tmp_path / "seeds.csv"
    path.write_text("coordX,coordY,coordZ\n1,2,x\n")
    with pytest.raises(SeedNotFoundError, match=r"'x' is not a number \[SeriesInstanceUID 1\.2\.3\.1\]"):
        find_seeds(bare_series(RoiSource(path, SeedKind.POINT, "seeds.csv")))
