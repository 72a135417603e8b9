"""Layers, page and picture of a map of classes."""

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from PIL import Image
from rasterio.crs import CRS

from aftermap.classes import ClassScheme
from aftermap.geo.grid import Grid
from aftermap.geo.ground_area import row_areas_m2
from aftermap.inference.objects.class_regions import trace_regions
from aftermap.products.class_layers import Tally, regions_frame, summarise_classes
from aftermap.products.overview import draw_overview
from aftermap.products.page.page import write_page
from aftermap.products.pictures import paint
from aftermap.products.view import Picture, cover_view, ground, label

CHROMIUM = Path("/usr/bin/chromium")
SCHEME = ClassScheme(
    "town", ("background", "low_vegetation", "<b>water</b>"), ("#000000", "#20c040", "#2040e0"), 0
)
GRID = Grid(CRS.from_epsg(32632), Affine(0.5, 0, 465_000, 0, -0.5, 5_250_000), 240, 160)
CLASSES = np.zeros((160, 240), np.uint8)
CLASSES[:, 80:160], CLASSES[:, 160:], CLASSES[:20, :20] = 1, 2, 255
RGB = np.full((3, 160, 240), 90, np.uint8)


def summary() -> dict[str, Any]:
    areas = row_areas_m2(GRID)
    assert areas is not None
    seen = CLASSES != 255
    weights = np.broadcast_to(areas[:, None], CLASSES.shape)
    tally = Tally(
        pixels=np.bincount(CLASSES[seen], minlength=3),
        area_m2=np.bincount(CLASSES[seen], weights=weights[seen], minlength=3),
        confidence=np.bincount(CLASSES[seen], minlength=3) * 0.75,
        missing={"cloud": 400},
        missing_m2=float(weights[~seen].sum()),
    )
    regions = list(trace_regions([(0, CLASSES, np.ones(CLASSES.shape))], areas, left_out=(0,)))
    return summarise_classes(tally, regions_frame(regions, SCHEME, GRID), SCHEME, GRID)


def page(folder: Path, **options: Any) -> Path:
    options = {"title": "A town </script>", "model": "cover 1", **options}
    view = cover_view(Picture("Image", RGB), CLASSES, GRID, summary())
    return write_page(folder / "map.html", view, GRID, **options)


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


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if not CHROMIUM.is_file():
        pytest.skip(f"needs {CHROMIUM}")
    with playwright.sync_playwright() as engines:
        browser = engines.chromium.launch(
            executable_path=str(CHROMIUM), args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.mark.browser
def test_each_class_can_be_shown_and_hidden_on_the_page(chromium: Any, tmp_path: Path) -> None:
    context = chromium.new_context(viewport={"width": 1000, "height": 700})
    opened, messages = context.new_page(), []
    opened.on("console", lambda message: messages.append(message.text))
    opened.on("pageerror", lambda error: messages.append(str(error)))
    opened.on("request", lambda request: messages.append(request.url) if "http" in request.url else None)
    opened.goto(page(tmp_path).as_uri())
    opened.evaluate("aftermap.ready")
    settle = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"

    def colour(col: int) -> list[int]:
        opened.evaluate(settle)
        return list(opened.evaluate(f"aftermap.pixelOf(...aftermap.screenOf({col}, 80))"))[:3]

    water = [round(0.4 * 90 + 0.6 * c) for c in (32, 64, 224)]
    assert opened.evaluate("aftermap.shown") == ["low_vegetation", "<b>water</b>"]
    assert colour(200) == pytest.approx(water, abs=4)
    assert colour(40) == pytest.approx([90, 90, 90], abs=4)
    opened.locator("#legend input[data-kind='2']").uncheck()
    assert colour(200) == pytest.approx([90, 90, 90], abs=4)
    opened.locator("#legend input[data-kind='2']").check()
    opened.keyboard.press("c")
    assert colour(200) == pytest.approx([90, 90, 90], abs=4)
    opened.keyboard.press("c")
    opened.keyboard.press("1")
    assert colour(200) == pytest.approx([90, 90, 90], abs=4)
    opened.keyboard.press("3")
    frame = opened.locator("#map").bounding_box()
    x, y = opened.evaluate("aftermap.screenOf(200, 80)")
    opened.mouse.move(frame["x"] + x, frame["y"] + y)
    assert opened.locator("#tooltip").inner_text() == "<b>water</b>"
    assert opened.evaluate("[aftermap.classAt(100, 80), aftermap.classAt(5, 5)]") == ["low_vegetation", None]
    assert "0.9 ha" not in opened.locator("#about").inner_text()
    assert [line for line in messages if "willReadFrequently" not in line] == []
    context.close()
