import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_buildings import unpacked
from shapely.geometry import MultiPolygon, box

from aftermap.products.page.compact import pack

TEXTS = st.one_of(st.none(), st.text(max_size=8))
NUMBERS = st.one_of(st.none(), st.floats(-1e6, 1e6))


def packed(columns: dict[str, list[object]], shapes: list[shapely.Geometry] | None = None):
    count = len(next(iter(columns.values())))
    outlines = shapes or [box(k, 0, k + 1, 1) for k in range(count)]
    frame = gpd.GeoDataFrame(columns, geometry=outlines)
    return unpacked(pack(frame, shapely.orient_polygons(np.array(outlines, object)), np.zeros(count, int)))


@settings(max_examples=80)
@given(st.lists(st.tuples(TEXTS, NUMBERS, st.integers(-(2**40), 2**40)), min_size=1, max_size=30))
def test_columns_come_back_as_they_were(rows: list[tuple[str | None, float | None, int]]) -> None:
    texts, numbers, whole = map(list, zip(*rows, strict=True))
    columns = {
        "text": texts,
        "number": pd.array(numbers, "float64"),
        "whole": whole,
        "same": ["x"] * len(rows),
    }
    found, _, _ = packed(columns)
    assert found["text"] == texts and found["same"] == ["x"] * len(rows) and found["whole"] == whole
    for told, wanted in zip(found["number"], numbers, strict=True):
        assert (told is None) == (wanted is None)
        assert wanted is None or told == pytest.approx(wanted, abs=6e-5)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(*[st.floats(-500, 70_000)] * 2, *[st.floats(0.5, 900)] * 2), min_size=1, max_size=12)
)
def test_outlines_come_back_to_a_twentieth_of_a_pixel(
    places: list[tuple[float, float, float, float]],
) -> None:
    shapes = [box(x, y, x + w, y + h) for x, y, w, h in places]
    _, outlines, _ = packed({"n": list(range(len(shapes)))}, shapes)
    for (ring,), shape in zip(outlines, shapes, strict=True):
        wanted = shapely.get_coordinates(shapely.orient_polygons(shape))[:-1]
        np.testing.assert_allclose(ring, wanted, atol=0.0500001)


def test_courts_follow_their_shell_and_turn_the_other_way() -> None:
    court = box(0, 0, 30, 30).difference(box(10, 10, 20, 20))
    both = MultiPolygon([court, box(50, 0, 60, 10)])
    _, (rings, _), _ = packed({"n": [0, 1]}, [both, box(1, 1, 2, 2)])

    def turn(ring: np.ndarray) -> float:
        x, y = ring.T
        return float(np.sign(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))))

    assert [turn(ring) for ring in rings] == [turn(rings[0]), -turn(rings[0]), turn(rings[0])]


def test_numbers_that_count_from_one_take_no_room() -> None:
    long = [str(k) for k in range(1, 20_001)]
    frame = gpd.GeoDataFrame({"building_id": long}, geometry=[box(0, 0, 8, 8)] * 20_000)
    text = pack(frame, frame.geometry.to_numpy(), np.zeros(20_000, int))
    assert unpacked(text)[0]["building_id"] == long and len(text) < 2_000


def test_no_buildings_are_packed_too() -> None:
    frame = gpd.GeoDataFrame({"building_id": [], "confidence": []}, geometry=[])
    columns, outlines, kinds = unpacked(pack(frame, np.array([], object), np.array([], int)))
    assert (columns, outlines, kinds) == ({"building_id": [], "confidence": []}, [], [])
