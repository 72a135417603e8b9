"""Load on a service: tiles of a 10,000 px COG at 20 requests at once, 50 users on a map, uploads.

    python bench/serve_load.py --folder /tmp/load                  # makes the map once, minutes
    python bench/serve_load.py --folder /tmp/load --side 2048 --buildings 5000 --seconds 2

Starts `aftermap serve` as a process of its own and asks it over sockets that stay open, as browsers do, from this one.
Server and client share the machine's cores. Tiles are asked for all over the image and at random, so that hardly any
comes from a cache of ours; the file is in the cache of the system. Processor time of the server is told beside the times,
because these depend on what else the machine does.
"""

import argparse
import asyncio
import gzip
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import cv2  # noqa: E402
import geopandas  # noqa: E402
import numpy as np  # noqa: E402
import shapely  # noqa: E402
from affine import Affine  # noqa: E402
from rasterio.crs import CRS  # noqa: E402

from aftermap.classes import DAMAGE  # noqa: E402
from aftermap.files import read_json, write_json  # noqa: E402
from aftermap.geo.grid import Grid, Window  # noqa: E402
from aftermap.products.vectors import PROBABILITIES, write_buildings  # noqa: E402
from aftermap.workflows.mapping.finished import open_map  # noqa: E402
from aftermap.workflows.mapping.provenance import describe_input  # noqa: E402
from aftermap.workflows.service.database import Database  # noqa: E402
from aftermap.workflows.service.maps import Maps  # noqa: E402
from aftermap.workflows.service.place import Place  # noqa: E402
from aftermap.workflows.service.tiles.display import legend  # noqa: E402
from aftermap.workflows.service.tiles.ground import ground_of, web_grid, window_of  # noqa: E402
from aftermap.workflows.service.tiles.rasters import write_layers  # noqa: E402
from aftermap.workflows.service.tiles.vectors import ATTRIBUTES, open_tiles, write_vector_tiles, zooms_of  # noqa: E402
from reviewed_map import NO_SHIFT, write_image  # noqa: E402

Get = Callable[[random.Random], tuple[str, str]]


def ground(side: int) -> Grid:
    """Half a metre a pixel."""
    return Grid(CRS.from_epsg(32615), Affine(0.5, 0, 360_000, 0, -0.5, 4_105_000), side, side)


