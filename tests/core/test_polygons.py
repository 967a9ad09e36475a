"""Areas by the even-odd rule, against geometry and against a plain supersampled raster."""

import numpy as np
import pytest
from matplotlib.path import Path as MplPath

from fmcib_module.core.polygons import area_and_moment, contains, fill


def rectangle(u0, v0, u1, v1):
    return np.array([[u0, v0], [u1, v0], [u1, v1], [u0, v1]], dtype=float)


L_SHAPE = np.array([[0, 0], [4, 0], [4, 1], [1, 1], [1, 3], [0, 3]], dtype=float)
KEYHOLE = np.array([[0, 0], [10, 0], [10, 10], [0, 10], [0, 2], [2, 2], [2, 4], [4, 4], [4, 2], [0, 2]], dtype=float)
FIGURE_OF_EIGHT = np.array([[0, 0], [2, 2], [2, 0], [0, 2]], dtype=float)

# rings, area, centroid: all by hand
CASES = {
    "square": ([rectangle(1, 2, 3, 4)], 4, (2, 3)),
    "square the other way round": ([rectangle(1, 2, 3, 4)[::-1]], 4, (2, 3)),
    "L of 4x1 and 1x2": ([L_SHAPE], 6, ((4 * 2 + 2 * 0.5) / 6, (4 * 0.5 + 2 * 2) / 6)),
    "hole by orientation": ([rectangle(0, 0, 10, 10), rectangle(2, 2, 4, 4)[::-1]], 96, (488 / 96, 488 / 96)),
    "hole of the same orientation": ([rectangle(0, 0, 10, 10), rectangle(2, 2, 4, 4)], 96, (488 / 96, 488 / 96)),
    "hole by keyhole": ([KEYHOLE], 96, (488 / 96, 488 / 96)),
    "island in a hole": (
        [rectangle(0, 0, 10, 10), rectangle(2, 2, 8, 8), rectangle(3, 3, 5, 5)],
        100 - 36 + 4,
        ((500 - 180 + 16) / 68, (500 - 180 + 16) / 68),
    ),
    "two islands": ([rectangle(0, 0, 1, 1), rectangle(4, 0, 7, 1)[::-1]], 4, ((0.5 + 3 * 5.5) / 4, 0.5)),
    "two squares that cross": ([rectangle(0, 0, 2, 2), rectangle(1, 1, 3, 3)], 6, (1.5, 1.5)),
    "figure of eight": ([FIGURE_OF_EIGHT], 2, (1, 1)),
}


@pytest.mark.parametrize(("rings", "area", "centroid"), CASES.values(), ids=CASES.keys())
def test_area_and_centroid_are_those_of_geometry(rings, area, centroid):
    found, moment = area_and_moment(rings)
    assert found == pytest.approx(area, abs=1e-9)
    assert moment / found == pytest.approx(centroid, abs=1e-9)


def test_a_ring_drawn_twice_cancels_out_under_xor():
    square = rectangle(0, 0, 2, 2)
    area, _ = area_and_moment([square, square])
    assert area == pytest.approx(0, abs=1e-12)


def test_no_rings_enclose_nothing():
    area, moment = area_and_moment([])
    assert area == 0
    assert moment.tolist() == [0, 0]


def test_a_random_star_with_crossings_has_the_area_of_its_supersampled_raster():
    rng = np.random.default_rng(7)
    rings = [rng.uniform(0, 10, (12, 2)), rng.uniform(3, 12, (9, 2))]
    step = 0.01
    v, u = np.mgrid[step / 2 : 12 : step, step / 2 : 12 : step]
    inside = contains(rings, np.stack([u.ravel(), v.ravel()], axis=1))
    area, moment = area_and_moment(rings)
    assert area == pytest.approx(inside.sum() * step**2, rel=2e-3)
    assert moment / area == pytest.approx([u.ravel()[inside].mean(), v.ravel()[inside].mean()], abs=5e-3)


def test_inside_agrees_with_matplotlib():
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    ring = np.stack([np.cos(angle) * (5 + np.sin(3 * angle)), np.sin(angle) * 4], axis=1)
    points = np.random.default_rng(3).uniform(-7, 7, (2000, 2))
    assert (contains([ring], points) == MplPath(ring).contains_points(points)).all()


def test_a_square_through_pixel_centres_fills_the_pixels_it_passes_through():
    filled = fill([rectangle(1, 2, 3, 4)], (6, 5))
    rows, columns = np.nonzero(filled)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 4, 1, 3)
    assert filled.sum() == 9


def test_filling_agrees_with_the_inside_test_away_from_the_ring():
    rings = [
        rectangle(1.3, 1.4, 17.2, 15.6),
        rectangle(4.6, 5.3, 9.4, 8.7),
        FIGURE_OF_EIGHT * (3.1, 2.7) + (10.37, 10.23),
    ]
    j, i = np.mgrid[:20, :18]
    expected = contains(rings, np.stack([i.ravel(), j.ravel()], axis=1).astype(float)).reshape(j.shape)
    assert (fill(rings, (20, 18)) == expected).all()


def test_a_ring_that_leaves_the_image_is_cut_at_its_edge():
    assert fill([rectangle(-5, -5, 2.5, 1.5)], (4, 4)).sum() == 3 * 2
    assert fill([rectangle(-9, -9, -5, -5)], (4, 4)).sum() == 0
    assert fill([rectangle(6, 0, 9, 3)], (4, 4)).sum() == 0
