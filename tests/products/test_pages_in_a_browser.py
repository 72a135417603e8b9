"""Pages in a browser: buildings of one image, classes, areas on the map's page and on their own, and dates."""

import importlib.util
from pathlib import Path

import building_pages
import class_pages
import geopandas
import numpy as np
import pytest
import shapely

import finished_maps
from aftermap import api
from finished_maps import finished, house

pytestmark = pytest.mark.browser

CHROMIUM = Path("/usr/bin/chromium")
PLACES = {"A": house(4, 4), "B": house(60, 4)}


@pytest.fixture(scope="module")
def window():
    """A window for one page after another; `said` is what the console and errors say, and what is asked for."""
    if not CHROMIUM.is_file() or importlib.util.find_spec("playwright") is None:
        pytest.skip("needs Debian's chromium and playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engines:
        browser = engines.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.said = []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda asked: page.said.append(asked.url) if "http" in asked.url else None)
        yield page
        browser.close()


def opened(window, file, width, height):
    window.set_viewport_size({"width": width, "height": height})
    window.said.clear()
    window.goto(file.as_uri())
    return window


def test_areas_are_coloured_between_pictures_and_buildings_when_asked_for(window, tmp_path):
    frame = finished_maps.table([(10, 10), (60, 10)], ["destroyed", "no-damage"])
    folder = finished_maps.finish(tmp_path / "ville", frame, page=True)
    api.areas(folder, grid=400)
    page = opened(window, folder / "map.html", 1000, 700)
    page.evaluate("aftermap.ready")

    def colour_at(col: int, row: int) -> list[int]:
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        b = page.evaluate("aftermap.camera")
        wide, high = page.evaluate("(m => [m.clientWidth, m.clientHeight])(document.querySelector('#map'))")
        x, y = (col - b["x"]) * b["scale"] + wide / 2, (row - b["y"]) * b["scale"] + high / 2
        return page.evaluate(f"aftermap.pixelOf('base', {x}, {y})")

    grey = colour_at(20, 30)
    assert grey[0] == grey[1] == grey[2] and page.evaluate("aftermap.areaAt(20, 30)") == ""
    page.select_option("#areas-set", label="squares of 400 m in EPSG:32615, origin (0, 0)")
    # all of the one building is destroyed: the darkest red, 0.6 over the grey
    red = colour_at(20, 30)
    assert red[0] > red[1] + 60 and red[0] > red[2] + 60
    words = page.evaluate("aftermap.areaAt(20, 30)")
    assert words.endswith("Damaged, share of assessed buildings: 100.0 %")
    assert page.inner_text("#areas-legend").split("\n")[:2] == ["none", "1"]
    page.select_option("#areas-metric", label="Buildings")
    assert page.evaluate("aftermap.areaAt(20, 30)").endswith("Buildings: 1")
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("a")
    assert colour_at(20, 30) == grey
    assert [each for each in page.said if "getImageData" not in each] == []  # what this test reads by


def test_the_page_of_areas_switches_colours_and_tells_of_an_area(window, tmp_path):
    places = [(10, 10), (20, 30), (60, 10), (110, 70), (30, 60)]
    damage = ["destroyed", "no-damage", "minor-damage", "not-assessed", "major-damage"]
    missing = np.zeros(finished_maps.UTM.shape, bool)
    missing[:, 100:] = True
    made = finished_maps.finish(tmp_path / "ville", finished_maps.table(places, damage), missing=missing)
    west, east = (
        shapely.box(400_000 + 10 * left, 4_099_200, 400_000 + 10 * right, 4_100_000)
        for left, right in ((0, 50), (50, 120))
    )
    admin = tmp_path / "page.gpkg"
    geopandas.GeoDataFrame({"name": ["<b>w</b>", "e"]}, geometry=[west, east], crs=32615).to_file(admin)
    api.areas(made, by=admin)
    page = opened(window, made / "areas" / "page.html", 1280, 720)
    fills = [path.get_attribute("fill") for path in page.query_selector_all("path.area")]
    assert fills == ["#f03b20", "#a50f26"]  # 2 of 3, and 1 of 1
    page.select_option("#metric", label="Buildings not assessable")
    assert page.query_selector_all("path.area")[0].get_attribute("fill") == "#f4f6f3"
    page.click("#table tbody tr:first-child")
    assert page.inner_text("#picked h2") == "<b>w</b> (row 1)" and page.said == []


