"""The page of a review in a browser: by keys alone, by several people, on a phone, and when nothing can be saved."""

import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import finished_maps
from aftermap.files import read_json, sha256_of, write_json
from aftermap.web.offline import write_offline
from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.review.answers import Journal
from aftermap.workflows.review.areas import marks
from aftermap.workflows.review.opened import open_review
from colour_town import write_image
from reviewed_map import make_map

pytestmark = pytest.mark.browser

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if not CHROMIUM.is_file():
        pytest.skip(f"needs {CHROMIUM}")
    with playwright.sync_playwright() as engines:
        chromium = engines.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def desk(browser):
    """A page for one test after another: what one stored is of an address that the next does not have."""
    return new_page(browser)


@pytest.fixture
def page(desk):
    desk.set_viewport_size({"width": 900, "height": 600})
    desk.errors.clear()
    yield desk
    desk.goto("about:blank")  # asks the server nothing more
    desk.context.clear_cookies()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    make_map(folder)
    return folder


@pytest.fixture
def served(made, tmp_path):
    """A review that is served: itself, and its address."""
    uvicorn = pytest.importorskip("uvicorn")
    from aftermap.web.app import review_app
    from aftermap.web.serving import address, bind

    out = shutil.copytree(made / "map", tmp_path / "map")
    images = {"pre": made / "before.tif", "post": made / "after.tif"}
    review = open_review(open_map(out), **images, budget=8, active=0.25, double=0)
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(
            review_app(review, "token"), log_level="error", lifespan="off", timeout_graceful_shutdown=1
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield review, address(listener, "token")
    server.should_exit = True
    thread.join()
    listener.close()


def new_page(browser, **options):
    """A page, and its errors."""
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(120_000)  # of busy cores
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda said: page.errors.append(said.text) if "Security Policy" in said.text else None)
    return page


def opened(page, url, name):
    """A page whose reviewer has given a name."""
    page.goto(url)
    page.wait_for_selector("#ask-name[open]")
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    building(page)
    return page


def building(page, after=None):
    """The building that is shown, which is another one than `after`; keys that come before it are not taken."""
    named = page.locator("#name").filter(has_text="building")
    if after is not None:
        named = named.filter(has_not_text=re.compile(rf"building {after}\b"))
    named.wait_for(state="attached")
    page.wait_for_selector("#panes[data-ready=yes]")
    return re.search(r"building (\S+)", page.text_content("#name"))[1]


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def answered(page, count):
    shows(page, "#count b", f"{count} of")


def shows(page, selector, text):
    """Wait until an element holds a text; its policy lets nobody evaluate strings in the page."""
    page.locator(selector).filter(has_text=text).wait_for(state="attached")


def test_a_review_by_keys_alone(served, page):
    review, url = served
    opened(page, url, "Zoë")
    first = building(page)
    press(page, "4")
    answered(page, 1)
    second = building(page, after=first)
    press(page, "n")
    page.keyboard.type("tarp on the roof: 2")
    press(
        page, "Enter", "f", "f", "w", ".", "b", "+", "-", "o", "o", "m", "Shift+ArrowRight", "ArrowDown", "2"
    )
    answered(page, 2)
    third = building(page, after=second)
    press(page, "u", "3")
    answered(page, 3)
    fourth = building(page, after=third)
    press(page, "z")
    answered(page, 2)
    assert building(page, after=fourth) == third
    press(page, "s")
    (one, two) = Journal(review.found.folder).answers()
    assert (one.building_id, one.verdict, one.reviewer, one.shown["map_shown"]) == (
        first,
        "destroyed",
        "Zoë",
        False,
    )
    assert (two.building_id, two.verdict, two.note) == (second, "minor-damage", "tarp on the roof: 2")
    assert two.shown["map_shown"] is True and two.geometry is not None
    assert page.errors == []


