import cv2
import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.features import rasterize, shapes
from shapely import Polygon, affinity

from aftermap.geo import outlines
from aftermap.geo.grid import Grid
from aftermap.geo.outlines import main_directions, regularise
from aftermap.geo.polygons import trace


def traced(mask):
    """Outlines along pixel edges."""
    found = [shapely.geometry.shape(g) for g, _ in shapes(mask.astype(np.uint8), mask=mask, connectivity=4)]
    return np.array(found, dtype=object)


def blobs(seed=0, size=160):
    noise = np.random.default_rng(seed).normal(size=(size, size))
    return cv2.GaussianBlur(noise, (0, 0), 3) > 0.05


def polygons_of(*shapes_):
    return np.array(shapes_, dtype=object)


@pytest.mark.parametrize("degrees", [0, 17, 45, 80])
def test_the_main_direction_is_that_of_the_long_walls(degrees):
    house = affinity.rotate(shapely.box(0, 0, 30, 12), degrees, origin=(0, 0))

    (found,) = main_directions(polygons_of(house))

    assert np.rad2deg(found) % 90 == pytest.approx(degrees % 90, abs=1e-6)


def test_the_area_inside_a_box_is_that_of_the_intersection():
    rng = np.random.default_rng(1)
    found = traced(blobs())
    turned = outlines._rotate(found, rng.uniform(0, 2, len(found)))
    turned = shapely.polygons(shapely.get_exterior_ring(turned))
    left, bottom, right, top = shapely.bounds(turned).T
    inset = rng.uniform(0, 0.4, (4, len(found))) * np.stack([right - left, top - bottom] * 2)
    box = left + inset[0], bottom + inset[1], right - inset[2], top - inset[3]

    area = outlines._area_inside(turned, *box)

    np.testing.assert_allclose(area, shapely.area(shapely.intersection(turned, shapely.box(*box))), atol=1e-7)


def test_what_a_shape_of_right_angles_shares_with_any_other_is_their_intersection():
    rng = np.random.default_rng(2)
    walled, others = [], []
    for _ in range(120):
        boxes = np.array([0, 0, 1, 1]) + rng.uniform(0, 6, (rng.integers(1, 4), 4))
        shape = shapely.union_all([shapely.box(x, y, x + w, y + h) for x, y, w, h in boxes])
        shape = shape.difference(shapely.box(3, 3, 4, 5)) if rng.random() < 0.4 else shape
        walled.append(max(shapely.get_parts(shape), key=shapely.area))
        round_ = shapely.Point(4, 4).buffer(rng.uniform(1, 6), quad_segs=int(rng.integers(1, 6)))
        others.append(round_.difference(shapely.Point(4.2, 3.9).buffer(rng.uniform(0.1, 0.8))))
    walled, others = polygons_of(*walled), polygons_of(*others)

    area = outlines._common_area(walled, others)

    np.testing.assert_allclose(area, shapely.area(shapely.intersection(walled, others)), atol=1e-12)


def one_by_one(points, tolerance):
    """The corners of one ring, wall by wall."""
    steps, middle = np.roll(points, -1, axis=0) - points, (points + np.roll(points, -1, axis=0)) / 2
    level = np.abs(steps[:, 0]) >= np.abs(steps[:, 1])
    edges = list(
        zip(level.tolist(), np.where(level, middle[:, 1], middle[:, 0]), np.hypot(*steps.T), strict=True)
    )
    start = int(np.argmax(level != np.roll(level, 1)))
    walls = []
    for edge in edges[start:] + edges[:start]:
        outlines._join(walls, edge)
    walls = outlines._drop_steps(walls, tolerance)
    walls = walls if len(walls) >= 4 else []
    return [
        (walls[k - 1][1], wall[1]) if wall[0] else (wall[1], walls[k - 1][1]) for k, wall in enumerate(walls)
    ]


