from collections.abc import Iterable
from itertools import pairwise

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from aftermap.geo.grid import Grid
from aftermap.geo.polygons import from_pixels, trace
from aftermap.inference.objects.buildings import Evidence, assess, trace_rows
from aftermap.inference.objects.painting import Painter
from aftermap.inference.postprocess import from_bytes, to_bytes, unweighted

UTM = Grid(CRS.from_epsg(32615), Affine(0.5, 0, 300000, 0, -0.5, 4000000), 40, 40)


def bands_of(mask: np.ndarray, cuts: list[int]) -> list[tuple[int, np.ndarray]]:
    edges = [0, *sorted({c for c in cuts if 0 < c < len(mask)}), len(mask)]
    return [(a, mask[a:b]) for a, b in pairwise(edges)]


def traced(mask: np.ndarray, cuts: list[int]) -> list[bytes]:
    grid = Grid.pixels(mask.shape[1], mask.shape[0])
    polygons = trace_rows(bands_of(mask, cuts), grid, min_area_px=4, simplify_px=1)
    return comparable(polygons)


def whole(mask: np.ndarray) -> list[bytes]:
    grid = Grid.pixels(mask.shape[1], mask.shape[0])
    return comparable(trace(mask, grid, min_area_px=4, simplify_px=1))


def comparable(polygons: Iterable[shapely.Polygon]) -> list[bytes]:
    return sorted(p.normalize().wkb for p in polygons)  # to the last bit


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 47), max_size=12), st.floats(0.3, 0.75))
def test_bands_give_the_polygons_of_the_mask_in_one_piece(seed: int, cuts: list[int], share: float) -> None:
    blocks = np.random.default_rng(seed).random((12, 8)) < share
    mask = blocks.repeat(4, axis=0).repeat(4, axis=1)
    assert traced(mask, cuts) == whole(mask)


def test_slanted_outlines_do_not_depend_on_where_the_rows_are_cut() -> None:
    y, x = np.mgrid[:300, :40]
    mask = np.abs((x - 18.3) * 0.8 + (y % 30 - 14.6) * 0.6) + np.abs((y % 30 - 14.6) * 0.8) < 11.1
    assert traced(mask, [17, 101, 222, 240]) == whole(mask)


def test_a_horseshoe_whose_arms_meet_below_a_seam_is_one_building() -> None:
    mask = np.zeros((30, 30), bool)
    mask[4:24, 4:10] = mask[4:24, 20:26] = mask[18:24, 4:26] = True
    assert len(traced(mask, [10, 14])) == 1
    assert traced(mask, [10, 14]) == whole(mask)


def test_a_building_across_three_bands_comes_out_whole() -> None:
    mask = np.zeros((60, 20), bool)
    mask[5:55, 5:15] = True
    (polygon,) = trace_rows(bands_of(mask, [20, 40]), Grid.pixels(20, 60), min_area_px=4, simplify_px=1)
    assert shapely.symmetric_difference(polygon, shapely.box(5, 5, 15, 55)).area < 1e-9


def test_a_shape_without_end_is_cut_so_that_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aftermap.inference.objects.buildings.MAX_BUILDING_ROWS", 20)
    mask = np.ones((100, 4), bool)
    polygons = list(
        trace_rows(
            bands_of(mask, list(range(10, 100, 10))), Grid.pixels(4, 100), min_area_px=1, simplify_px=1
        )
    )
    assert max(p.bounds[3] - p.bounds[1] for p in polygons) == pytest.approx(20)
    assert sum(p.area for p in polygons) == pytest.approx(400)


def test_painting_in_bands_gives_each_building_its_pixels() -> None:
    painter = Painter([shapely.box(1, 1, 4, 9), shapely.box(5, 3, 8, 5)], 10)
    layers = [list(painter.paint(row, 5)) for row in (0, 5)]
    assert [len(found) for found in layers] == [1, 1]
    labels = np.concatenate([layers[0][0], layers[1][0]])
    assert (labels == 1).sum() == 24 and (labels == 2).sum() == 6
    assert (labels[1:9, 1:4] == 1).all() and (labels[3:5, 5:8] == 2).all()