def test_a_building_is_opened_by_the_address(served, page):
    _, url = served
    opened(page, f"{url}#building=b7", "Ana")
    assert building(page) == "b7" and page.text_content("#origin") == "Looked up"
    page.goto(f"{url}#building=b11")
    assert building(page, after="b7") == "b11"
    page.goto(f"{url}#building=nowhere")
    shows(page, "#said", "Building nowhere: ")
    assert building(page) == "b11" and page.errors == []


def test_a_missing_building_is_drawn_by_keys(served, page):
    review, url = served
    opened(page, url, "Ana")
    shown = building(page)
    press(page, "d", "Enter", *["Shift+ArrowRight"] * 3, "Enter", *["Shift+ArrowDown"] * 3, "Enter", "c", "4")
    shows(page, "#said", "Drawn building saved")
    assert building(page) == shown
    press(page, "1")
    answered(page, 1)
    drawn, _ = Journal(review.found.folder).answers()
    assert (drawn.origin, drawn.verdict, len(drawn.geometry["coordinates"][0])) == ("drawn", "destroyed", 4)
    assert page.errors == []


def test_two_people_see_different_buildings_until_all_are_done(browser, served, page):
    review, url = served
    other = new_page(browser, viewport=page.viewport_size)
    pages = [opened(each, url, name) for each, name in ((page, "Ana"), (other, "Bo"))]
    assert building(pages[0]) != building(pages[1])
    for turn in range(8):
        page = pages[turn % 2]
        if page.is_hidden("#done"):
            press(page, "1")
            page.wait_for_timeout(60)
    for page in pages:
        for _ in range(600):
            if page.is_visible("#done"):
                break
            press(page, "1")
            page.wait_for_timeout(100)
        page.wait_for_selector("#done:not([hidden])")
    told = [answer.building_id for answer in Journal(review.found.folder).answers()]
    assert len(told) == len(set(told)) == 8
    assert pages[0].is_hidden("#origin") and pages[0].is_hidden("#show-map")
    # whoever is ready first may be told of buildings that are open with the other one
    assert any("8 buildings are answered" in page.text_content("#done") for page in pages)
    assert pages[0].errors == pages[1].errors == []
    other.context.close()


def test_what_cannot_be_saved_is_told_kept_and_sent_again(served, page, monkeypatch):
    review, url = served
    opened(page, url, "Ana")
    monkeypatch.setattr("aftermap.workflows.review.answers.os.fsync", full_disk)
    first = building(page)
    press(page, "3")
    building(page, after=first)
    press(page, "4")
    shows(page, "#alarm", "2 answers are NOT saved")
    assert re.search(r"the disk is full.* 2 answers are NOT saved yet", page.text_content("#alarm"))
    page.reload()  # even then
    page.wait_for_selector("#alarm:not([hidden])")
    monkeypatch.undo()
    page.click("#retry")
    page.wait_for_selector("#alarm", state="hidden")
    assert sorted(answer.verdict for answer in review.answers) == ["destroyed", "major-damage"]


def full_disk(*_):
    raise OSError(28, "No space left on device")


def test_on_a_phone_everything_is_in_reach(browser, served):
    _, url = served
    page = opened(new_page(browser, **PHONE), url, "Ana")
    page.tap("[data-mode=flicker]")
    page.tap("#pane-after canvas")
    assert page.text_content("#pane-after figcaption") == "Before"
    for button in page.query_selector_all("#verdicts button, #tools button, nav button"):
        if button.is_visible():
            box = button.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= 390.5 and box["y"] + box["height"] <= 844.5
            assert box["height"] >= 40
    page.tap("[data-verdict=cannot-tell]")
    page.tap("#reasons button:nth-child(1)")
    answered(page, 1)
    assert page.errors == []
    page.context.close()


@pytest.mark.parametrize("size", [(683, 384), (844, 390), (1024, 600)])
def test_small_screens_and_large_fonts_lose_nothing(served, page, size):
    _, url = served
    page.set_viewport_size({"width": size[0], "height": size[1]})  # 1366 x 768 at 200 % is 683 x 384
    opened(page, url, "Ana")
    for selector in ("[data-verdict=cannot-tell]", "#undo", "#open-help", "[data-verdict=no-damage]"):
        box = page.query_selector(selector).bounding_box()
        assert box["y"] + box["height"] <= size[1] + 0.5 and box["x"] + box["width"] <= size[0] + 0.5, (
            selector
        )
    assert page.query_selector("#pane-after canvas").bounding_box()["height"] > 150


