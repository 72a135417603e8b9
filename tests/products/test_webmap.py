import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from building_frames import GRID, PIXELS, building, empty, frame_of, town
from packed_buildings import unpacked
from rasterio.crs import CRS
from shapely.geometry import Polygon, box

from aftermap.classes import DAMAGE
from aftermap.geo.grid import Grid
from aftermap.products.page.page import write_page
from aftermap.products.summary import summarise
from aftermap.products.view import Picture, View, damage_view, dated

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
]
NASTY = '"><img src=x onerror="window.hit=1"></script><script>window.hit=2</script>\'&amp;'


def flat(colour: tuple[int, int, int]) -> np.ndarray:
    """A picture of 240 x 160 of one colour."""
    return np.full((160, 240, 3), colour, np.uint8)


PRE, POST = flat((0, 0, 200)), flat((200, 0, 0))


def view(frame: gpd.GeoDataFrame, grid: Grid = GRID, pre: np.ndarray = PRE) -> View:
    return damage_view(frame, Picture("Before", pre), Picture("After", POST), grid, summarise(frame, grid))


def write(folder: Path, frame: gpd.GeoDataFrame, grid: Grid = GRID, **options: Any) -> Path:
    options = {"title": "A town", "model": "box 1", **options}
    return write_page(folder / "map.html", view(frame, grid), grid, **options)


def embedded(path: Path) -> Any:
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL
    )
    assert found
    return json.loads(found[1])


def test_the_page_names_no_address_to_load_from(tmp_path: Path) -> None:
    page = write(tmp_path, town()).read_text()
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|//cdn|@import|url\(|<link|<script src", page)


def test_outlines_are_in_pixels_and_keep_courts_and_parts(tmp_path: Path) -> None:
    _, outlines, _ = unpacked(embedded(write(tmp_path, town()))["objects"]["packed"])
    assert {tuple(point) for point in outlines[0][0].tolist()} == {(20, 20), (50, 20), (50, 40), (20, 40)}
    assert [len(rings) for rings in outlines] == [1, 1, 2, 1, 2, 1]


def test_markup_in_the_data_stays_inside_its_json(tmp_path: Path) -> None:
    frame = town()
    frame["building_id"] = [f"{NASTY}{i}" for i in range(6)]
    path = write(tmp_path, frame, title="@@data@@ </title><b>", warnings=[NASTY])
    data = embedded(path)
    assert unpacked(data["objects"]["packed"])[0]["building_id"][3] == f"{NASTY}3"
    assert data["title"] == "@@data@@ </title><b>"
    assert path.read_text().count("<script") == 2


def test_north_points_up_on_a_usual_grid_and_follows_a_rotated_one(tmp_path: Path) -> None:
    assert (
        abs(embedded(write(tmp_path, town()))["grid"]["north"]) < 1
    )  # what is left is the meridian convergence
    quarter = Grid(
        CRS.from_epsg(4326), Affine(0, 1e-5, 10, 1e-5, 0, 0), 240, 160
    )  # columns lead north, rows east
    assert embedded(write(tmp_path, town(quarter), quarter))["grid"]["north"] == pytest.approx(90)


def test_pixels_of_unequal_sides_are_stretched(tmp_path: Path) -> None:
    degrees = Grid(CRS.from_epsg(4326), Affine(1e-5, 0, 10, 0, -1e-5, 60), 240, 160)
    across, down = embedded(write(tmp_path, town(degrees), degrees))["grid"]["stretch"]
    assert across / down == pytest.approx(np.cos(np.radians(60)), rel=0.01)


def test_an_overview_of_other_proportions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not show a grid of 240 x 160"):
        write_page(tmp_path / "map.html", view(town(), pre=PRE[:, :100]), GRID, title="")


def test_same_input_gives_the_same_page(tmp_path: Path) -> None:
    assert write(tmp_path, town()).read_bytes() == write(tmp_path, town()).read_bytes()


