"""Layers, page and picture of a map of classes."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from class_pages import CLASSES, GRID, RGB, page, summary
from PIL import Image

from aftermap.classes import ClassScheme
from aftermap.products.class_layers import Tally, regions_frame, summarise_classes
from aftermap.products.overview import draw_overview
from aftermap.products.pictures import paint
from aftermap.products.view import Picture, cover_view, ground, label


def embedded(path: Path) -> Any:
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL
    )
    assert found
    return json.loads(found[1])


def test_the_summary_counts_pixels_ground_and_regions() -> None:
    told = summary()
    assert [row["pixels"] for row in told["classes"].values()] == [12_400, 12_800, 12_800]
    assert told["classes"]["low_vegetation"]["area_m2"] == pytest.approx(3_200, rel=2e-3)
    assert told["classes"]["low_vegetation"]["area_ha"] == pytest.approx(0.32, rel=2e-3)
    assert told["classes"]["low_vegetation"]["share"] == pytest.approx(12_800 / 38_000, abs=1e-4)
    assert [row["regions"] for row in told["classes"].values()] == [0, 1, 1]
    assert told["not_assessed"]["pixels"] == 400 and told["not_assessed"]["reasons"] == {"cloud": 400}
    assert told["mean_confidence"] == 0.75 and told["background"] == "background"


def test_areas_are_in_hectares_from_one_on_and_in_pixels_without_georeference() -> None:
    assert (ground(12_345.0, 9), ground(999.4, 9), ground(None, 1234)) == ("1.2 ha", "999 m²", "1,234 px")
    assert label("low_vegetation") == "Low vegetation"


def test_the_page_holds_class_indices_as_they_are(tmp_path: Path) -> None:
    told = embedded(page(tmp_path))
    (tile,) = told["images"]["post"]
    with Image.open(io.BytesIO(base64.b64decode(tile["src"].partition(",")[2]))) as picture:
        np.testing.assert_array_equal(np.array(picture), CLASSES)
    assert [entry["amount"] for entry in told["classes"]] == ["3,102 m²", "3,202 m²", "3,202 m²"]
    assert [entry["background"] for entry in told["classes"]] == [True, False, False]


def test_the_page_names_no_address_to_load_from(tmp_path: Path) -> None:
    text = page(tmp_path).read_text()
    assert "default-src 'none'" in text and "<b>water" not in text
    assert not re.search(r"https?://|//cdn|@import|url\(|<link|<script src", text)


def test_classes_are_painted_over_grey_and_the_rest_shows_the_image() -> None:
    painted = paint(RGB, CLASSES, {1: "#20c040"})
    np.testing.assert_array_equal(painted[:, 0, 100], np.rint([0.2 * 67.5 + 0.8 * c for c in (32, 192, 64)]))
    np.testing.assert_array_equal(painted[:, 0, 0], [68, 68, 68])


def test_a_long_legend_takes_several_lines_below_the_panels(tmp_path: Path) -> None:
    names = tuple(f"class_number_{n}" for n in range(16))
    scheme = ClassScheme("many", names, ("#336699",) * 16, None)
    tally = Tally(np.full(16, 100), np.full(16, 25.0), np.full(16, 50.0), {}, 0.0)
    told = summarise_classes(tally, regions_frame([], scheme, GRID), scheme, GRID)
    heights = {}
    for count in (3, 16):
        fewer = told | {"classes": dict(list(told["classes"].items())[:count])}
        view = cover_view(Picture("Image", RGB), CLASSES, GRID, fewer)
        path = draw_overview(tmp_path / f"{count}.png", view, GRID, title="Many")
        with Image.open(path) as picture:
            heights[count] = picture.height
    assert heights[16] > heights[3] + 60