def test_ground_is_marked_by_keys(served, page):
    review, url = served
    opened(page, url, "Ana")
    press(page, "g")
    shows(page, "#ground-count", "0 of 25")
    press(page, "Enter", *["Shift+ArrowRight"] * 4, "Enter", *["Shift+ArrowDown"] * 4, "Enter", "c")
    page.wait_for_timeout(500)
    (mark,) = marks(review.found.folder)
    assert mark.surveyed and mark.reviewer == "Ana" and page.errors == []


def test_the_page_in_one_file_keeps_answers_and_saves_them(served, page, tmp_path):
    from aftermap.web.offline import write_offline
    from aftermap.workflows.review.exchange import import_answers

    review, _ = served
    written = write_offline(review, tmp_path / "review.html")
    assert written.buildings == 8 and written.megabytes < 1
    opened(page, written.path.as_uri(), "Ana")
    first = shown = building(page)
    for key in ("1", "2", "z", "4"):
        press(page, key)
        shown = building(page, after=shown)
    answered(page, 2)
    page.reload()
    answered(page, 2)
    building(page)
    press(page, "g")
    page.click("#mark-all")
    shows(page, "#ground-count", "25 of 25 buildings")
    press(page, "Escape")
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "answers.json")
    assert len(json.loads((tmp_path / "answers.json").read_text())["answers"]) == 2
    taken = import_answers(review.found, tmp_path / "answers.json")
    assert (taken.answers, taken.marks) == (2, 1) and len(marks(review.found.folder)) == 1
    assert {a.building_id: a.verdict for a in review.answers}[first] == "no-damage"
    assert page.errors == []


def test_one_image_is_shown_alone_and_two_keys_answer(browser, tmp_path):
    places, damage = [(30, 30), (90, 50)], ["destroyed", "not-destroyed"]
    folder = finished_maps.finish_one_date(tmp_path / "map", places, damage)
    grid = finished_maps.UTM
    image = write_image(tmp_path / "after.tif", np.full((3, *grid.shape), 90, np.uint8), grid)
    told = read_json(folder / "provenance.json") | {"stretch": None}
    file = {"name": image.name, "bytes": image.stat().st_size, "sha256": sha256_of(image)}
    told["inputs"]["post"]["files"] = [file]
    write_json(folder / "provenance.json", told)
    review = open_review(open_map(folder, also=("post-only",)), post=image, budget=2, double=0)
    write_offline(review, tmp_path / "page.html", reviewer="ana")
    review.crops.close()
    page = new_page(browser)  # pages in files share what they store
    opened(page, f"file://{tmp_path / 'page.html'}", "ana")
    assert page.locator("#pane-after").is_visible() and not page.locator("#pane-before").is_visible()
    assert not page.get_by_text("Flicker").is_visible() and not page.get_by_text("Swipe").is_visible()
    labels = page.locator("#verdicts button span").all_text_contents()
    assert labels == ["Not destroyed", "Destroyed", "Not a building", "Cannot tell"]
    page.wait_for_selector("#panes[data-ready=yes]")
    for key in "23f":  # minor, major and flicker are nothing here
        page.keyboard.press(key)
    assert "0 of 2" in page.locator("#count").text_content()
    page.keyboard.press("4")
    page.wait_for_selector("#panes[data-ready=yes]")
    page.get_by_text("1 of 2").wait_for()
    page.keyboard.press("1")
    page.get_by_text("All looked at").wait_for()
    said = page.evaluate("Object.values(localStorage).join()")
    assert '"verdict":"destroyed"' in said and '"verdict":"not-destroyed"' in said
    assert not page.errors
    page.context.close()