def test_the_dates_stand_on_the_pictures(tmp_path: Path) -> None:
    path = write_page(tmp_path / "map.html", dated(view(town()), ["2017-12-22", ""]), GRID, title="A town")
    words = embedded(path)["words"]
    assert (words["views"], words["labels"]) == (["Before", "After"], ["Before · 2017-12-22", "After"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if not CHROMIUM.is_file():
        pytest.skip(f"needs {CHROMIUM}")
    with playwright.sync_playwright() as engines:
        chromium = engines.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield chromium
        chromium.close()


class Opened:
    """A page that was opened from disk, and everything it complained about or asked for."""

    def __init__(self, browser: Any, **context: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1000, "height": 700}, **context)
        self.page = self.context.new_page()
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self, path: Path) -> "Opened":
        """Open a page, or open it anew: as it is before anybody has touched it."""
        self.messages.clear()
        self.requests.clear()
        self.page.goto(path.as_uri())
        self.page.evaluate("aftermap.ready")
        self.settle()
        return self

    def settle(self) -> None:
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def evaluate(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def click_building(self, building_id: str) -> None:
        x, y = self.evaluate(f"aftermap.screenOf('{building_id}')")
        self.page.locator("#map").click(position={"x": x, "y": y})

    def pixel(self, layer: str, x: float, y: float) -> list[int]:
        self.settle()
        return list(self.evaluate(f"aftermap.pixelOf('{layer}', {x}, {y})"))


@pytest.fixture(scope="module")
def window(browser: Any) -> Opened:
    """A window of the browser: a new one for every test takes three times as long."""
    return Opened(browser)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The map of a town."""
    return write(tmp_path_factory.mktemp("town"), town(), warnings=["Not for operations."])


@pytest.fixture
def opened(window: Opened, usual: Path) -> Opened:
    return window.open(usual)


@pytest.mark.browser
def test_the_page_opens_from_disk_without_errors_or_requests(opened: Opened) -> None:
    assert opened.messages == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    assert (opened.evaluate("aftermap.count"), opened.evaluate("aftermap.visible")) == (6, 6)
    assert opened.page.inner_text("#visible") == "6 of 6 buildings shown"
    assert opened.page.inner_text("#warnings") == "Not for operations."


@pytest.mark.browser
def test_the_legend_hides_a_class(opened: Opened) -> None:
    opened.page.uncheck("#legend input[data-kind='0']")
    assert opened.evaluate("aftermap.visible") == 4
    assert opened.page.inner_text("#visible") == "4 of 6 buildings shown"
    assert opened.page.locator("#list button").count() == 4


@pytest.mark.browser
def test_the_confidence_slider_hides_doubtful_buildings_but_not_those_without_confidence(
    opened: Opened,
) -> None:
    opened.page.locator("#confidence").fill("75")
    # confidences are 0.9, 0.6, 0.9, 0.7, 0.8 and none
    assert opened.evaluate("aftermap.visible") == 4


@pytest.mark.browser
def test_a_click_shows_the_attributes_of_a_building(opened: Opened) -> None:
    opened.click_building("b1")
    assert opened.evaluate("aftermap.selected") == "b1"
    details = opened.page.inner_text("#details")
    for text in ("b1", "Major damage", "70.0 %", "225 m²", "pre+post"):
        assert text in details


@pytest.mark.browser
def test_a_building_not_assessed_shows_its_reason(opened: Opened) -> None:
    opened.click_building("b3")
    assert "Reason: no data" in opened.page.inner_text("#details")


@pytest.mark.browser
def test_a_click_into_a_court_selects_nothing(opened: Opened) -> None:
    opened.click_building("a3")
    assert opened.evaluate("aftermap.selected") is None


@pytest.mark.browser
def test_buildings_are_drawn_in_their_colour_with_open_courts(opened: Opened) -> None:
    opened.page.locator("#fill").fill("100")
    x, y = opened.evaluate("aftermap.screenOf('b1')")
    red, green, blue, alpha = opened.pixel("overlay", x, y)
    assert (f"#{red:02x}{green:02x}{blue:02x}", alpha) == (DAMAGE.colours[3], 255)
    x, y = opened.evaluate("aftermap.screenOf('a3')")
    assert opened.pixel("overlay", x, y)[3] == 0


@pytest.mark.browser
def test_dragging_the_divider_uncovers_the_other_date(opened: Opened) -> None:
    frame = opened.page.locator("#map").bounding_box()
    middle = (frame["width"] * 0.4, frame["height"] / 2)
    assert opened.pixel("base", *middle)[2] > 150  # before is blue
    handle = opened.page.locator("#handle").bounding_box()
    opened.page.mouse.move(handle["x"] + 21, handle["y"] + 21)
    opened.page.mouse.down()
    opened.page.mouse.move(frame["x"] + frame["width"] * 0.2, handle["y"] + 21, steps=4)
    opened.page.mouse.up()
    assert opened.evaluate("aftermap.swipe") == pytest.approx(0.2, abs=0.01)
    assert opened.pixel("base", *middle)[0] > 150  # after is red


@pytest.mark.browser
def test_the_divider_moves_by_keyboard(opened: Opened) -> None:
    opened.page.locator("#handle").focus()
    opened.page.keyboard.press("Shift+ArrowRight")
    assert opened.page.get_attribute("#handle", "aria-valuenow") == "60"


@pytest.mark.browser
def test_buttons_show_one_date_only(opened: Opened) -> None:
    opened.page.click("text=After >> nth=0")
    assert opened.evaluate("aftermap.mode") == "post"
    x, y = opened.evaluate("aftermap.screenOf('a1')")
    assert opened.pixel("base", x, y)[0] > 150
    assert opened.page.locator("#handle").is_hidden()


@pytest.mark.browser
def test_wheel_zooms_at_the_pointer_and_dragging_moves_the_map(opened: Opened) -> None:
    x, y = opened.evaluate("aftermap.screenOf('b1')")
    frame = opened.page.locator("#map").bounding_box()
    before = opened.evaluate("aftermap.camera.scale")
    opened.page.mouse.move(frame["x"] + x, frame["y"] + y)
    opened.page.mouse.wheel(0, -400)
    opened.page.wait_for_function(f"aftermap.camera.scale > {before} * 1.2")
    assert opened.evaluate("aftermap.screenOf('b1')") == pytest.approx([x, y], abs=1.5)
    opened.page.mouse.down()
    opened.page.mouse.move(frame["x"] + x - 50, frame["y"] + y + 20, steps=3)
    opened.page.mouse.up()
    assert opened.evaluate("aftermap.screenOf('b1')") == pytest.approx([x - 50, y + 20], abs=2)


@pytest.mark.browser
def test_searching_an_id_selects_and_zooms(opened: Opened) -> None:
    before = opened.evaluate("aftermap.camera.scale")
    opened.page.fill("#search", "B3")
    assert opened.page.locator("#list button").count() == 1
    opened.page.press("#search", "Enter")
    assert opened.evaluate("aftermap.selected") == "b3"
    assert opened.evaluate("aftermap.camera.scale") > before


@pytest.mark.browser
def test_the_review_list_starts_with_the_least_confident(opened: Opened) -> None:
    assert opened.page.locator("#list .id").all_inner_texts() == ["a2", "b1", "b2", "a1", "a3", "b3"]
    opened.page.select_option("#sort", "damage")
    assert opened.page.locator("#list .id").all_inner_texts() == ["b2", "b1", "a2", "a1", "a3", "b3"]


@pytest.mark.browser
def test_the_list_is_sorted_by_any_column_either_way(opened: Opened) -> None:
    def ids() -> list[str]:
        return list(opened.page.locator("#list .id").all_inner_texts())

    names = opened.page.locator("#sort option").all_inner_texts()
    assert names[:2] == ["Least confident", "Most damaged"] and {"Id", "Area", "p(destroyed)"} <= {*names}
    opened.page.select_option("#sort", "column area_m2")
    assert ids()[0] == "a3" and opened.page.locator("#list .what").first.inner_text() == "420 m²"
    opened.page.click("#direction")
    assert ids()[-1] == "a3"
    opened.page.select_option("#sort", "column p_destroyed")
    assert ids() == ["a1", "a3", "a2", "b1", "b2", "b3"]  # b3 was not assessed: last either way
    opened.page.click("#direction")
    assert ids()[0] == "b2" and ids()[-1] == "b3"


@pytest.mark.browser
def test_the_list_is_walked_by_keyboard(opened: Opened) -> None:
    opened.page.keyboard.press("/")
    opened.page.keyboard.type("b")
    opened.page.keyboard.press("ArrowDown")
    opened.page.keyboard.press("ArrowDown")
    opened.page.keyboard.press("Enter")
    assert opened.evaluate("aftermap.selected") == "b2"
    opened.page.keyboard.press("Escape")
    assert opened.evaluate("aftermap.selected") is None


@pytest.mark.browser
def test_the_download_holds_the_shown_buildings_in_degrees(opened: Opened) -> None:
    opened.page.uncheck("#legend input[data-kind='0']")
    with opened.page.expect_download() as waiting:
        opened.page.click("#download")
    collection = json.loads(Path(waiting.value.path()).read_text())
    assert [f["properties"]["building_id"] for f in collection["features"]] == ["a2", "b1", "b2", "b3"]
    shapes = gpd.GeoDataFrame.from_features(collection, crs=4326).to_crs(GRID.crs)
    expected = town().set_index("building_id").loc[["a2", "b1", "b2", "b3"]]
    assert shapes.geometry.area.tolist() == pytest.approx(expected.geometry.area.tolist(), rel=0.01)
    assert shapes.geometry.iloc[2].geom_type == "MultiPolygon"
    assert shapes["damage"].tolist() == expected["damage"].tolist()


@pytest.mark.browser
def test_the_cursor_reads_longitude_and_latitude_of_the_grid(opened: Opened) -> None:
    lon, lat = GRID.lonlat(np.array([33.0]), np.array([71.0]))
    assert opened.evaluate("aftermap.lonLat(33, 71)") == pytest.approx([lon[0], lat[0]], abs=1e-7)
    x, y = opened.evaluate("aftermap.screenOf('a1')")
    opened.page.locator("#map").hover(position={"x": x, "y": y})
    assert re.fullmatch(r"\d+\.\d{5}° N, \d+\.\d{5}° W", opened.page.inner_text("#cursor"))


@pytest.mark.browser
def test_markup_in_names_is_shown_and_not_run(window: Opened, tmp_path: Path) -> None:
    frame = town()
    frame["building_id"] = [f"{NASTY}{i}" for i in range(6)]
    frame["reason"] = frame["mode"] = NASTY
    opened = window.open(write(tmp_path, frame, title=NASTY, model=NASTY, warnings=[NASTY]))
    opened.page.locator("#list button").first.click()
    opened.settle()
    assert opened.page.inner_text("#details strong").startswith(NASTY)
    assert opened.page.title() == NASTY
    assert opened.evaluate("window.hit") is None
    assert opened.page.locator("img").count() == 0
    assert opened.messages == []


@pytest.mark.browser
@pytest.mark.parametrize("grid", [GRID, PIXELS], ids=["georeferenced", "pixels"])
def test_a_map_without_buildings_opens(window: Opened, tmp_path: Path, grid: Grid) -> None:
    opened = window.open(write(tmp_path, empty(grid), grid))
    assert opened.messages == []
    assert opened.page.inner_text("#list") == "No buildings on this map."


@pytest.mark.browser
def test_plain_images_are_measured_in_pixels(window: Opened, tmp_path: Path) -> None:
    opened = window.open(write(tmp_path, town(PIXELS), PIXELS))
    assert opened.page.inner_text("#scale").endswith("px")
    x, y = opened.evaluate("aftermap.screenOf('a1')")
    opened.page.locator("#map").hover(position={"x": x, "y": y})
    assert re.fullmatch(r"column 3[45], row (29|30)", opened.page.inner_text("#cursor"))


@pytest.mark.browser
def test_thousands_of_buildings_are_counted_and_picked(window: Opened, tmp_path: Path) -> None:
    rows = [
        building(
            f"n{r}-{c}", "destroyed" if (r + c) % 2 else "no-damage", box(c * 4, r * 4, c * 4 + 3, r * 4 + 3)
        )
        for r in range(40)
        for c in range(60)
    ]
    opened = window.open(write(tmp_path, frame_of(rows)))
    assert opened.evaluate("aftermap.visible") == 2400
    opened.click_building("n17-23")
    assert opened.evaluate("aftermap.selected") == "n17-23"
    assert opened.page.locator("#list button").count() == 60


@pytest.mark.browser
def test_two_fingers_zoom_on_a_phone(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, has_touch=True).open(write(tmp_path, town()))
    session = opened.context.new_cdp_session(opened.page)
    frame = opened.page.locator("#map").bounding_box()
    x, y = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2

    def touch(kind: str, *offsets: float) -> None:
        points = [{"x": x + offset, "y": y, "id": i} for i, offset in enumerate(offsets)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    before = opened.evaluate("aftermap.camera.scale")
    touch("touchStart", -50, 50)
    for reach in (60, 80, 100):
        touch("touchMove", -reach, reach)
    touch("touchEnd")
    assert opened.evaluate("aftermap.camera.scale") == pytest.approx(2 * before, rel=0.05)


@pytest.mark.browser
def test_buildings_beyond_the_edge_do_not_break_the_page(window: Opened, tmp_path: Path) -> None:
    outside = building("far", "not-assessed", box(500, 500, 520, 530))
    edge = building("edge", "destroyed", Polygon([(-20, 60), (30, 60), (30, 90), (-20, 90)]))
    opened = window.open(write(tmp_path, frame_of([outside, edge])))
    opened.evaluate("aftermap.select('far')")
    assert opened.evaluate("aftermap.selected") == "far"
    assert opened.messages == []


@pytest.mark.browser
def test_buildings_that_take_long_to_draw_move_with_the_map_and_are_drawn_when_it_rests(
    window: Opened, tmp_path: Path
) -> None:
    opened = window.open(write(tmp_path, town()))
    overlay = opened.page.locator("#overlay")
    opened.settle()
    opened.evaluate("aftermap.slow(1e6)")
    opened.page.locator("#map").focus()
    opened.page.keyboard.press("ArrowRight")
    opened.settle()
    assert overlay.evaluate("canvas => canvas.style.transform").startswith("translate(-80px")
    opened.evaluate("aftermap.slow(0)")
    opened.page.keyboard.press("ArrowRight")
    opened.evaluate("new Promise(done => setTimeout(done, 100))")
    opened.settle()
    assert overlay.evaluate("canvas => canvas.style.transform") == "none"
    opened.page.locator("#fill").fill("100")
    x, y = opened.evaluate("aftermap.screenOf('b1')")
    assert opened.pixel("overlay", x, y)[3] == 255