def test_the_slider_shows_each_date(window, tmp_path):
    maps = [
        finished(
            tmp_path / day, {k: (PLACES[k], v) for k, v in classes.items()}, acquired=("2026-01-01", day)
        )
        for day, classes in (
            ("2026-02-08", {"A": "no-damage", "B": "destroyed"}),
            ("2026-02-20", {"A": "destroyed", "B": "destroyed"}),
        )
    ]
    series = api.monitor(maps, tmp_path / "series")
    page = opened(window, series.folder / "series.html", 390, 844)
    page.evaluate("aftermap.ready")

    def shown():
        return (
            page.inner_text("#time-label"),
            page.inner_text("#time-new"),
            page.evaluate("aftermap.counts.destroyed"),
            page.inner_text("#headline"),
        )

    assert shown() == ("2026-02-20", "1 newly destroyed", 2, "2 of 2 assessed buildings are damaged")
    page.click("#time-back")
    assert shown() == ("2026-02-08", "1 destroyed", 1, "1 of 2 assessed buildings are damaged")
    page.click("#time-back")
    assert page.evaluate("aftermap.time") == 0
    page.focus("#time")
    page.keyboard.press("ArrowRight")
    assert shown()[0] == "2026-02-20"
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("[")
    assert page.evaluate("aftermap.time") == 0
    page.evaluate("aftermap.select('A')")
    assert page.inner_text("#details .chip") == "No damage"
    page.keyboard.press("]")
    assert page.inner_text("#details .chip") == "Destroyed"
    assert page.said == []


def test_each_class_can_be_shown_and_hidden_on_the_page(window, tmp_path):
    page = opened(window, class_pages.page(tmp_path), 1000, 700)
    page.evaluate("aftermap.ready")
    settle = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"

    def colour(col: int) -> list[int]:
        page.evaluate(settle)
        return list(page.evaluate(f"aftermap.pixelOf(...aftermap.screenOf({col}, 80))"))[:3]

    water = [round(0.4 * 90 + 0.6 * c) for c in (32, 64, 224)]
    assert page.evaluate("aftermap.shown") == ["low_vegetation", "<b>water</b>"]
    assert colour(200) == pytest.approx(water, abs=4)
    assert colour(40) == pytest.approx([90, 90, 90], abs=4)
    page.locator("#legend input[data-kind='2']").uncheck()
    assert colour(200) == pytest.approx([90, 90, 90], abs=4)
    page.locator("#legend input[data-kind='2']").check()
    page.keyboard.press("c")
    assert colour(200) == pytest.approx([90, 90, 90], abs=4)
    page.keyboard.press("c")
    page.keyboard.press("1")
    assert colour(200) == pytest.approx([90, 90, 90], abs=4)
    page.keyboard.press("3")
    frame = page.locator("#map").bounding_box()
    x, y = page.evaluate("aftermap.screenOf(200, 80)")
    page.mouse.move(frame["x"] + x, frame["y"] + y)
    assert page.locator("#tooltip").inner_text() == "<b>water</b>"
    assert page.evaluate("[aftermap.classAt(100, 80), aftermap.classAt(5, 5)]") == ["low_vegetation", None]
    assert "0.9 ha" not in page.locator("#about").inner_text()
    assert [line for line in page.said if "willReadFrequently" not in line] == []


def test_the_page_switches_between_image_and_probability(window, tmp_path):
    page = opened(window, building_pages.page(tmp_path, building_pages.houses(0.95, 0.3)), 1000, 700)
    page.evaluate("aftermap.ready")
    settle = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"

    def ground() -> list[int]:
        page.evaluate(settle)
        return list(page.evaluate("aftermap.pixelOf('base', 300, 400)"))[:3]

    assert [b.inner_text() for b in page.locator(".modes button").all()] == [
        "Image",
        "Swipe",
        "Probability",
    ]
    assert ground() == pytest.approx([90, 90, 90], abs=4)
    page.keyboard.press("3")
    assert ground() == pytest.approx([250, 160, 10], abs=6)
    assert page.locator("#legend label").count() == 3
    page.evaluate("aftermap.select('h1')")
    assert "30 %" in page.locator("#details").inner_text()
    assert "Most damaged" not in page.locator("#sort").inner_text()
    assert [line for line in page.said if "willReadFrequently" not in line] == []
