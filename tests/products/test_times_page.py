"""The slider over dates on a page: states, counts and picture of each date, in a browser."""

import importlib.util
from pathlib import Path

import pytest

from aftermap import api
from finished_maps import finished, house

CHROMIUM = Path("/usr/bin/chromium")
PLACES = {"A": house(4, 4), "B": house(60, 4)}


@pytest.fixture
def page(tmp_path):
    """The page of two dates, opened."""
    if not CHROMIUM.is_file() or importlib.util.find_spec("playwright") is None:
        pytest.skip("needs Debian's chromium and playwright")
    from playwright.sync_api import sync_playwright

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
    with sync_playwright() as engines:
        browser = engines.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 390, "height": 844})
        said: list[str] = []
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.goto((series.folder / "series.html").as_uri())
        opened.evaluate("aftermap.ready")
        yield opened
        assert said == []
        browser.close()


@pytest.mark.browser
def test_the_slider_shows_each_date(page):
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
