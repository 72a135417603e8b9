import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
from building_frames import GRID
from building_pages import houses, page, view
from packed_buildings import unpacked
from PIL import Image

from aftermap.geo.grid import Window
from aftermap.products.cog import RasterWriter, building_colormap, probability_colormap
from aftermap.products.overview import draw_overview
from aftermap.products.pictures import heat
from aftermap.products.summary import grade, summarise_buildings
from aftermap.products.vectors import BUILDING_COLUMNS, BUILDING_LAYER, write_buildings


def test_the_summary_counts_buildings_by_confidence() -> None:
    told = summarise_buildings(houses(0.95, 0.9, 0.72, 0.3, unseen=1), GRID, mode="one image")
    assert {name: entry["buildings"] for name, entry in told["grades"].items()} == {
        "sure": 2,
        "likely": 1,
        "doubtful": 1,
    }
    assert (told["buildings"], told["assessed"], told["area_m2"], told["median_area_m2"]) == (
        5,
        4,
        400.0,
        80.0,
    )
    assert told["mean_confidence"] == pytest.approx((0.95 + 0.9 + 0.72 + 0.3) / 4, abs=1e-4)
    assert told["mode"] == "one image"


def test_an_empty_town_has_a_summary() -> None:
    told = summarise_buildings(houses(), GRID, mode="one image")
    assert (told["buildings"], told["mean_confidence"], told["median_area_m2"]) == (0, None, None)


def test_a_grade_is_that_of_the_rounded_confidence() -> None:
    assert grade(houses(0.89996, 0.8999, None)).tolist() == [0, 1, 3]


def test_the_layers_hold_the_columns_in_order(tmp_path: Path) -> None:
    write_buildings(houses(0.95, 0.51234567, unseen=1), tmp_path, BUILDING_LAYER)
    table = pd.read_csv(tmp_path / "buildings.csv")
    assert tuple(table.columns) == (*BUILDING_COLUMNS, "image", "model")
    assert table["confidence"][1] == 0.5123 and np.isnan(table["confidence"][2])
    web = pyogrio.read_dataframe(tmp_path / "buildings.geojson")
    assert web.crs.to_epsg() == 4326 and len(web) == 3


def test_a_probability_beyond_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'h1' .* outside 0 to 1"):
        write_buildings(houses(0.9, 1.2), tmp_path, BUILDING_LAYER)


def test_a_confidence_without_a_probability_is_refused(tmp_path: Path) -> None:
    frame = houses(0.9)
    frame["p_building"] = np.nan
    with pytest.raises(ValueError, match="only one of probability and confidence"):
        write_buildings(frame, tmp_path, BUILDING_LAYER)


def test_the_probability_raster_carries_its_ramp_and_its_scale(tmp_path: Path) -> None:
    values = np.array([[0, 127, 254, 255]], np.uint8).repeat(4, axis=0)
    grid = type(GRID)(GRID.crs, GRID.transform, 4, 4)
    table = probability_colormap(254)
    with RasterWriter(
        tmp_path / "p.tif", grid, count=1, dtype="uint8", nodata=255, colormap=table, scale=1 / 254
    ) as raster:
        raster.write(Window(0, 0, 4, 4), values)
    with rasterio.open(tmp_path / "p.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), values)
        colours = raster.colormap(1)
        assert raster.scales == pytest.approx((1 / 254,)) and raster.nodata == 255
    assert colours[254][:3] == (0xFC, 0xFF, 0xA4) and colours[127][:3] == (0xCF, 0x44, 0x46)
    assert table[0][3] == 0 and table[127][3] == 255 and table[255] == (0, 0, 0, 0)
    assert building_colormap()[1] == (0x4C, 0x9B, 0xE8, 255)


def test_heat_shows_the_dimmed_image_where_nothing_is_known_and_the_ramp_where_it_is_sure() -> None:
    rgb = np.full((3, 1, 3), 100, np.uint8)
    shown = heat(rgb, np.array([[0, 254, 255]], np.uint8), levels=254)
    assert shown[:, 0, 0].tolist() == [60, 60, 60] and shown[:, 0, 2].tolist() == [60, 60, 60]
    wanted = 0.15 * 60 + 0.85 * np.array([0xFC, 0xFF, 0xA4])
    assert shown[:, 0, 1].tolist() == pytest.approx(np.rint(wanted).tolist(), abs=1)


def test_the_overview_shows_buildings_on_the_left_and_the_probability_on_the_right(tmp_path: Path) -> None:
    shown = view(houses(0.95, 0.3))
    path = draw_overview(tmp_path / "o.png", shown, GRID, title="Town", warnings=["A warning."])
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    middle = picture.shape[1] // 2

    def shows(part: np.ndarray, colour: tuple[int, int, int]) -> bool:
        return bool((np.abs(part - colour).max(axis=2) < 12).any())

    top = picture[: picture.shape[0] * 3 // 4]
    assert shows(top[:, :middle], (90, 90, 90)) and shows(top[:, :middle], (0x2F, 0x7F, 0xE0))
    assert shows(top[:, middle:], (250, 160, 10)) and not shows(top[:, middle:], (90, 90, 90))


def test_the_page_holds_the_words_and_classes_of_one_date(tmp_path: Path) -> None:
    text = page(tmp_path, houses(0.95, 0.3, unseen=1)).read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    told = json.loads(found[1])
    assert told["words"]["views"] == ["Image", "Probability"] and told["words"]["mode"] == "pre"
    assert told["words"]["headline"] == ["3", " buildings on 240 m²"]
    columns, _, kinds = unpacked(told["objects"]["packed"])
    assert kinds == [0, 2, 3] and "damage" not in columns and not told["objects"]["tinted"]
    assert [entry["name"] for entry in told["classes"]] == ["sure", "likely", "doubtful", "not-assessed"]
