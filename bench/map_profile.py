"""What a map spends its time on, stage by stage, of two source folders in one run.

    python bench/map_profile.py --base ../older/src --megapixels 1 16
    python bench/map_profile.py --megapixels 16 --footprints 0 50000 --picture docs/images/map-profile.png
    python bench/map_profile.py --base ../older/src --megapixels 16 --forms png strips bits systems demo --repeats 1

Each map is made in a process of its own on one thread; the sources take turns. `start` is the interpreter and all
imports, `rest` what no stage holds (blending of windows, checksums, publishing): a note is printed where it is more than
a twentieth. Windows are read by a thread beside the network, so their seconds are that thread's; all other stages count
every thread. Scenes are the mosaics of `map_scale.py`; `--forms` stores them otherwise: as PNG, as TIFF in strips, in 16
bits to be stretched, with the second date in longitude and latitude; `demo` is the town of `aftermap demo`. `--outside
N` adds a case of N footprints of which 23 touch the image. Figures are medians; the first round is not counted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import geopandas
import numpy as np
import rasterio
import rasterio.shutil
import shapely
from rasterio.vrt import WarpedVRT

from map_scale import WIDTH_PX, write_mosaics

HERE = Path(__file__).resolve().parents[1] / "src"
STAGES = (
    *("start", "model", "inputs", "reading", "predicting", "storing"),
    *("rasters", "buildings", "layers", "views", "rest"),
)
FORMS = ("png", "strips", "bits", "systems", "demo")
TOUCHING = 23
UNEXPLAINED = 0.05

RUN = """
import importlib, json, re, sys, threading, time
from contextlib import contextmanager
from pathlib import Path

for names in (
    ("aftermap.workflows.mapping.damage", "aftermap.workflows.mapping.run"),
    ("aftermap.recipes.map", "aftermap.recipes.mapping"),
):
    try:
        task, way = map(importlib.import_module, names)
        break
    except ModuleNotFoundError:
        continue

class Watch(way.Stopwatch):
    cpu, walls = {}, {}

    @contextmanager
    def __call__(self, stage):
        beside = stage in ("reading", "predicting", "storing")
        clock = time.thread_time if beside else time.process_time
        begun, wall = clock(), time.perf_counter()
        self.seconds.setdefault(stage, 0.0)
        try:
            yield
        finally:
            self.cpu[stage] = self.cpu.get(stage, 0.0) + clock() - begun
            self.walls[stage] = self.walls.get(stage, 0.0) + time.perf_counter() - wall
            self.seconds[stage] = self.walls[stage]

way.Stopwatch = Watch
start, begun = time.process_time(), time.perf_counter()
pre, post, out, footprints, stretch = sys.argv[1:]
extra = {"footprints": Path(footprints)} if footprints else {}
if stretch:
    extra["stretch"] = tuple(map(float, stretch.split(",")))
