"""Buildings are painted as GDAL paints them."""

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize

from aftermap.inference.objects.painting import Painter

WIDTH, HEIGHT = 24, 17

halves = st.integers(-8, 60).map(lambda n: n / 2)
places = st.one_of(halves, st.floats(-4, 30))


def by_gdal(shapes: list[shapely.Geometry], row: int, height: int) -> np.ndarray:
    pairs = [(shape, number) for number, shape in enumerate(shapes, 1)]
    painted: np.ndarray = rasterize(
        pairs, out_shape=(height, WIDTH), transform=Affine.translation(0, row), dtype="int32"
    )
    return painted


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(places, places), min_size=3, max_size=7), st.booleans(), st.integers(0, 5))
def test_any_polygon_covers_the_pixels_that_gdal_gives_it(
    points: list[tuple[float, float]], with_hole: bool, row: int
) -> None:
    shape = shapely.make_valid(shapely.Polygon(points))
    if with_hole:
        shape = shape.difference(shapely.box(6, 5.5, 12.5, 9))
    parts = [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon"]
    shape = shapely.MultiPolygon(parts)
    if shape.area < 4:
        return
    painted = list(Painter([shape], WIDTH).paint(row, HEIGHT))
    labels = painted[0] if painted else np.zeros((HEIGHT, WIDTH), np.int32)
    np.testing.assert_array_equal(labels, by_gdal([shape], row, HEIGHT))


@pytest.mark.parametrize("seed", range(5))
def test_many_buildings_in_one_layer_are_as_gdal_paints_them(seed: int) -> None:
    draw = np.random.default_rng(seed)
    shapes = [
        shapely.affinity.rotate(shapely.box(x, y, x + 4, y + 3), angle)
        for (x, y), angle in zip(
            draw.permutation([(x, y) for x in (1, 8, 15) for y in (1, 7, 13)]),
            draw.uniform(0, 90, 9),
            strict=True,
        )
    ]
    (labels,) = Painter(shapes, WIDTH).paint(2, 12)
    np.testing.assert_array_equal(labels, by_gdal(shapes, 2, 12))


def test_a_box_between_middles_of_pixels_covers_what_it_covers_in_gdal() -> None:
    shape = shapely.box(2.5, 3.5, 7.5, 6.5)
    (labels,) = Painter([shape], WIDTH).paint(0, HEIGHT)
    np.testing.assert_array_equal(labels, by_gdal([shape], 0, HEIGHT))
