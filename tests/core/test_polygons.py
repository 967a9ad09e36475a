"""Areas by the even-odd rule, against geometry and against a plain supersampled raster."""

import numpy as np
import pytest
from matplotlib.path import Path as MplPath

from fmcib_module.core.polygons import ON_RING, area_and_moment, contains, fill


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


def test_a_corner_at_the_height_of_a_point_is_crossed_once():
    diamond = np.array([[0, -3], [3, 0], [0, 3], [-3, 0]], dtype=float)
    points = np.array([[0, 0], [2.9, 0], [-2.9, 0], [3.1, 0], [-3.1, 0], [0, 2.9], [0, 3.1], [0, -3.1]])
    assert contains([diamond], points).tolist() == [True, True, True, False, False, True, False, False]
    assert contains([], points).tolist() == [False] * 8


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


def pixels(shape, rows, columns):
    mask = np.zeros(shape, dtype=bool)
    mask[rows, columns] = True
    return mask


ALL = slice(None)


@pytest.mark.parametrize("shape", [(6, 11), (11, 6)], ids=["wide", "tall"])
@pytest.mark.parametrize(
    ("ring", "rows", "columns"),
    [
        ((1.5, 0.5, 4.5, 3.5), slice(1, 4), slice(2, 5)),
        ((-8.5, 0.5, 4.5, 3.5), slice(1, 4), slice(0, 5)),  # over the left side
        ((1.5, 0.5, 40.5, 3.5), slice(1, 4), slice(2, None)),  # right
        ((1.5, -8.5, 4.5, 3.5), slice(0, 4), slice(2, 5)),  # top
        ((1.5, 0.5, 4.5, 40.5), slice(1, None), slice(2, 5)),  # bottom
        ((-8.5, -8.5, 40.5, 40.5), ALL, ALL),
        ((-8.5, 0.5, -2.5, 3.5), slice(0), slice(0)),  # beyond one side only
        ((20.5, 0.5, 28.5, 3.5), slice(0), slice(0)),
        ((1.5, -8.5, 4.5, -2.5), slice(0), slice(0)),
        ((1.5, 20.5, 4.5, 28.5), slice(0), slice(0)),
        ((0.2, 1.2, 4.8, 1.7), slice(0), slice(0)),  # between two rows of pixel centres
        ((1.2, 0.2, 1.7, 4.8), slice(0), slice(0)),  # between two columns
    ],
)
def test_a_rectangle_fills_the_centres_it_holds_and_is_cut_at_the_images_edges(ring, rows, columns, shape):
    assert (fill([rectangle(*ring)], shape) == pixels(shape, rows, columns)).all()


def test_a_corner_on_a_row_of_pixel_centres_counts_once():
    ring = np.array([[1, 0], [0, 2], [1, 4], [4, 4], [4, 0]], dtype=float)
    expected = pixels((6, 7), slice(0, 5), slice(1, 5))
    expected[2, 0] = True
    assert (fill([ring], (6, 7)) == expected).all()


def test_a_diamond_through_pixel_centres_holds_its_tips_wherever_it_lies():
    j, i = np.indices((40, 50))
    for column, row, radius in [
        (column, row, radius) for column in range(9, 40) for row in (9, 28) for radius in (1, 7)
    ]:
        tips = np.array([[0, -1], [1, 0], [0, 1], [-1, 0]], dtype=float) * radius + (column, row)
        assert (fill([tips], (40, 50)) == (np.abs(i - column) + np.abs(j - row) <= radius)).all()


def test_a_sharp_tip_on_a_pixel_centre_is_filled_and_beyond_the_image_is_nothing():
    expected = pixels((4, 6), [0, 1, 1, 1, 1, 1, 2], [0, 0, 1, 2, 3, 4, 0])
    assert (fill([np.array([[0, 0], [4, 1], [0, 2]], dtype=float)], (4, 6)) == expected).all()
    assert fill([np.array([[-9, -1], [-1, -2], [-9, -3]], dtype=float)], (4, 6)).sum() == 0
    assert fill([np.array([[9, 4], [6, 4], [9, 5]], dtype=float)], (4, 6)).sum() == 0
    assert fill([np.array([[3, 4], [5, 5], [1, 5]], dtype=float)], (4, 6)).sum() == 0
    assert fill([], (4, 6)).sum() == 0
    one_corner = fill([np.array([[0.5, 0.2], [4, 1], [0.5, 1.8]])], (4, 6))
    assert (one_corner == pixels((4, 6), [1] * 4, [1, 2, 3, 4])).all()


def distance_to(ring, points):
    """Of each point to the nearest edge of a ring."""
    start, end = ring[:, None], np.roll(ring, -1, axis=0)[:, None]
    along = np.clip(((points - start) * (end - start)).sum(-1) / ((end - start) ** 2).sum(-1), 0, 1)
    return np.linalg.norm(start + along[..., None] * (end - start) - points, axis=-1).min(axis=0)


@pytest.mark.parametrize(
    "ring",
    [
        np.array([[0, 0], [100, 1], [100, 5], [0, 5]], dtype=float),  # a nearly level edge grazes pixel centres
        np.array([[0, 0], [0, 5], [100, 5], [100, 4]], dtype=float),
        np.array([[0, 6], [55, 1], [110, 6]], dtype=float),
        np.array([[3, 0.98], [40, 0.98], [40, 6.02], [2.98, 6.02]], dtype=float),
        np.array([[3.02, 1.02], [40, 1.02], [40, 5.98], [3.02, 5.98]], dtype=float),
    ],
)
def test_centres_on_a_ring_are_filled_and_those_off_it_only_where_they_are_inside(ring):
    v, u = np.mgrid[:8, :112].astype(float)
    points = np.stack([u.ravel(), v.ravel()], axis=1)
    filled, off = fill([ring], v.shape).ravel(), distance_to(ring, points)
    inside = MplPath(ring).contains_points(points)
    assert filled[off < ON_RING * 0.9].all()
    far = off > ON_RING * 1.5  # in between, whether a centre counts depends on the edge's direction
    assert (filled[far] == inside[far]).all()
