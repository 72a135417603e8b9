"""Time and memory of `aftermap map` against the size of the scene.

    python bench/map_scale.py --megapixels 4 16 64 100 256 --out bench/map_scale.json
    python bench/map_scale.py --megapixels 100 --width 10000 --model students/fast --backend openvino --out square.json

Each size is mapped in a process of its own, twice as large scenes being twice as high: the width stays, so that peak
memory has to stay too. Scenes are mosaics of one synthesised pair, written row by row; `--model` may be anything that
`aftermap map --model` takes. Start-up (imports) is told apart from the map; the time of a command is the sum of both.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

from aftermap.synthetic import make_pair

WIDTH_PX = 4096
TILE_PX = 1024
RUN = """
import json, resource, sys, time
begun = time.perf_counter()
from pathlib import Path
from aftermap.workflows.mapping.damage import map_damage
startup = time.perf_counter() - begun
pre, post, out, model, backend, threads = sys.argv[1:]
if int(threads):
    import torch
    torch.set_num_threads(int(threads))
start = resource.getrusage(resource.RUSAGE_SELF)
before, begun = start.ru_utime + start.ru_stime, time.perf_counter()
result = map_damage(Path(pre), Path(post), Path(out), model=model, backend=backend or "auto", threads=int(threads))
seconds = time.perf_counter() - begun
usage = resource.getrusage(resource.RUSAGE_SELF)
measured = {
    "startup_seconds": startup,
    "seconds": seconds,
    "cpu_seconds": usage.ru_utime + usage.ru_stime - before,
    "imports_mib": start.ru_maxrss / 1024,
    "peak_mib": usage.ru_maxrss / 1024,
    "buildings": len(result.buildings),
    "stages": {stage: round(value, 3) for stage, value in result.stages.items()},
    "gate": result.gate,
}
print(json.dumps(measured))
"""


def write_mosaics(folder: Path, megapixels: int, width: int) -> tuple[Path, Path]:
    """Two GeoTIFFs of about this many pixels; tiles are mirrored in turn so that the seams are not edges."""
    pair = make_pair(11, size_px=TILE_PX, kind="wind")
    height = round(megapixels * 1e6 / width)
    paths = []
    for date, tile in (("pre", pair.pre), ("post", pair.post)):
        path = folder / f"{date}.tif"
        across = np.concatenate([tile, tile[:, :, ::-1]] * -(-width // (2 * TILE_PX)), axis=2)[:, :, :width]
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=width,
            height=height,
            count=3,
            dtype="uint8",
            crs="EPSG:32615",
            transform=rasterio.Affine(pair.gsd_m, 0, 300_000, 0, -pair.gsd_m, 4_500_000),
            tiled=True,
            blockxsize=512,
            blockysize=512,
            compress="deflate",
            zlevel=1,
            bigtiff="if_safer",
        ) as file:
            for number, row in enumerate(range(0, height, TILE_PX)):
                rows = across[:, ::-1] if number % 2 else across
                count = min(TILE_PX, height - row)
                file.write(rows[:, :count], window=Window(0, row, width, count))
        paths.append(path)
    return paths[0], paths[1]


def measure(
    megapixels: int, width: int, model: str, *, backend: str, threads: int, scratch: Path | None
) -> dict[str, Any]:
    """Map a scene of this size in a process of its own."""
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        pre, post = write_mosaics(folder, megapixels, width)
        environment = dict(os.environ)
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        done = subprocess.run(
            [sys.executable, "-c", RUN, *map(str, (pre, post, folder / "map", model, backend, threads))],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"megapixels": megapixels, "seconds_per_megapixel": measured["seconds"] / megapixels, **measured}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megapixels", type=int, nargs="+", default=[4, 16, 64, 100, 256])
    parser.add_argument("--width", type=int, default=WIDTH_PX)
    parser.add_argument("--model", default="box")
    parser.add_argument("--backend", default="", help="as of aftermap map; by default what that takes")
    parser.add_argument("--threads", type=int, default=0, help="of the processor; 0 leaves it to the runtime")
    parser.add_argument("--scratch", type=Path, help="folder for the mosaics; the system's by default")
    parser.add_argument("--out", type=Path, default=Path("bench/map_scale.json"))
    arguments = parser.parse_args()
    rows = []
    print(f"{'Mpx':>6} {'s':>8} {'s/Mpx':>7} {'CPU s/Mpx':>9} {'peak MiB':>9} {'buildings':>9}")
    for megapixels in sorted(arguments.megapixels):
        row = measure(
            megapixels,
            arguments.width,
            arguments.model,
            backend=arguments.backend,
            threads=arguments.threads,
            scratch=arguments.scratch,
        )
        rows.append(row)
        print(
            f"{megapixels:>6} {row['seconds']:>8.1f} {row['seconds_per_megapixel']:>7.3f} "
            f"{row['cpu_seconds'] / megapixels:>9.3f} {row['peak_mib']:>9.0f} {row['buildings']:>9.0f}",
            flush=True,
        )
        print(
            "       " + ", ".join(f"{stage} {value:.1f} s" for stage, value in row["stages"].items()),
            flush=True,
        )
    by_size = {row["megapixels"]: row for row in rows}
    report: dict[str, object] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads": arguments.threads},
        "width_px": arguments.width,
        "model": arguments.model,
        "backend": arguments.backend or None,
        "sizes": rows,
    }
    if {16, 256} <= by_size.keys():
        ratio = by_size[256]["seconds_per_megapixel"] / by_size[16]["seconds_per_megapixel"]
        report["time_ratio_256_to_16"] = ratio
        report["memory_ratio_256_to_16"] = by_size[256]["peak_mib"] / by_size[16]["peak_mib"]
        print(f"seconds per megapixel, 256 to 16: {ratio:.3f} (below 1.15 is linear)")
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
