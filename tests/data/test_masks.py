import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from aftermap.classes import IGNORE
from aftermap.data.masks import draw_building_mask, draw_damage_mask, subtype_index


def as_published(polygon, height, width):
    """The published procedure: whole canvas, round half to even, fill, erase holes."""
    canvas = np.zeros((height, width), np.uint8)
    cv2.fillPoly(canvas, [np.round(np.array(polygon.exterior.coords)).astype(np.int32)], 1)
    holes = [np.round(np.array(ring.coords)).astype(np.int32) for ring in polygon.interiors]
    if holes:
        cv2.fillPoly(canvas, holes, 0)
    return canvas


def drawn(wkt, side=12):
    return draw_building_mask([shapely.from_wkt(wkt)], height=side, width=side)


@pytest.mark.parametrize(
    ("wkt", "ones"),
    [
        ("POLYGON ((2 3, 6 3, 6 8, 2 8, 2 3))", 30),
        ("POLYGON ((0.5 1.5, 5.5 1.5, 5.5 6.5, 0.5 6.5, 0.5 1.5))", 35),
        ("POLYGON ((1 1, 9 2, 4 10, 1 1))", 48),
        ("POLYGON ((1 1, 10 1, 10 10, 1 10, 1 1), (4 4, 7 4, 7 7, 4 7, 4 4))", 84),
        ("POLYGON ((-3 -3, 4 -3, 4 2, -3 2, -3 -3))", 15),
        ("POLYGON ((5.1 5.1, 5.3 5.1, 5.3 5.3, 5.1 5.3, 5.1 5.1))", 1),
        ("POLYGON ((2 2, 6 2, 6 2.3, 2 2.3, 2 2))", 5),
        ("POLYGON ((1 1, 10 1, 10 10, 6 10, 6 5, 4 5, 4 10, 1 10, 1 1))", 95),
        ("POLYGON ((5.2 0.7, 10.6 5.1, 6.4 10.3, 0.9 5.8, 5.2 0.7))", 57),
    ],
)
def test_polygons_cover_as_many_pixels_as_in_the_published_systems(wkt, ones):
    assert drawn(wkt).sum() == ones


def test_boundary_pixels_belong_to_the_polygon():
    mask = drawn("POLYGON ((2 3, 6 3, 6 8, 2 8, 2 3))")
    assert mask[3:9, 2:7].all()
    assert mask.sum() == 6 * 5


def test_coordinates_are_rounded_half_to_even():
    mask = drawn("POLYGON ((0.5 1.5, 5.5 1.5, 5.5 6.5, 0.5 6.5, 0.5 1.5))")
    assert mask[2:7, 0:7].all()
    assert mask.sum() == 5 * 7


def test_a_polygon_smaller_than_a_pixel_paints_one():
    assert drawn("POLYGON ((5.1 5.1, 5.3 5.1, 5.3 5.3, 5.1 5.3, 5.1 5.1))")[5, 5] == 1


def test_scientific_notation_is_read():
    assert drawn("POLYGON ((2e0 3.0E+00, 6 3, 60e-1 8, 2 8, 2 3))").sum() == 30


def test_an_empty_polygon_paints_nothing():
    assert drawn("POLYGON EMPTY").sum() == 0


def test_every_part_of_a_multipolygon_is_painted():
    assert drawn("MULTIPOLYGON (((0 0, 1 0, 1 1, 0 1, 0 0)), ((5 5, 6 5, 6 6, 5 6, 5 5)))").sum() == 8


