"""Areas as a layer of the map's page, in a browser."""

import importlib.util
from pathlib import Path

import pytest

import finished_maps
from aftermap import api

CHROMIUM = Path("/usr/bin/chromium")


@pytest.mark.browser
def test_areas_are_coloured_between_pictures_and_buildings_when_asked_for(tmp_path):
    if not CHROMIUM.is_file() or importlib.util.find_spec("playwright") is None:
        pytest.skip("needs Debian's chromium and playwright")
    from playwright.sync_api import sync_playwright

    frame = finished_maps.table([(10, 10), (60, 10)], ["destroyed", "no-damage"])
    folder = finished_maps.finish(tmp_path / "ville", frame, page=True)
    api.areas(folder, grid=400)
    with sync_playwright() as engines:
        browser = engines.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 700})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((folder / "map.html").as_uri())
        page.evaluate("aftermap.ready")

        def colour_at(col: int, row: int) -> list[int]:
            page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            b = page.evaluate("aftermap.camera")
            wide, high = page.evaluate(
                "(m => [m.clientWidth, m.clientHeight])(document.querySelector('#map'))"
            )
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
        browser.close()
    assert [each for each in said if "getImageData" not in each] == []  # what this test reads by
