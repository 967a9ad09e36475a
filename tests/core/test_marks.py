"""Graphics of reports against geometry and against highdicom's transformation."""

import highdicom as hd
import numpy as np
import pytest

from fmcib_module.core.domain import Instance
from fmcib_module.core.marks import Mark, Role, circle_as_ellipse, find_places, is_within, pixels_to_lps, why_unusable

OBLIQUE = (0.8, 0.48, 0.36, -0.6, 0.64, 0.48)
LINE = np.array([[0, 0, 5], [10.0, 0, 5]])


def _instance(orientation: tuple[float, ...] = OBLIQUE) -> Instance:
    return Instance(
        path=None,  # type: ignore[arg-type]  # never opened
        sop_instance_uid="1",
        sop_class_uid="2",
        frame=None,
        position_mm=(-12.5, 40.0, 7.25),
        orientation=orientation,  # type: ignore[arg-type]  # six numbers
        spacing_mm=(0.5, 1.25),
        shape=(40, 30),
    )


@pytest.mark.parametrize("orientation", [OBLIQUE, (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1)])
def test_positions_on_an_image_are_where_highdicom_has_them(orientation):
    instance = _instance(orientation)
    points = np.array([[0.5, 0.5], [0.0, 0.0], [30.0, 40.0], [7.3, 21.9]])
    transform = hd.spatial.ImageToReferenceTransformer(instance.position_mm, orientation, instance.spacing_mm)
    np.testing.assert_allclose(pixels_to_lps(points, instance), transform(points), atol=1e-9)
    np.testing.assert_allclose(pixels_to_lps(points[:1], instance), [instance.position_mm])  # centre of the first pixel


def test_the_middle_of_the_long_axis_is_the_place_whatever_else_is_longer():
    long_axis = Mark("POLYLINE", LINE, Role.LONG_AXIS)
    other = Mark("POLYLINE", np.array([[5, -20, 5], [5, 30.0, 5]]))
    (place,) = find_places([other, long_axis], 2.0)
    assert place.lps_mm == (5.0, 0.0, 5.0)
    assert place.extent_mm == (10.0, 50.0, 0.0)
    (place,) = find_places([Mark("POLYLINE", LINE), other], 2.0)
    assert place.lps_mm == (5.0, 5.0, 5.0)  # nothing is called the long axis: the longest line


def test_a_named_centre_comes_before_outlines_and_lines():
    center = Mark("POINT", np.array([[1.0, 2, 3]]), Role.CENTER)
    square = np.array([[0, 0, 0], [10, 0, 0], [10, 10, 0], [0, 10, 0], [0.0, 0, 0]])
    (place,) = find_places([Mark("POLYLINE", square), Mark("POLYLINE", LINE), center], 2.0)
    assert place.lps_mm == (1.0, 2.0, 3.0)
    (place,) = find_places([Mark("POLYLINE", LINE), Mark("POLYLINE", square)], 2.0)
    assert place.lps_mm == pytest.approx((5.0, 5.0, 0.0))


def test_closed_outlines_give_the_area_centroid_and_the_volume_of_several_slices():
    triangle = np.array([[0, 0], [9, 0], [0, 6.0], [0, 0]])  # centroid at a third of its legs, area 27
    outlines = [Mark("POLYLINE", np.column_stack([triangle, np.full(4, z)])) for z in (0.0, 2.0, 4.0)]
    (place,) = find_places(outlines, 2.0)
    assert place.lps_mm == pytest.approx((3.0, 2.0, 2.0))
    assert place.volume_mm3 == pytest.approx(3 * 2 * 27)
    assert place.extent_mm == (9.0, 6.0, 4.0)
    (place,) = find_places(outlines[:1], 2.0)
    assert place.lps_mm == pytest.approx((3.0, 2.0, 0.0))
    assert place.volume_mm3 is None  # one outline is no volume


def test_ellipses_circles_and_ellipsoids_are_at_their_centres():
    ellipse = np.array([[-3, 2, 1], [7, 2, 1], [2, 0, 1], [2, 4.0, 1]])
    (place,) = find_places([Mark("ELLIPSE", ellipse)], 1.0)
    assert place.lps_mm == pytest.approx((2.0, 2.0, 1.0))
    ends = circle_as_ellipse(np.array([[5.0, 6], [8, 10]]))
    np.testing.assert_allclose(np.linalg.norm(ends - [5, 6], axis=1), 5)
    ellipsoid = np.array([[-2, 0, 0], [4, 0, 0], [1, -2, 0], [1, 2, 0], [1, 0, -1], [1, 0, 1.0]])
    (place,) = find_places([Mark("ELLIPSOID", ellipsoid)], 1.0)
    assert place.lps_mm == (1.0, 0.0, 0.0)
    assert place.volume_mm3 == pytest.approx(4 / 3 * np.pi * 3 * 2 * 1)


def test_points_alone_are_a_place_each():
    points = np.array([[1.0, 2, 3], [4, 5, 6]])
    assert [place.lps_mm for place in find_places([Mark("MULTIPOINT", points)], 1.0)] == [(1, 2, 3), (4, 5, 6)]


def test_what_is_drawn_outside_an_image_or_with_too_few_points_is_noticed():
    assert is_within(np.array([[0.0, 0], [30, 40]]), (40, 30))
    assert not is_within(np.array([[0.0, 0], [40, 30]]), (40, 30))  # column and row the other way round
    assert "ELLIPSE with 3 points" in why_unusable("ELLIPSE", np.zeros((3, 2)))
    assert "unknown type" in why_unusable("SPIRAL", np.zeros((3, 2)))
    assert not why_unusable("POLYLINE", np.zeros((2, 2)))