result = task.map_damage(Path(pre), Path(post), Path(out), model="box", backend="auto", **extra)
total, wall = time.process_time(), time.perf_counter() - begun
cpu = {"start": start, **Watch.cpu}
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps({
    "cpu": cpu | {"rest": total - sum(cpu.values())}, "walls": Watch.walls, "cpu_seconds": total, "wall_seconds": wall,
    "peak_mib": peak, "buildings": len(result.buildings), "page_bytes": (Path(out) / "map.html").stat().st_size,
}))
"""


def write_footprints(path: Path, image: Path, count: int, *, touching: int | None = None) -> Path:
    """Rectangles of 6 by 8 m on a lattice over an image; all but the first `touching` of them far from it."""
    with rasterio.open(image) as raster:
        (left, bottom, right, top), crs = raster.bounds, raster.crs
    across = max(1, round(np.sqrt(count * (right - left) / (top - bottom))))
    number = np.arange(count)
    x = left + (number % across + 0.5) * (right - left) / across
    y = top - (number // across + 0.5) * (top - bottom) / -(-count // across)
    if touching is not None:
        x[touching:] += 50_000
    frame = geopandas.GeoDataFrame(
        {"osm_id": number.astype(str), "levels": number % 5},
        geometry=shapely.box(x - 3, y - 4, x + 3, y + 4),
        crs=crs.to_wkt(),
    )
    frame.to_file(path, driver="GPKG")
    return path


def store_otherwise(pair: tuple[Path, Path], folder: Path, form: str) -> tuple[Path, Path]:
    """The same pair in another form; see FORMS."""
    if form == "demo":
        words = [sys.executable, "-m", "aftermap.cli.app", "demo", "-o", str(folder / "demo")]
        subprocess.run(words, env=os.environ | {"PYTHONPATH": str(HERE)}, check=True, capture_output=True)
        pre = next((folder / "demo" / "town" / "geotiff").glob("*_pre.tif"))
        return pre, pre.with_name(pre.name.replace("_pre.", "_post."))
    if form == "systems":
        with rasterio.open(pair[1]) as image, WarpedVRT(image, crs="EPSG:4326", add_alpha=False) as there:
            rasterio.shutil.copy(there, folder / "post.tif", driver="GTiff", tiled=True, compress="deflate")
        return pair[0], folder / "post.tif"
    for path in pair:
        if form == "png":
            with rasterio.open(path) as image:
                pixels = np.ascontiguousarray(image.read().transpose(1, 2, 0)[..., ::-1])
            cv2.imwrite(str(folder / f"{path.stem}.png"), pixels)
        elif form == "strips":
            rasterio.shutil.copy(path, folder / path.name, driver="GTiff", compress="deflate")
        else:
            with rasterio.open(path) as image:
                profile = image.profile | {"dtype": "uint16"}
                with rasterio.open(folder / path.name, "w", **profile) as copy:
                    for _, window in image.block_windows(1):
                        copy.write(image.read(window=window).astype(np.uint16) * 9 + 200, window=window)
    ending = "png" if form == "png" else "tif"
    return folder / f"pre.{ending}", folder / f"post.{ending}"


def measure(
    source: Path, folder: Path, pair: tuple[Path, Path], footprints: Path | None, *, stretch: str = ""
) -> dict[str, Any]:
    """One map by one source folder."""
    environment = os.environ | {
        "PYTHONPATH": str(source),
        "OMP_NUM_THREADS": "1",
        "AFTERMAP_CACHE": str(folder / "cache"),
        "AFTERMAP_TRACKING": "off",
        "PYTHONDONTWRITEBYTECODE": "",  # compiled once, as an installation is
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
    }
    with tempfile.TemporaryDirectory(dir=folder) as out:
        words = [*map(str, pair), f"{out}/map", str(footprints or ""), stretch]
        done = subprocess.run(
            [sys.executable, "-c", RUN, *words],
            env=environment,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise SystemExit(f"{source}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The medians of several maps, stage by stage."""
    cpu = {stage: statistics.median(run["cpu"].get(stage, 0.0) for run in runs) for stage in STAGES}
    rest = {
        name: statistics.median(run[name] for run in runs) for name in runs[0] if name not in ("cpu", "walls")
    }
    return {"cpu": cpu, **rest}


def table(case: str, sides: dict[str, dict[str, Any]]) -> list[str]:
    """Rows of a Markdown table: processor seconds of each stage, the whole, wall seconds and memory."""
    rows = [f"| {case} | " + " | ".join(sides) + " |", "|---|" + "---|" * len(sides)]
    rows += [
        f"| {stage} | " + " | ".join(f"{s['cpu'][stage]:.2f}" for s in sides.values()) + " |"
        for stage in STAGES
    ]
    rows.append(
        "| **processor seconds** | "
        + " | ".join(f"**{s['cpu_seconds']:.2f}**" for s in sides.values())
        + " |"
    )
    rows.append("| peak MiB | " + " | ".join(f"{s['peak_mib']:,.0f}" for s in sides.values()) + " |")
    rows.append("| page, kB | " + " | ".join(f"{s['page_bytes'] / 1e3:,.0f}" for s in sides.values()) + " |")
    return rows