def strips(side: int, seed: int) -> Callable[[Window], Iterator[tuple[np.ndarray, np.ndarray]]]:
    """Two dates of something as rough as a town: noise of several sizes."""
    random_numbers = np.random.default_rng(seed)
    cells = side // 32 + 8  # the web's grid is larger than the map
    coarse = random_numbers.integers(0, 120, (2, cells, cells, 3)).astype(np.uint8)
    fine = random_numbers.integers(0, 90, (2, 512, 512, 3)).astype(np.uint8)

    def read(window: Window) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for date in (0, 1):
            top, rows = window.row // 64, window.height // 64 + 1
            part = coarse[date, top : top + rows, : window.width // 64 + 1]
            wide = cv2.resize(part, (window.width, window.height), interpolation=cv2.INTER_CUBIC)
            detail = cv2.resize(fine[date], (1024, 1024), interpolation=cv2.INTER_LINEAR)
            tiled = np.tile(detail, (window.height // 1024 + 1, window.width // 1024 + 1, 1))
            yield wide + tiled[: window.height, : window.width] // 2, np.ones(wide.shape[:2], bool)

    return read


def buildings(grid: Grid, count: int) -> geopandas.GeoDataFrame:
    """Houses on a lattice over the whole image, turned a little."""
    per_row = math.ceil(math.sqrt(count))
    step = grid.width / per_row
    numbers = np.arange(count)
    x, y = (numbers % per_row + 0.5) * step, (numbers // per_row + 0.5) * step
    half = step * 0.3
    angle = np.random.default_rng(0).uniform(0, math.pi, count)
    turns = np.stack([angle + k * math.pi / 2 for k in range(5)], axis=1)
    corners = np.stack([x[:, None] + half * np.cos(turns), y[:, None] + half * np.sin(turns)], axis=-1)
    t = grid.transform
    placed = np.stack([t.a * corners[..., 0] + t.c, t.e * corners[..., 1] + t.f], axis=-1)
    level = np.random.default_rng(1).choice(4, count, p=[0.7, 0.1, 0.1, 0.1])
    shares = np.full((count, 4), 0.05)
    shares[numbers, level] = 0.85
    return geopandas.GeoDataFrame(
        {
            "building_id": [f"b{n}" for n in numbers],
            "damage": np.array(DAMAGE.names[1:])[level],
            **{name: shares[:, k] for k, name in enumerate(PROBABILITIES)},
            **{"p_building": 0.9, "confidence": 0.85, "seen": 1.0, "area_m2": (half * 0.5) ** 2 * 2},
            **{"lon": 0.0, "lat": 0.0, "reason": "", "mode": "pre+post"},
        },
        geometry=shapely.polygons(placed),
        crs=grid.crs,
    )


def make(data: Path, side: int, count: int) -> str:
    """A map of the size that is asked for, as if a job had made it; its id."""
    known = data / "load.json"
    if known.is_file() and read_json(known)["side"] == side and read_json(known)["buildings"] == count:
        return str(read_json(known)["map"])
    shutil.rmtree(data, ignore_errors=True)
    place, number, grid = Place(data).made(), uuid.uuid4().hex, ground(side)
    out, shown = place.map(number), place.display(number)
    out.mkdir(parents=True)
    shown.mkdir(parents=True)
    begun = time.monotonic()
    write_image(out / "damage.tif", np.zeros((1, side, side), np.uint8), grid)
    write_buildings(buildings(grid, count), out)
    source = data / "before.tif"
    write_image(source, np.zeros((3, 16, 16), np.uint8), ground(16))
    described = describe_input([source], grid, dtype="uint8", bands=[1, 2, 3])
    options = {"nodata": None}
    tree = {"scale": DAMAGE.name, "inputs": {"pre": described, "post": described}, "shift": NO_SHIFT}
    write_json(out / "provenance.json", {**tree, "stretch": None, "options": options})
    write_json(out / "summary.json", {"buildings": count})
    print(f"table of {count:,} buildings: {time.monotonic() - begun:.1f} s", flush=True)
    begun, used = time.monotonic(), time.process_time()
    layers = [(shown / f"{date}.tif", False) for date in ("pre", "post")]
    web, zoom = web_grid(grid)
    write_layers(web, window_of(grid, web), layers, strips(side, 0), progress=lambda *_: None)
    megapixels = 2 * side * side / 1e6
    told = f"{time.monotonic() - begun:.1f} s, {(time.process_time() - used) / megapixels:.3f} CPU s per Mpx"
    print(f"COGs of {megapixels:.0f} Mpx: {told}", flush=True)
    begun, used = time.monotonic(), time.process_time()
    found = open_map(out)
    print(f"the map is open after {time.process_time() - used:.1f} CPU s", flush=True)
    begun, used = time.monotonic(), time.process_time()
    frame = found.buildings.assign(row=np.arange(count))
    zooms = zooms_of(frame, grid)
    write_vector_tiles(frame, grid, shown, "all", zooms, going=lambda: None)
    told = f"{time.monotonic() - begun:.1f} s, {time.process_time() - used:.1f} CPU s"
    print(f"vector tiles of {count:,} buildings: {told}", flush=True)
    describe_tiles(shown)
    about = {
        "bounds": list(ground_of(grid).bounds),
        "georeferenced": True,
        "rasters": {date: {"minzoom": zoom - 5, "maxzoom": zoom} for date in ("pre", "post")},
        "buildings": {
            **{"minzoom": zooms.least, "maxzoom": zooms.last, "outlines_from": zooms.outlines},
            **{"layer": "buildings", "attributes": list(ATTRIBUTES)},
        },
    }
    write_json(shown / "display.json", about)
    Maps(place, Database(place.database)).add(number, "local", "load", found, about)
    write_json(known, {"side": side, "buildings": count, "map": number, "legend": legend()})
    return number


def describe_tiles(shown: Path) -> None:
    """A row for each zoom of the vector tiles."""
    print("zoom | kind | tiles | bytes: middle | largest | all | features of the fullest tile | of all tiles")
    for kind in ("points", "outlines"):
        with closing(open_tiles(shown / f"all-{kind}.mbtiles")) as file:
            for (zoom,) in file.execute("SELECT DISTINCT zoom_level FROM tiles ORDER BY 1").fetchall():
                rows = file.execute("SELECT tile_data FROM tiles WHERE zoom_level=?", (zoom,)).fetchall()
                sizes = [len(data) for (data,) in rows]
                counts = [features_in(gzip.decompress(data)) for (data,) in rows]
                print(
                    f"{zoom} | {kind} | {len(rows)} | {np.median(sizes) / 1000:.0f} kB | {max(sizes) / 1000:.0f} kB | "
                    f"{sum(sizes) / 1e6:.1f} MB | {max(counts):,} | {sum(counts):,}",
                    flush=True,
                )


def features_in(tile: bytes) -> int:
    """Features of a vector tile's one layer: fields with the number 2 of the message in field 3."""

    def number(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            value |= (tile[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if tile[at - 1] < 128:
                return value, at

    assert tile[0] == 0x1A
    end, at = number(1)
    end, count = at + end, 0
    while at < end:
        key, at = number(at)
        if key & 7 == 2:
            length, at = number(at)
            at += length
            count += key >> 3 == 2
        else:
            _, at = number(at)
    return count


class Server:
    """`aftermap serve` as a process."""

    def __init__(self, data: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "aftermap.cli.app", "serve", str(data)]
        options = ["--port", "0", "--workers", "0", "--json", "--requests", "1000000"]
        with (data / "server.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *options], env=environment, stdout=subprocess.PIPE, stderr=log
            )
        assert self.process.stdout is not None
        text = b""
        while b"}" not in text:
            line = self.process.stdout.readline()
            if not line:
                sys.exit(f"the server did not start: {(data / 'server.log').read_text()[-300:]}")
            text += line
        self.port = int(json.loads(text)["address"].rsplit(":", 1)[1].strip("/"))

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mb(self) -> float:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.split("VmHWM:")[1].split()[0]) / 1024

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> tuple[int, int]:
    """Status and bytes of one answer; the least that a client can do."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    status, length = int(head[9:12]), 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line[15:])
    if length:
        await reader.readexactly(length)
    return status, length


async def user(port: int, get: Get, until: float, rest: float, seed: int) -> list[tuple[str, float, int]]:
    """What one of them waited for, by kind."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    chance, waited = random.Random(seed), []
    while time.monotonic() < until:
        kind, path = get(chance)
        begun = time.perf_counter()
        status, length = await ask(reader, writer, path)
        assert status in (200, 204), (status, path)
        waited.append((kind, time.perf_counter() - begun, length))
        if rest:
            await asyncio.sleep(chance.expovariate(1 / rest))
    writer.close()
    return waited


async def crowd(
    port: int, users: int, get: Get, seconds: float, rest: float = 0.0
) -> list[tuple[str, float, int]]:
    until = time.monotonic() + seconds
    told = await asyncio.gather(*(user(port, get, until, rest, n) for n in range(users)))
    return [each for one in told for each in one]


def report(what: str, told: list[tuple[str, float, int]], seconds: float, cpu: float) -> None:
    """A row for each kind of request."""
    for kind in sorted({each[0] for each in told}):
        times = np.array([each[1] for each in told if each[0] == kind]) * 1000
        size = np.mean([each[2] for each in told if each[0] == kind]) / 1024
        p50, p95, p99 = np.percentile(times, [50, 95, 99])
        print(
            f"{what} | {kind} | {len(times)} | {len(times) / seconds:.0f}/s | {p50:.1f} | {p95:.1f} | {p99:.1f} | "
            f"{size:.0f} kB",
            flush=True,
        )
    print(f"{what}: {cpu / len(told) * 1000:.2f} ms of the server's processor a request", flush=True)


def tiles_of(bounds: list[float], zoom: int) -> tuple[int, int, int, int]:
    west, south, east, north = bounds
    size = 2**zoom
    x0, x1 = (int((lon + 180) / 360 * size) for lon in (west, east))
    rows = [(1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * size for lat in (north, south)]
    return x0, int(rows[0]), x1, int(rows[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--buildings", type=int, default=500_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--users", type=int, default=50)
    chosen = parser.parse_args()
    number = make(chosen.folder, chosen.side, chosen.buildings)
    bounds = list(ground_of(ground(chosen.side)).bounds)
    zoom = web_grid(ground(chosen.side))[1]
    root = f"/api/maps/{number}/tiles"

    def full(chance: random.Random) -> tuple[str, str]:
        x0, y0, x1, y1 = tiles_of(bounds, zoom)
        x, y = chance.randint(x0 + 1, x1 - 1), chance.randint(y0 + 1, y1 - 1)
        return "full-resolution tile", f"{root}/{chance.choice(('pre', 'post'))}/{zoom}/{x}/{y}"

    def drawn(chance: random.Random) -> tuple[str, str]:
        x0, y0, x1, y1 = tiles_of(bounds, zoom + 1)
        x, y = chance.randint(x0 + 1, x1 - 1), chance.randint(y0 + 1, y1 - 1)
        return "tile drawn by rio-tiler", f"{root}/pre/{zoom + 1}/{x}/{y}"

    def vector(chance: random.Random) -> tuple[str, str]:
        level = chance.choice((12, 13, 14))
        x0, y0, x1, y1 = tiles_of(bounds, level)
        place = f"{level}/{chance.randint(x0, x1)}/{chance.randint(y0, y1)}"
        return "vector tile", f"{root}/buildings/{place}"

    def look(chance: random.Random) -> tuple[str, str]:
        """What a person who moves about a map asks for: mostly tiles of both dates."""
        which = chance.random()
        if which < 0.75:
            return full(chance)
        if which < 0.9:
            return vector(chance)
        if which < 0.95:
            return "search", f"/api/maps/{number}/buildings?q=b{chance.randint(1, 9999)}&limit=10"
        west, south, east, north = bounds
        lon, lat = chance.uniform(west, east), chance.uniform(south, north)
        box = f"{lon},{lat},{lon + 0.001},{lat + 0.001}"
        return "features in a box", f"/ogc/collections/{number}/items?bbox={box}&limit=100"

    server = Server(chosen.folder)
    try:
        print("what | kind | requests | rate | p50 ms | p95 ms | p99 ms | size")
        asyncio.run(crowd(server.port, 2, look, 2.0))  # opens what is opened once
        for name, get, users, rest in (
            (f"{chosen.at_once} at once", full, chosen.at_once, 0.0),
            (f"{chosen.at_once} at once", drawn, chosen.at_once, 0.0),
            (f"{chosen.at_once} at once", vector, chosen.at_once, 0.0),
            (f"{chosen.users} users, 5 requests a second each", look, chosen.users, 0.2),
        ):
            before = server.cpu_seconds()
            told = asyncio.run(crowd(server.port, users, get, chosen.seconds, rest))
            report(name, told, chosen.seconds, server.cpu_seconds() - before)
        upload(server, chosen.folder, chosen.side)
        print(f"peak memory of the server: {server.peak_mb():.0f} MB")
    finally:
        server.stop()


def upload(server: Server, folder: Path, side: int) -> None:
    """Send an image as it would come from a browser."""
    import http.client

    image = folder / "upload.tif"
    if not image.is_file():
        random_numbers = np.random.default_rng(0)
        write_image(image, random_numbers.integers(0, 255, (3, side, side), dtype=np.uint8), ground(side))
    size = image.stat().st_size
    before, begun = server.cpu_seconds(), time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    with image.open("rb") as file:
        connection.request("POST", "/api/uploads?name=upload.tif", file, {"content-length": str(size)})
        answer = connection.getresponse()
        told = json.loads(answer.read())
    assert answer.status == 201, told
    seconds, cpu = time.monotonic() - begun, server.cpu_seconds() - before
    print(f"upload of {size / 1e6:.0f} MB: {size / 1e6 / seconds:.0f} MB/s, {cpu:.2f} CPU s", flush=True)
    connection.request("DELETE", f"/api/uploads/{told['id']}", headers={"content-length": "0"})
    connection.getresponse().read()


if __name__ == "__main__":
    main()
