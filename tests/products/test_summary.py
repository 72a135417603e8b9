import json

import pytest
from affine import Affine
from building_frames import GRID, PIXELS, empty, town
from rasterio.crs import CRS

from aftermap.files import to_plain
from aftermap.geo.grid import Grid
from aftermap.products.summary import bounds_lonlat, summarise


def test_counts_and_shares_are_among_assessed_buildings() -> None:
    summary = summarise(town(), GRID)
    assert (summary["buildings"], summary["assessed"]) == (6, 5)
    counts = {name: (c["buildings"], c["share"]) for name, c in summary["classes"].items()}
    assert counts == {
        "no-damage": (2, 0.4),
        "minor-damage": (1, 0.2),
        "major-damage": (1, 0.2),
        "destroyed": (1, 0.2),
    }
    assert (summary["damaged"]["buildings"], summary["damaged"]["share"]) == (3, 0.6)


def test_areas_are_sums_of_the_buildings() -> None:
    summary = summarise(town(), GRID)
    # half-metre pixels: 600 and 2000 - 320 px undamaged, 400 + 200 px destroyed, 600 px not assessed
    assert summary["classes"]["no-damage"]["area_m2"] == (600 + 1680) / 4
    assert summary["classes"]["destroyed"]["area_m2"] == 600 / 4
    assert summary["not_assessed"]["area_m2"] == 600 / 4
    assert summary["classes"]["destroyed"]["area_share"] == pytest.approx(
        600 / (600 + 1680 + 900 + 900 + 600), abs=1e-4
    )


def test_buildings_not_assessed_are_counted_by_reason() -> None:
    frame = town()
    frame.loc[3, ["damage", "reason"]] = ["not-assessed", "outside"]
    assert summarise(frame, GRID)["not_assessed"]["reasons"] == {"no data": 1, "outside": 1}


def test_mean_confidence_leaves_out_what_was_not_assessed() -> None:
    assert summarise(town(), GRID)["mean_confidence"] == pytest.approx((0.9 + 0.6 + 0.9 + 0.7 + 0.8) / 5)


def test_an_empty_frame_gives_counts_of_zero_and_no_shares() -> None:
    summary = summarise(empty(), GRID)
    assert summary["buildings"] == 0
    assert summary["classes"]["destroyed"] == {
        "buildings": 0,
        "share": None,
        "area_m2": 0.0,
        "area_share": None,
        "mean_confidence": None,
    }
    json.dumps(to_plain(summary), allow_nan=False)


def test_plain_images_have_no_areas_and_no_bounds() -> None:
    summary = summarise(town(PIXELS), PIXELS)
    assert (summary["area_m2"], summary["bounds_lonlat"], summary["coordinates"]) == (None, None, "pixels")


def test_no_interval_covers_an_error_that_is_not_there() -> None:
    told = json.dumps(to_plain(summarise(town(), GRID)))
    assert "interval" not in told and "sampling" not in told


def test_bounds_are_in_degrees_and_may_cross_the_antimeridian() -> None:
    degrees = CRS.from_epsg(4326)
    assert bounds_lonlat(Grid(degrees, Affine(0.1, 0, -95, 0, -0.1, 38), 10, 20)) == [-95, 36, -94, 38]
    fiji = Grid(CRS.from_epsg(3832), Affine(100, 0, 3_300_000, 0, -100, -1_800_000), 1000, 1000)
    west, south, east, north = bounds_lonlat(fiji) or [0, 0, 0, 0]
    assert west > 179 and east < -179 and south < north < 0