def test_overlapping_buildings_do_not_hide_each_other() -> None:
    painter = Painter([shapely.box(0, 0, 6, 6), shapely.box(0, 0, 6, 6), shapely.box(3, 3, 9, 9)], 10)
    counts = {n: sum(int((layer == n).sum()) for layer in painter.paint(0, 10)) for n in (1, 2, 3)}
    assert counts == {1: 36, 2: 36, 3: 36}


def test_houses_in_a_row_share_one_layer() -> None:
    painter = Painter([shapely.box(5 * i, 0, 5 * i + 5, 5) for i in range(4)], 20)
    assert len(list(painter.paint(0, 5))) == 1


def test_a_building_smaller_than_a_pixel_gets_the_pixel_it_stands_on() -> None:
    (labels,) = Painter([shapely.box(3.6, 2.6, 3.9, 2.9)], 10).paint(0, 10)
    assert np.argwhere(labels == 1).tolist() == [[2, 3]]


def test_evidence_is_the_mean_of_each_pixels_level_given_a_building() -> None:
    # two pixels: p(level | building) is (1, 0, 0, 0) and (0, 0, 1/4, 3/4)
    probabilities = np.array([[0.5, 0.6], [0.5, 0], [0, 0], [0, 0.1], [0, 0.3]], np.float32).reshape(5, 1, 2)
    frame = judged([shapely.box(0, 0, 2, 1)], probabilities, np.zeros((1, 2), np.uint8))
    values = frame.loc[0, ["p_no_damage", "p_minor", "p_major", "p_destroyed"]].to_list()
    assert values == pytest.approx([0.5, 0, 0.125, 0.375])
    assert (frame.loc[0, "damage"], frame.loc[0, "confidence"]) == ("no-damage", pytest.approx(0.5))


def judged(
    polygons: list[shapely.Polygon],
    probabilities: np.ndarray,
    missing: np.ndarray,
    *,
    misaligned: bool = False,
    weights: tuple[float, ...] | None = None,
) -> geopandas.GeoDataFrame:
    """Assess buildings given in pixels on a grid of half a metre."""
    height, width = missing.shape
    grid = Grid(UTM.crs, UTM.transform, width, height)
    evidence, painter = Evidence(len(polygons), weights), Painter(polygons, width)
    for labels in painter.paint(0, height):
        evidence.add(labels, probabilities, missing)
    names = [f"b{i}" for i in range(len(polygons))]
    frame = geopandas.GeoDataFrame(
        {"building_id": names}, geometry=[from_pixels(p, grid) for p in polygons], crs=grid.crs.to_wkt()
    )
    return assess(frame, polygons, evidence, grid, misaligned=misaligned)


def destroyed(height: int, width: int) -> np.ndarray:
    probabilities = np.zeros((5, height, width), np.float32)
    probabilities[4], probabilities[0] = 0.8, 0.2
    return probabilities


def test_a_building_half_seen_is_judged_by_what_was_seen_with_less_confidence() -> None:
    missing = np.zeros((10, 10), np.uint8)
    missing[:, 6:] = 2
    frame = judged([shapely.box(0, 0, 10, 10)], destroyed(10, 10), missing)
    assert (frame.loc[0, "damage"], frame.loc[0, "reason"]) == ("destroyed", "")
    assert frame.loc[0, "seen"] == pytest.approx(0.6)
    assert frame.loc[0, "confidence"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("code", "reason"), [(1, "no data before"), (2, "no data after"), (3, "cloud"), (4, "outside")]
)
def test_a_building_hardly_seen_is_not_assessed_for_the_most_frequent_reason(code: int, reason: str) -> None:
    missing = np.zeros((10, 10), np.uint8)
    missing[:, 4:] = code
    missing[0, 9] = 1
    frame = judged([shapely.box(0, 0, 10, 10)], destroyed(10, 10), missing)
    assert (frame.loc[0, "damage"], frame.loc[0, "reason"]) == ("not-assessed", reason)
    assert np.isnan(frame.loc[0, ["p_destroyed", "confidence"]].astype(float)).all()
    assert frame.loc[0, "seen"] == pytest.approx(0.4)


