"""The live map in Chromium on a map of 500,000 buildings: first paint, bytes, what a frame costs with them and without.

    python bench/livemap.py --folder /tmp/load                     # makes the map once, minutes
    python bench/livemap.py --folder /tmp/load --side 2048 --buildings 5000

The map is that of bench/serve_load.py: 10,000 px of half a metre, houses all over it, which is 20,000 on each square
kilometre. Chromium draws with the processor (SwiftShader) where there is no GPU; the server runs on the same cores.
A frame after the other is drawn while the map moves in steps: over points, over outlines, through all zooms, and with the
border moving; each in turn with the images alone and with the buildings, since drawing images without a GPU takes long by
itself. `CPU` is the processor time of all of Chromium for a frame, drawing included, which does not depend on what else
the machine does; `ratio` is that with the buildings over that of the images alone, so that 2 means that the buildings
cost what the images do. `script` is what the main thread worked on a frame, as the browser counts it.
"""

import argparse
import os
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
async ([what, steps, buildings]) => {
  const { view } = await import(document.querySelector("script[type=module]").src);
  const { canvas } = view;
  view.showBuildings(buildings);
  const settled = () => new Promise((done) => { canvas.once("idle", done); canvas.triggerRepaint(); });
  const drawn = () => new Promise((done) => {
    canvas.once("render", () => requestAnimationFrame(done));
    canvas.triggerRepaint();
  });
  const [west, south, east, north] = view.bounds;
  const [x, y] = [(west + east) / 2, (south + north) / 2];
  const across = 0.002; // degrees: some 180 m
  const moves = {
    "zoom 12.5": [[x - across * 4, y, 12.5], [x + across * 4, y, 12.5]],
    "zoom 14.1": [[x - across * 2, y, 14.1], [x + across * 2, y, 14.1]],
    "zoom 14.9": [[x - across, y, 14.9], [x + across, y, 14.9]],
    "zoom 15.5": [[x - across, y, 15.5], [x + across, y, 15.5]],
    "zoom 16.1": [[x - across, y, 16.1], [x + across, y, 16.1]],
    "zoom 16.9": [[x - across / 2, y, 16.9], [x + across / 2, y, 16.9]],
    "zoom 17.5": [[x - across / 2, y, 17.5], [x + across / 2, y, 17.5]],
    "zoom 18.5": [[x - across / 4, y, 18.5], [x + across / 4, y, 18.5]],
    "border at 17.5": [[x, y, 17.5], [x, y, 17.5]],
    "zoom 12 to 18": [[x, y, 12], [x, y, 18]],
  };
  const [from, to] = moves[what];
  const at = (share) => ({
    center: [from[0] + (to[0] - from[0]) * share, y],
    zoom: from[2] + (to[2] - from[2]) * share,
  });
  for (const share of [1, 0]) { // tiles of both ends are there before it begins
    canvas.jumpTo(at(share));
    await settled();
  }
  const times = [];
  let last = performance.now();
  await window.begin();
  for (let step = 1; step <= steps; step += 1) {
    if (what.startsWith("border")) view.divide(step / steps);
    else canvas.jumpTo(at(step / steps));
    await drawn();
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  await window.end();
  return times.slice(1);
}
"""
MOVES = (
    *("zoom 12.5", "zoom 14.1", "zoom 14.9", "zoom 15.5", "zoom 16.1", "zoom 16.9", "zoom 17.5", "zoom 18.5"),
    *("border at 17.5", "zoom 12 to 18"),
)


def browser_seconds() -> float:
    """Processor time of all processes of the browser so far."""
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        number = int(path.parent.name)
        parents[number] = int(fields[1])
        seconds[number] = (
            (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if "chrom" in name else 0.0
        )

    def ours(number: int) -> bool:
        while number > 1 and number != os.getpid():
            number = parents.get(number, 0)
        return number == os.getpid()

    return sum(value for number, value in seconds.items() if value and ours(number))


class Measured:
    """What a move cost: told by the page when it begins and ends."""

    def __init__(self, page: Page) -> None:
        self._client = page.context.new_cdp_session(page)
        self._client.send("Performance.enable")
        self._page, self._at = page, {"begin": (0.0, 0.0), "end": (0.0, 0.0)}
        for name in self._at:
            page.expose_function(name, lambda name=name: self._mark(name))

    def _mark(self, name: str) -> None:
        told = self._client.send("Performance.getMetrics")["metrics"]
        script = next(each["value"] for each in told if each["name"] == "ScriptDuration")
        self._at[name] = browser_seconds(), script

    def frames(self, what: str, steps: int, buildings: bool) -> tuple[np.ndarray, float, float]:
        """Milliseconds of each frame, of the processor for one, and of the main thread for one."""
        times = np.array(self._page.evaluate(FRAMES, [what, steps, buildings]))
        cpu, script = (self._at["end"][k] - self._at["begin"][k] for k in (0, 1))
        return times, cpu / steps * 1000, script / steps * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--buildings", type=int, default=500_000)
    parser.add_argument("--frames", type=int, default=20, help="of each move, drawn twice each way")
    parser.add_argument("--moves", help="some of them, with commas between")
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
            print(
                "what | images: CPU ms | p50 ms | with buildings: CPU ms | p50 ms | p95 ms | script ms | ratio"
            )
            measured = Measured(page)
            for what in chosen.moves.split(",") if chosen.moves else MOVES:
                alone, both = ([measured.frames(what, chosen.frames, shown)] for shown in (False, True))
                alone.append(measured.frames(what, chosen.frames, False))
                both.append(measured.frames(what, chosen.frames, True))
                cpu = [float(np.mean([each[1] for each in some])) for some in (alone, both)]
                times = [np.concatenate([each[0] for each in some]) for some in (alone, both)]
                script = float(np.mean([each[2] for each in both]))
                print(
                    f"{what} | {cpu[0]:.0f} | {np.median(times[0]):.0f} | {cpu[1]:.0f} | {np.median(times[1]):.0f} | "
                    f"{np.percentile(times[1], 95):.0f} | {script:.1f} | {cpu[1] / cpu[0]:.2f}",
                    flush=True,
                )
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
