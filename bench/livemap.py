"""The live map in Chromium on a map of 500,000 buildings: first paint, bytes, and the time from frame to frame.

    python bench/livemap.py --folder /tmp/load                     # makes the map once, minutes
    python bench/livemap.py --folder /tmp/load --side 2048 --buildings 5000

The map is that of bench/serve_load.py: 10,000 px of half a metre, houses all over it, which is 20,000 on each square
kilometre. Chromium draws with the processor (SwiftShader) where there is no GPU; the server runs on the same cores.
Frames are counted while the map moves by itself: over points and over outlines, zooming through both, and with the
border moving; each also with the images alone, since drawing these without a GPU takes long by itself. `script` is
what the main thread worked on a frame, as the browser counts it; the rest is drawing.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "src"), str(ROOT / "tests")]

from serve_load import Server, make  # noqa: E402

FRAMES = """
async ([what, milliseconds, buildings]) => {
  const { view } = await import(document.querySelector("script[type=module]").src);
  const { canvas } = view;
  view.showBuildings(buildings);
  const settled = () => new Promise((done) => { canvas.once("idle", done); canvas.triggerRepaint(); });
  const [west, south, east, north] = view.bounds;
  const [x, y] = [(west + east) / 2, (south + north) / 2];
  const far = (east - west) / 4;
  const moves = {
    "all points": [[x - far, y, 12.5], [x + far, y, 12.5]],
    "near points": [[x - far / 4, y, 14.9], [x + far / 4, y, 14.9]],
    "zoom in": [[x, y, 12], [x, y, 17]],
    "most outlines": [[x - far / 16, y, 16.1], [x + far / 16, y, 16.1]],
    outlines: [[x - far / 32, y, 17.5], [x + far / 32, y, 17.5]],
    border: [[x, y, 17.5], [x, y, 17.5]],
  };
  const [from, to] = moves[what];
  canvas.jumpTo({ center: [from[0], from[1]], zoom: from[2] });
  await settled();
  const times = [];
  let going = true;
  const tick = (now) => { times.push(now); if (going) requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
  if (what === "border") {
    const begun = performance.now();
    await new Promise((done) => {
      const step = (now) => {
        const share = Math.min(1, (now - begun) / milliseconds);
        view.divide(share);
        if (share < 1) requestAnimationFrame(step); else done();
      };
      requestAnimationFrame(step);
    });
  } else {
    canvas.easeTo({ center: [to[0], to[1]], zoom: to[2], duration: milliseconds, easing: (t) => t });
    await new Promise((done) => canvas.once("moveend", done));
  }
  going = false;
  return times.slice(1).map((time, index) => time - times[index]);
}
"""


def frames(page: Page, what: str, seconds: float, buildings: bool) -> None:
    """Move, and tell how long frames took."""
    client = page.context.new_cdp_session(page)
    client.send("Performance.enable")

    def worked() -> dict[str, float]:
        told = client.send("Performance.getMetrics")["metrics"]
        return {each["name"]: each["value"] for each in told}

    before = worked()
    times = np.array(page.evaluate(FRAMES, [what, seconds * 1000, buildings]))
    after = worked()
    script = (after["ScriptDuration"] - before["ScriptDuration"]) / max(1, len(times)) * 1000
    p50, p95 = np.percentile(times, [50, 95])
    name = what if buildings else f"{what}, images alone"
    slow = int((times > 100).sum())
    print(
        f"{name} | {len(times)} | {p50:.0f} | {p95:.0f} | {times.max():.0f} | {slow} | {script:.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--buildings", type=int, default=500_000)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--shot", type=Path, help="folder for pictures of the screen")
    chosen = parser.parse_args()
    number = make(chosen.folder, chosen.side, chosen.buildings)
    server = Server(chosen.folder)
    drawn = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    try:
        with sync_playwright() as engines:
            browser = engines.chromium.launch(
                executable_path=chosen.chromium, args=["--headless", "--no-sandbox", *drawn]
            )
            page = browser.new_page(viewport={"width": chosen.width, "height": chosen.height})
            opened(page, f"http://127.0.0.1:{server.port}/maps/{number}")
            print("what | frames | p50 ms | p95 ms | longest ms | over 100 ms | script ms a frame")
            for what in ("all points", "near points", "zoom in", "most outlines", "outlines", "border"):
                for shown in (False, True):
                    frames(page, what, chosen.seconds, shown)
                if chosen.shot:
                    page.screenshot(path=chosen.shot / f"{what.replace(' ', '-')}.png")
            browser.close()
    finally:
        server.stop()


def opened(page: Page, address: str) -> None:
    """Open the map, and tell what that took."""
    got: list[Any] = []
    page.on("requestfinished", lambda asked: got.append(asked))
    begun = time.monotonic()
    page.goto(address)
    page.wait_for_selector("body[data-ready=yes]", timeout=120_000)
    ready = time.monotonic() - begun
    page.wait_for_selector("body[data-drawn=yes]", timeout=120_000)
    drawn = time.monotonic() - begun
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null")
    size: dict[str, int] = {}
    for asked in got:
        kind = "tiles" if "/tiles/" in asked.url else "page" if "/api/" not in asked.url else "API"
        sizes = asked.sizes()
        size[kind] = size.get(kind, 0) + sizes["responseBodySize"] + sizes["responseHeadersSize"]
    told = ", ".join(f"{kind} {count / 1000:.0f} kB" for kind, count in sorted(size.items()))
    print(
        f"first paint {paint:.0f} ms, keys work after {ready:.1f} s, all is drawn after {drawn:.1f} s; {told}",
        flush=True,
    )


if __name__ == "__main__":
    main()