class TestFullPair:
    """The full pair of the parity values, on 1024 x 1024 pixels."""

    pre = tuple(
        shapely.from_wkt(f"POLYGON {rings}")
        for rings in (
            "((100.4 100.6,149.5 100.6,149.5 160.5,100.4 160.5,100.4 100.6))",
            "((140 150,200 150,200 220,140 220,140 150))",
            "((1000 1000,1030 1000,1030 1030,1000 1030,1000 1000))",
        )
    )
    post = (
        shapely.from_wkt("POLYGON ((102 101,151 101,151 161,102 161,102 101))"),
        pre[1],
        pre[2],
        shapely.from_wkt("POLYGON ((300 300,350 310,320 380,300 300),(315 315,325 318,320 330,315 315))"),
        shapely.from_wkt("POLYGON ((400.5 400.5,402.5 400.5,402.5 403.5,400.5 403.5,400.5 400.5))"),
    )
    subtypes = ("destroyed", "minor-damage", "un-classified", "major-damage", "no-damage")

    def counts(self, unclassified):
        values = [subtype_index(subtype, unclassified=unclassified) for subtype in self.subtypes]
        mask = draw_damage_mask(self.post, values, height=1024, width=1024)
        return np.bincount(mask.ravel(), minlength=256)

    def test_the_building_mask_has_the_published_counts(self):
        mask = draw_building_mask(self.pre, height=1024, width=1024)
        assert np.bincount(mask.ravel()).tolist() == [1_040_730, 7_846]

    def test_the_damage_mask_has_the_published_counts(self):
        assert self.counts("no-damage")[:5].tolist() == [1_038_824, 591, 4_331, 1_924, 2_906]

    def test_unclassified_buildings_can_be_ignored(self):
        # 591 pixels of class 1 are 24 x 24 of the un-classified building and 3 x 5 of the no-damage one.
        counts = self.counts("ignore")
        assert (counts[0], counts[1], counts[IGNORE]) == (1_038_824, 15, 576)

    def test_unclassified_buildings_can_be_dropped(self):
        counts = self.counts("drop")
        assert (counts[0], counts[1], counts[IGNORE]) == (1_038_824 + 576, 15, 0)


def test_later_polygons_overwrite_earlier_ones():
    low, high = shapely.box(0, 0, 3, 3), shapely.box(2, 2, 5, 5)
    mask = draw_damage_mask([low, high], [4, 2], height=8, width=8)
    assert (mask == 4).sum() == 16 - 4
    assert (mask == 2).sum() == 16


def test_an_unknown_subtype_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"'minor'.*no-damage, minor-damage"):
        subtype_index("minor")


@given(
    st.lists(st.tuples(st.floats(-20, 60), st.floats(-20, 60)), min_size=3, max_size=7),
    st.lists(st.tuples(st.floats(5, 30), st.floats(5, 30)), min_size=3, max_size=4),
)
def test_drawing_on_a_small_canvas_equals_drawing_on_the_whole(outer, inner):
    polygon = shapely.Polygon(outer, [inner])
    assert (draw_building_mask([polygon], height=40, width=36) == as_published(polygon, 40, 36)).all()


@given(st.tuples(*[st.floats(-2e9, 2e9)] * 4), st.tuples(*[st.integers(-5, 20)] * 4))
def test_boxes_that_end_far_away_are_painted_where_they_meet_the_image(far, near):
    left, top, right, bottom = (f if n < 0 else n for f, n in zip(far, near, strict=True))
    box = shapely.box(left, top, right, bottom)
    expected = np.zeros((16, 18), np.uint8)
    sides = [np.clip(np.round(sorted(pair)), -1, 19).astype(int) for pair in ((left, right), (top, bottom))]
    (first, last), (upper, lower) = sides
    expected[max(upper, 0) : lower + 1, max(first, 0) : last + 1] = 1
    assert np.array_equal(draw_building_mask([box], height=16, width=18), expected)


@pytest.mark.parametrize("reach", [4e4, 1e6, 2e9])
def test_half_planes_are_painted_however_far_their_corners_are(reach):
    # Below the diagonal of the image; the rest of the triangle lies beyond it.
    triangle = shapely.Polygon([(-reach, -reach), (reach, reach), (-reach, reach)])
    mask = draw_building_mask([triangle], height=16, width=16)
    assert np.array_equal(mask, np.tri(16, dtype=np.uint8))


def test_a_far_polygon_that_surrounds_a_hole_leaves_it_out():
    outline = shapely.Polygon(
        [(-1e9, -1e9), (1e9, -1e9), (1e9, 1e9), (-1e9, 1e9)], [[(4, 4), (9, 4), (9, 9), (4, 9)]]
    )
    mask = draw_building_mask([outline], height=16, width=16)
    assert mask.sum() == 16 * 16 - 6 * 6
    assert not mask[4:10, 4:10].any()


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_nothing_infinite_is_painted(value):
    with pytest.raises(ValueError, match="not finite"):
        draw_building_mask([shapely.Polygon([(value, 1), (5, 1), (5, 5)])], height=16, width=16)