def test_a_building_beyond_the_images_is_outside() -> None:
    missing = np.zeros((10, 10), np.uint8)
    frame = judged([shapely.box(8, 0, 18, 10), shapely.box(30, 30, 40, 40)], destroyed(10, 10), missing)
    assert frame["reason"].to_list() == ["outside", "outside"]
    assert frame["seen"].to_list() == [pytest.approx(0.2), 0]


def test_no_building_is_assessed_between_dates_that_are_misaligned() -> None:
    missing = np.zeros((10, 10), np.uint8)
    frame = judged([shapely.box(0, 0, 9, 9)], destroyed(10, 10), missing, misaligned=True)
    assert (frame.loc[0, "damage"], frame.loc[0, "reason"]) == ("not-assessed", "misaligned")


def test_area_and_centroid_are_those_of_the_ground() -> None:
    frame = judged([shapely.box(0, 0, 20, 10)], destroyed(40, 40), np.zeros((40, 40), np.uint8))
    # 10 m x 5 m, less the UTM scale of this easting squared
    assert frame.loc[0, "area_m2"] == pytest.approx(50, rel=1e-3)
    lon, lat = UTM.lonlat(np.array([10.0]), np.array([5.0]))
    assert (frame.loc[0, "lon"], frame.loc[0, "lat"]) == (pytest.approx(lon[0]), pytest.approx(lat[0]))


def test_evidence_added_in_bands_is_that_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(5), (40, 40)).transpose(2, 0, 1).astype(np.float32)
    missing = (rng.random((40, 40)) < 0.2).astype(np.uint8)
    polygons = [shapely.box(2, 3, 17, 30), shapely.box(10, 20, 39, 38)]
    painter, whole_scene, summed = Painter(polygons, 40), Evidence(2), Evidence(2)
    for labels in painter.paint(0, 40):
        whole_scene.add(labels, probabilities, missing)
    for start, stop in ((0, 7), (7, 25), (25, 40)):
        part = Evidence(2)
        for labels in painter.paint(start, stop - start):
            part.add(labels, probabilities[:, start:stop], missing[start:stop])
        summed.merge(*part.sparse())
    np.testing.assert_array_equal(summed.pixels, whole_scene.pixels)
    np.testing.assert_allclose(summed.levels, whole_scene.levels)


def test_no_buildings_give_an_empty_table_with_all_columns() -> None:
    frame = judged([], destroyed(10, 10), np.zeros((10, 10), np.uint8))
    assert len(frame) == 0 and {"building_id", "damage", "seen", "mode", "reason"} <= set(frame.columns)


def test_stored_bytes_are_the_same_evidence_as_the_probabilities_they_stand_for():
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 255, (5, 12, 20)).astype(np.uint8)
    missing = rng.integers(0, 2, (12, 20)).astype(np.uint8)
    stored[:, missing != 0] = 255
    labels = rng.integers(0, 4, (12, 20)).astype(np.int32)
    of_bytes, of_floats = Evidence(3), Evidence(3)

    of_bytes.add(labels, stored, missing)
    of_floats.add(labels, from_bytes(stored), missing)

    np.testing.assert_array_equal(of_bytes.levels, of_floats.levels)
    np.testing.assert_array_equal(of_bytes.pixels, of_floats.pixels)


WEIGHTS = (1.0, 4.0, 0.5, 2.0)


def weighted(own: np.ndarray) -> np.ndarray:
    """What decisions are made by: levels times their weights, with the mass that all levels hold."""
    levels = own[1:] * np.array(WEIGHTS, own.dtype).reshape(4, 1, 1)
    return np.concatenate([own[:1], levels * own[1:].sum(axis=0) / levels.sum(axis=0)])


