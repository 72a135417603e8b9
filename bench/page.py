"""How large and how smooth the page of many buildings is, in Chromium.

    python bench/page.py
    python bench/page.py --counts 1000,50000 --screens screens --out page.json

A town of rectangles with every column of a damage map is written as map.html and opened from disk. What is counted is
the processor time of the page's own process, from Chromium itself, so that other work on the machine does not count:
until all is shown, and for every frame while the map is moved across, zoomed in and moved, sorted and searched. A frame
of 60 a second has 16.7 ms. Prints a Markdown table; `--screens` keeps pictures of a desk and of a phone.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import shapely
from affine import Affine
from rasterio.crs import CRS

from aftermap.classes import DAMAGE
from aftermap.geo.grid import Grid
from aftermap.products.page.page import write_page
from aftermap.products.summary import summarise
from aftermap.products.view import Picture, damage_view

CHROMIUM = "/usr/bin/chromium"
PITCH_PX, MOVES = 40, 60
PROBABILITIES = ("p_no_damage", "p_minor", "p_major", "p_destroyed")


def town(count: int, seed: int = 0) -> tuple[geopandas.GeoDataFrame, Grid]:
    """So many turned rectangles on streets, each with all columns, and the grid that they lie on."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(count)))
    grid = Grid(
        CRS.from_epsg(32615), Affine(0.5, 0, 400_000, 0, -0.5, 4_000_000), side * PITCH_PX, side * PITCH_PX
    )
    place = np.arange(count)
    centres = (
        np.stack([place % side, place // side], axis=1) * PITCH_PX
        + PITCH_PX / 2
        + rng.uniform(-4, 4, (count, 2))
    )
    half = rng.uniform(6, 13, (count, 2))
    angle = rng.normal(0, 0.2, count)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])[None] * half[:, None]
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x = corners[..., 0] * cos - corners[..., 1] * sin + centres[:, :1]
    y = corners[..., 0] * sin + corners[..., 1] * cos + centres[:, 1:]
    east, north = 400_000 + 0.5 * x, 4_000_000 - 0.5 * y
    probabilities = rng.dirichlet((4, 1, 1, 1.5), count)
    lon, lat = grid.lonlat(centres[:, 0], centres[:, 1])
    columns = {
        "building_id": [f"way/{400_000_000 + int(n)}" for n in np.cumsum(rng.integers(1, 2000, count))],
        "damage": np.array(DAMAGE.names[1:])[probabilities.argmax(axis=1)],
        **dict(zip(PROBABILITIES, probabilities.T, strict=True)),
        "p_building": rng.uniform(0.5, 1, count),
        "confidence": probabilities.max(axis=1),
        "seen": 1.0,
        "area_m2": half.prod(axis=1),
        "lon": lon,
        "lat": lat,
        "reason": None,
        "mode": "pre+post",
    }
    shapes = shapely.polygons(np.stack([east, north], axis=-1))
    return geopandas.GeoDataFrame(columns, geometry=shapes, crs=grid.crs), grid


def write(count: int, folder: Path) -> Path:
    """The page of a town whose pictures are of one colour, so that its size is that of the buildings."""
    frame, grid = town(count)
    flat = [np.full((1000, 1000, 3), value, np.uint8) for value in (96, 128)]
    pictures = Picture("Before", flat[0]), Picture("After", flat[1])
    view = damage_view(frame, *pictures, grid, summarise(frame, grid))
    return write_page(folder / f"{count}.html", view, grid, title=f"{count:,} buildings", model="box")


class Page:
    """A page in the browser, whose processor time is asked for.

    Args:
        browser: of Playwright.
        path: of the page.
        phone: as a phone shows it.
    """

    def __init__(self, browser: Any, path: Path, *, phone: bool = False) -> None:
        size = {"width": 390, "height": 844} if phone else {"width": 1400, "height": 900}
        context = browser.new_context(viewport=size, has_touch=phone, device_scale_factor=2 if phone else 1)
        self.page = context.new_page()
        self.session = context.new_cdp_session(self.page)
        self.session.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("#list li")

    def seconds(self) -> float:
        """Processor seconds of the page's process so far."""
        found = {
            each["name"]: each["value"] for each in self.session.send("Performance.getMetrics")["metrics"]
        }
        return float(found["ProcessTime"])

    def frames(self, act: Any) -> tuple[int, float]:
        """Frames drawn while something is done, and processor milliseconds for each."""
        self.page.evaluate(
            "window.frames_ = 0; window.on_ = true;"
            "(function next() { window.frames_++; if (window.on_) requestAnimationFrame(next); })()"
        )
        before = self.seconds()
        act()
        self.page.wait_for_timeout(100)
        count = self.page.evaluate("(window.on_ = false, window.frames_)")
        return count, 1000 * (self.seconds() - before) / max(count, 1)

    def drag(self) -> None:
        """Move the map across and back."""
        mouse = self.page.mouse
        mouse.move(500, 450)
        mouse.down()
        for step in range(MOVES):
            mouse.move(
                500 + 250 * np.sin(step / MOVES * 2 * np.pi), 450 + 120 * np.cos(step / MOVES * 2 * np.pi)
            )
        mouse.up()

    def zoom(self, steps: int) -> None:
        """Turn the wheel over the middle."""
        self.page.mouse.move(500, 450)
        for _ in range(steps):
            self.page.mouse.wheel(0, -240)
            self.page.wait_for_timeout(30)


def measure(browser: Any, path: Path, screens: Path | None) -> dict[str, float]:
    """Everything about one page."""
    page = Page(browser, path)
    row = {"bytes": float(path.stat().st_size), "shown_s": page.seconds()}
    row["frames"], row["move_ms"] = page.frames(page.drag)
    _, row["zoom_ms"] = page.frames(lambda: page.zoom(12))
    _, row["near_ms"] = page.frames(page.drag)
    before = page.seconds()
    page.page.select_option("#sort", index=1)
    page.page.wait_for_timeout(50)
    row["sort_ms"] = 1000 * (page.seconds() - before)
    before = page.seconds()
    page.page.fill("#search", "way/4123")
    page.page.wait_for_timeout(50)
    row["search_ms"] = 1000 * (page.seconds() - before)
    if screens is not None:
        screens.mkdir(parents=True, exist_ok=True)
        page.page.screenshot(path=screens / f"{path.stem}-near.png")
        page.page.keyboard.press("Escape")
        page.page.click("#zoom-fit")
        page.page.wait_for_timeout(300)
        page.page.screenshot(path=screens / f"{path.stem}.png")
        Page(browser, path, phone=True).page.screenshot(path=screens / f"{path.stem}-phone.png")
    return row


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", default="1000,10000,50000")
    parser.add_argument("--screens", type=Path)
    parser.add_argument("--out", type=Path)
    wanted = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as engines:
        browser = engines.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for count in map(int, wanted.counts.split(",")):
            rows[count] = measure(browser, write(count, Path(folder)), wanted.screens)
        browser.close()
    print(
        "| buildings | file MB | shown after s | a frame moved, all ms | zooming ms | near ms | sort ms | search ms |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for count, row in rows.items():
        times = " | ".join(
            f"{row[key]:.1f}" for key in ("move_ms", "zoom_ms", "near_ms", "sort_ms", "search_ms")
        )
        print(f"| {count:,} | {row['bytes'] / 1e6:.2f} | {row['shown_s']:.2f} | {times} |")
    if wanted.out is not None:
        wanted.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