def draw(path: Path, figures: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Stacked bars: each case as a share of what it took before."""
    from matplotlib.figure import Figure

    bars = [(case, side) for case, sides in figures.items() for side in sides]
    figure = Figure(figsize=(9, 1.2 + 0.5 * len(bars)), layout="constrained")
    axes = figure.subplots()
    names = [f"{case}, {side}" for case, side in bars]
    left = np.zeros(len(bars))
    for number, stage in enumerate(STAGES):
        whole = [next(iter(figures[case].values()))["cpu_seconds"] for case, _ in bars]
        width = [
            figures[case][side]["cpu"][stage] / all_ for (case, side), all_ in zip(bars, whole, strict=True)
        ]
        axes.barh(
            names,
            np.maximum(width, 0),
            left=left,
            label=stage,
            color=f"C{number % 10}",
            alpha=1 - number // 10 / 2,
        )
        left += np.maximum(width, 0)
    for row, (case, side) in enumerate(bars):
        axes.text(left[row] + 0.01, row, f"{figures[case][side]['cpu_seconds']:.1f} s", va="center")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    axes.set_xlabel("processor seconds, as a share of the first bar of each case")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--base", type=Path, help="the older source folder; without it only this one is measured"
    )
    parser.add_argument("--megapixels", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--footprints", type=int, nargs="*", default=[0])
    parser.add_argument(
        "--outside", type=int, default=0, help=f"footprints of which {TOUCHING} touch the image"
    )
    parser.add_argument("--forms", nargs="*", choices=FORMS, default=[], help="how else the pair is stored")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warm", type=int, default=1, help="rounds that are not counted")
    parser.add_argument("--out", type=Path, help="all figures as JSON")
    parser.add_argument("--picture", type=Path, help="stacked bars as PNG")
    arguments = parser.parse_args()
    sources = {"before": arguments.base.resolve()} if arguments.base else {}
    sources["now"] = HERE
    figures: dict[str, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for megapixels in arguments.megapixels:
            place = folder / str(megapixels)
            place.mkdir()
            pair = write_mosaics(place, megapixels, min(WIDTH_PX, round(1024 * megapixels**0.5)))
            cases = {
                f"{count:,} footprints" if count else "traced": (count, None)
                for count in arguments.footprints
            }
            if arguments.outside:
                cases[f"{arguments.outside:,} footprints, {TOUCHING} on it"] = (arguments.outside, TOUCHING)
            cases |= dict.fromkeys(arguments.forms, (0, None))
            for case, (count, touching) in cases.items():
                file = (
                    write_footprints(place / "f.gpkg", pair[0], count, touching=touching) if count else None
                )
                images, stretch = pair, "2,98" if case == "bits" else ""
                if case in FORMS:
                    (place / case).mkdir()
                    images = store_otherwise(pair, place / case, case)
                runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sources}
                for turn in range(arguments.repeats + arguments.warm):
                    for side, source in sources.items():
                        found = measure(source, folder, images, file, stretch=stretch)
                        if turn >= arguments.warm:
                            runs[side].append(found)
                        print(
                            f"{megapixels} Mpx, {case}, {side}: {found['cpu_seconds']:.2f} s", file=sys.stderr
                        )
                sides = {side: median(found) for side, found in runs.items()}
                figures[f"{megapixels} Mpx, {case}"] = sides
                print("\n".join(table(f"{megapixels} Mpx, {case}", sides)), end="\n\n", flush=True)
                for side, told in sides.items():
                    if told["cpu"]["rest"] > UNEXPLAINED * told["cpu_seconds"]:
                        print(f"{side}: no stage holds {told['cpu']['rest']:.2f} s", file=sys.stderr)
                (place / "f.gpkg").unlink(missing_ok=True)
                if arguments.out:
                    arguments.out.write_text(json.dumps(figures, indent=1) + "\n")
    if arguments.picture:
        draw(arguments.picture, figures)


if __name__ == "__main__":
    main()