def test_the_corners_of_all_rings_are_those_of_each():
    found = shapely.simplify(traced(blobs(3)), 1.0)
    rings = shapely.get_rings(outlines._rotate(found, np.random.default_rng(3).uniform(0, 2, len(found))))

    corners, count = outlines._corners(rings, 1.5)

    expected = [one_by_one(shapely.get_coordinates(ring)[:-1], 1.5) for ring in rings]
    assert count.tolist() == [len(some) for some in expected] and 0 in count and max(count) > 8
    assert corners.tolist() == [list(map(float, point)) for some in expected for point in some]


def test_the_box_of_a_triangle_overlaps_by_half():
    # area 50 in a box of 10 x 10, which shrinks by at most one pixel on every side; what the triangle has in common
    # with the box of 8 x 8 is a triangle with legs of 8
    triangle = Polygon([(0, 0), (10, 0), (0, 10)])

    boxes, overlap = outlines._upright_boxes(polygons_of(triangle), np.zeros(1))

    assert boxes[0].equals(shapely.box(1, 1, 9, 9))
    assert overlap[0] == pytest.approx(32 / (64 + 50 - 32))


@pytest.mark.parametrize("tolerance", [1, 1.7])
def test_outlines_are_simplified_as_if_every_step_were_looked_at(tolerance):
    polygons = np.concatenate([traced(blobs(seed)) for seed in range(12)])
    polygons = polygons[shapely.area(polygons) >= 20]
    assert (shapely.get_num_interior_rings(polygons) > 0).any()
    found, expected = outlines._simplified(polygons, tolerance), shapely.simplify(polygons, tolerance)
    assert shapely.is_valid(found).all()
    assert shapely.equals_exact(found, expected).mean() >= 0.99
    assert shapely.hausdorff_distance(found, expected).max() <= 2 * tolerance


def test_outlines_are_fitted_each_for_itself():
    found = traced(blobs(2))

    together = regularise(found, tolerance=1.0)

    alone = np.concatenate([regularise(found[i : i + 1], tolerance=1.0) for i in range(len(found))])
    assert len(found) > 20
    assert all(a.equals_exact(b, 1e-9) for a, b in zip(together, alone, strict=True))


def test_no_fit_is_believed_that_overlaps_too_little():
    found = traced(blobs(3, 300))
    found = found[shapely.area(found) >= 20]

    fitted = regularise(found, tolerance=1.0)

    plain = shapely.simplify(found, 1.0)
    overlap = shapely.area(shapely.intersection(fitted, found)) / shapely.area(shapely.union(fitted, found))
    changed = ~shapely.equals_exact(fitted, plain, 1e-9)
    assert shapely.is_valid(fitted).all()
    assert 5 < changed.sum() < len(found)
    assert overlap[changed].min() >= outlines.RIGHT_ANGLES_IOU - 1e-9


def test_a_courtyard_is_squared_like_the_walls_around_it():
    ring = shapely.difference(shapely.box(0, 0, 40, 30), shapely.box(10, 10, 30, 20))
    turned = affinity.rotate(ring, 30, origin=(0, 0))
    mask = rasterize([turned], (60, 80), transform=Affine.translation(-25, -5)) > 0

    (fitted,) = regularise(traced(mask), tolerance=1.5)

    assert len(fitted.interiors) == 1
    assert len(fitted.exterior.coords) == len(fitted.interiors[0].coords) == 5
    assert Polygon(fitted.interiors[0]).area == pytest.approx(200, rel=0.1)


def test_no_outlines_give_none():
    assert len(regularise(np.zeros(0, dtype=object), tolerance=1.0)) == 0


def test_an_outline_does_not_depend_on_where_in_the_mask_it_lies():
    house = np.zeros((60, 60), bool)
    house[4:20, 6:31] = True
    house[20:27, 6:15] = True
    moved = np.roll(house, (30, 27), axis=(0, 1))
    grid = Grid.pixels(60, 60)

    (first,), (second,) = trace(house, grid), trace(moved, grid)

    assert affinity.translate(first, 27, 30).equals_exact(second, 0)