def test_the_class_is_decided_with_the_weights_and_the_probabilities_are_the_models() -> None:
    own = np.zeros((5, 10, 10), np.float64)
    own[:] = np.array([0.2, 0.48, 0.2, 0.08, 0.04])[
        :, None, None
    ]  # weighted: 0.48, 0.8, 0.04, 0.08 of levels
    own[:, :, 5:] = np.array([0.6, 0.24, 0.1, 0.04, 0.02])[:, None, None]
    seen = np.zeros((10, 10), np.uint8)
    frame = judged([shapely.box(0, 0, 10, 10)], weighted(own), seen, weights=WEIGHTS)
    row = frame.loc[0]
    assert row["damage"] == "minor-damage"
    values = [row[name] for name in ("p_no_damage", "p_minor", "p_major", "p_destroyed")]
    assert values == pytest.approx([0.6, 0.25, 0.1, 0.05])
    assert row["confidence"] == pytest.approx(0.25) and row["p_building"] == pytest.approx((0.8 + 0.4) / 2)


@pytest.mark.parametrize("seed", range(5))
def test_buildings_are_judged_alike_from_the_models_own_bytes_and_from_decisions(seed: int) -> None:
    own = np.random.default_rng(seed).dirichlet(np.full(5, 2.0), (20, 30)).transpose(2, 0, 1)
    missing = np.zeros((20, 30), np.uint8)
    outlines = [shapely.box(x, y, x + 9, y + 9) for x in (0, 10, 20) for y in (0, 10)]
    exact = judged(outlines, weighted(own), missing, weights=WEIGHTS)
    stored = judged(outlines, to_bytes(own, missing), missing, weights=WEIGHTS)
    assert exact["damage"].tolist() == stored["damage"].tolist()
    columns = ["p_no_damage", "p_minor", "p_major", "p_destroyed", "p_building", "confidence"]
    np.testing.assert_allclose(exact[columns], stored[columns], atol=2e-3)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.booleans())
def test_dividing_the_weights_out_gives_the_models_probabilities_back(seed: int, in_bytes: bool) -> None:
    own = np.random.default_rng(seed).dirichlet(np.full(5, 0.5), (6, 7)).transpose(2, 0, 1)
    decided = weighted(own)
    if in_bytes:
        decided = from_bytes(to_bytes(decided, np.zeros((6, 7), np.uint8)))
    found = unweighted(decided, WEIGHTS)
    np.testing.assert_array_equal(found[0], decided[0])
    np.testing.assert_allclose(found[1:].sum(axis=0), decided[1:].sum(axis=0), atol=1e-6)
    # half a step of 1 / 254 in one class, taken up by the factors from 0.5 to 4
    np.testing.assert_allclose(found, own, atol=0.03 if in_bytes else 1e-9)


def test_p_building_tells_an_empty_place_from_a_building() -> None:
    probabilities = destroyed(10, 20)
    probabilities[4, :, 10:], probabilities[0, :, 10:] = 0.02, 0.98
    outlines = [shapely.box(0, 0, 8, 10), shapely.box(12, 0, 20, 10)]
    frame = judged(outlines, probabilities, np.zeros((10, 20), np.uint8))
    assert frame["p_building"].tolist() == pytest.approx([0.8, 0.02], abs=1e-6)
    assert frame["p_destroyed"].tolist() == pytest.approx([1, 1])


def test_evidence_of_some_buildings_is_left_when_others_are_dropped() -> None:
    probabilities = np.zeros((5, 4, 8), np.float32)
    probabilities[1, :, :4], probabilities[4, :, 4:] = 0.9, 0.3
    probabilities[0] = 1 - probabilities[1:].sum(axis=0)
    labels = np.repeat([[1, 1, 1, 1, 2, 2, 2, 3]], 4, axis=0)
    evidence = Evidence(4)
    evidence.add(labels, probabilities, np.zeros((4, 8), np.uint8))
    np.testing.assert_allclose(evidence.mean_presence(), [0.9, 0.3, 0.3, 0], atol=1e-6)
    evidence.keep(evidence.mean_presence() >= 0.5)
    assert evidence.pixels[:, 0].tolist() == [16]
    np.testing.assert_allclose(evidence.levels[0, :4] / 16, [1, 0, 0, 0], atol=1e-6)
