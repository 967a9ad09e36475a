"""Which ROIs of a series are taken, in which order, and what is said about the others."""

import pickle

import numpy as np
import pytest

from fmcib_module.adapters.seed_finder import find_rois, find_seeds, roi_mask
from fmcib_module.core.conventions import SeedKind
from fmcib_module.core.domain import RoiSource, Seed
from fmcib_module.core.errors import InputError, SeedNotFoundError
from fmcib_module.core.volume import Grid
from tests.adapters.seed_sources import bare_series, contour, write_rtstruct

SQUARE = np.array([[0, 0, 0], [4, 0, 0], [4, 4, 0], [0, 4, 0]], dtype=float)


@pytest.fixture
def sources(tmp_path):
    """Two RTSTRUCTs and a table; names repeat, differ by case, and look like numbers."""
    draw = [contour(SQUARE)]
    first = [(7, "GTV", draw), (2, "gtv", draw), (3, "Lung L", draw), (4, "Heart", [])]
    second = [(1, "GTV", draw), (2, "3", draw)]
    write_rtstruct(tmp_path / "a.dcm", second, sop_uid="1.2.3.20")
    write_rtstruct(tmp_path / "b.dcm", first, sop_uid="1.2.3.10")
    (tmp_path / "seeds.csv").write_text("coordX,coordY,coordZ,label\n1,2,3,Node\n4,5,6,\n")
    return (
        RoiSource(tmp_path / "seeds.csv", SeedKind.POINT, "seeds.csv"),
        RoiSource(tmp_path / "a.dcm", SeedKind.RTSTRUCT, "1.2.3.20"),
        RoiSource(tmp_path / "b.dcm", SeedKind.RTSTRUCT, "1.2.3.10"),
    )


def chosen(sources, *rois, **options):
    seeds, failures = find_rois(bare_series(*sources), rois=rois, **options)
    return [(s.source_uid, s.roi_number, s.label) for s in seeds], failures


UNNAMED = ("seeds.csv", None, "point 2")


def test_all_rois_come_by_source_and_number_and_each_is_a_seed_or_a_failure(sources):
    seeds, failures = chosen(sources)
    assert seeds == [
        ("1.2.3.10", 2, "gtv"),
        ("1.2.3.10", 3, "Lung L"),
        ("1.2.3.10", 7, "GTV"),
        ("1.2.3.20", 1, "GTV"),
        ("1.2.3.20", 2, "3"),
        ("seeds.csv", None, "Node"),
        UNNAMED,
    ]
    assert [(f.source_uid, f.roi_number, f.label) for f in failures] == [("1.2.3.10", 4, "Heart")]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("GTV", [("1.2.3.10", 7, "GTV"), ("1.2.3.20", 1, "GTV")]),  # exact
        ("Gtv", [("1.2.3.10", 2, "gtv"), ("1.2.3.10", 7, "GTV"), ("1.2.3.20", 1, "GTV")]),  # in any case
        ("3", [("1.2.3.20", 2, "3")]),  # a name before a number
        ("2", [("1.2.3.10", 2, "gtv"), ("1.2.3.20", 2, "3")]),
        ("re:lung|NODE", [("1.2.3.10", 3, "Lung L"), ("seeds.csv", None, "Node")]),
        ("re:^g.v$", [("1.2.3.10", 2, "gtv"), ("1.2.3.10", 7, "GTV"), ("1.2.3.20", 1, "GTV")]),
    ],
)
def test_an_roi_is_chosen_by_name_number_or_regular_expression(sources, item, expected):
    seeds, failures = chosen(sources, item)
    assert seeds == [*expected, UNNAMED]
    assert failures == ()


def test_a_choice_that_matches_nothing_lists_what_is_there(sources):
    seeds, failures = chosen(sources, "GTV", "Kidney", "re:^x")
    assert len(seeds) == 3
    assert [(f.label, f.roi_number) for f in failures] == [("Kidney", None), ("re:^x", None)]
    assert "'Kidney'" in failures[0].error.what
    assert "'GTV' (1), 'GTV' (7), 'Heart' (4), 'Lung L' (3), 'Node'" in failures[0].error.fix


def test_an_roi_that_was_not_asked_for_cannot_fail(sources):
    assert chosen(sources, "GTV")[1] == ()


def test_only_the_kinds_asked_for_are_used(sources):
    seeds, failures = chosen(sources, kinds=(SeedKind.POINT,))
    assert seeds == [("seeds.csv", None, "Node"), UNNAMED]
    assert failures == ()


def test_one_damaged_source_never_stops_the_others(sources):
    sources[2].path.write_bytes(b"damaged")
    seeds, failures = chosen(sources)
    assert len(seeds) == 4
    assert [(f.label, f.roi_number, f.source_uid, f.kind) for f in failures] == [
        ("1.2.3.10", None, "1.2.3.10", SeedKind.RTSTRUCT)
    ]
    assert isinstance(failures[0].error, InputError)
    assert "1.2.3.10" in failures[0].error.where


def test_a_missing_file_is_a_failure(sources):
    sources[1].path.unlink()
    seeds, failures = chosen(sources)
    assert len(seeds) == 5
    assert {(f.source_uid, f.label) for f in failures} == {("1.2.3.20", "1.2.3.20"), ("1.2.3.10", "Heart")}


def test_a_series_without_sources_is_an_error_that_names_the_kinds():
    with pytest.raises(SeedNotFoundError, match=r"no seeds \(RTSTRUCT, SEG\) \[SeriesInstanceUID 1\.2\.3\.1\]"):
        find_seeds(bare_series(), kinds=(SeedKind.RTSTRUCT, SeedKind.SEG))


def test_messages_survive_pickling_between_workers(sources):
    _, failures = chosen(sources)
    assert str(pickle.loads(pickle.dumps(failures[0])).error) == str(failures[0].error)


def test_the_mask_of_a_seed_given_by_hand_is_a_sphere():
    grid = Grid.from_matrix((20, 20, 20), np.eye(4))
    first, mask = roi_mask(bare_series(), Seed((10, 10, 10), "by hand", ""), grid)
    assert (first, mask.shape, mask.sum()) == (8, (5, 20, 20), 33)
    with pytest.raises(SeedNotFoundError, match="'far away'"):
        roi_mask(bare_series(), Seed((100, 10, 10), "far away", ""), grid)
