"""Any geometries to polygons: areas worked out by hand, and a reference that counts cells."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box

from aftermap.geo.vectors.repair import polygon_of, repair

FIVE = [(2, 2), (8, 2), (8, 8), (2, 8)]


def only(shape):
    found = repair(np.array([shape], dtype=object))
    return found.shapes[0]


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        # two squares of 100 that share 25: the union, not the 150 of counting crossings
        (MultiPolygon([box(0, 0, 10, 10), box(5, 5, 15, 15)]), 175),
        # three, of which the last lies in the first
        (MultiPolygon([box(0, 0, 10, 10), box(5, 5, 15, 15), box(1, 1, 3, 3)]), 175),
        # the same part twice
        (MultiPolygon([box(0, 0, 10, 10), box(0, 0, 10, 10)]), 100),
        # a part of 16 over the rim of a hole of 36: 9 of its cells lie in the hole
        (MultiPolygon([Polygon(box(0, 0, 10, 10).exterior, [FIVE]), box(1, 1, 5, 5)]), 100 - 36 + 9),
        # a hole that reaches over the edge takes away only what is there
        (Polygon(box(0, 0, 10, 10).exterior, [[(5, 5), (15, 5), (15, 15), (5, 15)]]), 75),
        # two holes of 25 that share 4
        (Polygon(box(0, 0, 10, 10).exterior, [box(1, 1, 6, 6).exterior, box(4, 4, 9, 9).exterior]), 100 - 46),
        # a bow tie keeps both triangles
        (Polygon([(0, 0), (10, 10), (10, 0), (0, 10)]), 50),
        # a ring that runs around its middle twice has no hole there
        (Polygon([(0, 0), (10, 0), (10, 10), (0, 10), (0, 0), (2, 2), (8, 2), (8, 8), (2, 8), (2, 2)]), 100),
        # a collection of overlapping parts, a line and a point
        (
            GeometryCollection([box(0, 0, 2, 2), box(1, 1, 3, 3), LineString([(0, 0), (9, 9)]), Point(1, 1)]),
            7,
        ),
        (GeometryCollection([GeometryCollection([box(0, 0, 2, 2)])]), 4),
    ],
)
def test_the_area_is_that_of_the_union_of_parts_shells_without_holes(shape, area):
    found = only(shape)
    assert found.area == pytest.approx(area)
    assert found.is_valid and found.geom_type in ("Polygon", "MultiPolygon")


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (None, "without geometry"),
        (Polygon(), "empty"),
        (Point(1, 1), "no polygon"),
        (LineString([(0, 0), (1, 1)]), "no polygon"),
        (GeometryCollection([Point(1, 1)]), "no polygon"),
        (Polygon([(0, 0), (1, 1), (2, 2)]), "without area"),
        (Polygon([(0, 0), (np.inf, 0), (1, 1)]), "with coordinates that are no numbers"),
        (Polygon([(0, 0), (np.nan, 0), (1, 1)]), "with coordinates that are no numbers"),
        (
            MultiPolygon([box(0, 0, 1, 1), Polygon([(0, 0), (-np.inf, 0), (1, 1)])]),
            "with coordinates that are no numbers",
        ),
        (box(0, 0, 1e300, 1e300), "with coordinates that lie on no map"),
    ],
)
def test_what_cannot_be_used_is_counted_by_its_reason(shape, reason):
    found = repair(np.array([shape, box(0, 0, 1, 1)], dtype=object))
    assert found.shapes[0] is None and found.shapes[1].equals(box(0, 0, 1, 1))
    assert dict(found.left_out) == {reason: 1}
    assert found.notes() == f"1 of 2 left out (1 {reason})"


def test_heights_are_dropped_and_valid_shapes_stay_as_they_are():
    flat = only(Polygon([(0, 0, 5), (4, 0, 6), (4, 4, 7)]))
    assert not flat.has_z and flat.equals_exact(Polygon([(0, 0), (4, 0), (4, 4)]), 0)
    ring = Polygon(box(0, 0, 10, 10).exterior, [FIVE])
    assert only(ring).equals_exact(ring, 0)


def test_open_rings_are_closed_and_those_of_two_corners_are_nothing():
    square = np.array([(0, 0), (4, 0), (4, 4), (0, 4)], float)
    assert polygon_of([[square]]).area == 16
    assert polygon_of([[square, np.array([(1, 1), (2, 1), (2, 2), (1, 2)], float)]]).area == 15
    assert polygon_of([[square[:2]]]) is None
    assert polygon_of([]) is None


cells = st.integers(0, 11)
boxes = st.tuples(cells, cells, st.integers(1, 6), st.integers(1, 6))


@settings(max_examples=150)
@given(parts=st.lists(st.tuples(boxes, st.lists(boxes, max_size=2)), min_size=1, max_size=5))
def test_random_parts_cover_the_cells_that_counting_says(parts):
    """Parts of whole cells, each with holes anywhere, against cells painted one by one."""
    painted = np.zeros((20, 20), bool)
    polygons = []
    for (x, y, w, h), holes in parts:
        part = np.zeros_like(painted)
        part[y : y + h, x : x + w] = True
        for a, b, c, d in holes:
            part[b : b + d, a : a + c] = False
        painted |= part
        rings = [box(a, b, a + c, b + d).exterior for a, b, c, d in holes]
        polygons.append(Polygon(box(x, y, x + w, y + h).exterior, rings))
    found = only(MultiPolygon(polygons))
    if not painted.any():
        assert found is None
        return
    assert found.is_valid and found.area == pytest.approx(painted.sum())
    rows, cols = np.mgrid[:20, :20] + 0.5
    assert (shapely.contains_xy(found, cols, rows) == painted).all()


@settings(max_examples=100)
@given(
    rings=st.lists(
        st.lists(
            st.tuples(*[st.floats(allow_nan=True, allow_infinity=True, width=32)] * 2),
            min_size=0,
            max_size=12,
        ),
        max_size=4,
    )
)
def test_no_coordinates_break_it(rings):
    shape = polygon_of([[np.array(ring, float).reshape(-1, 2)] for ring in rings])
    found = repair(np.array([shape], dtype=object))
    assert found.shapes[0] is None or (found.shapes[0].is_valid and found.shapes[0].area > 0)
    assert (found.shapes[0] is None) == (found.left_out.total() == 1)
