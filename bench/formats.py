"""Seconds of processor time and megabytes of each format that `aftermap package` writes, and of `aftermap areas`.

    python bench/formats.py --buildings 30000

The map is made up: square buildings at random places of 10 km by 10 km, without a model.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from aftermap import api
from aftermap.geo.grid import Grid
from aftermap.workflows.package.formats import FORMATS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import finished_maps

CLASSES = (*finished_maps.SHARES, "not-assessed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--buildings", type=int, default=30_000)
    parser.add_argument("--formats", default=",".join(FORMATS))
    arguments = parser.parse_args()
    grid = Grid(CRS.from_epsg(32615), Affine(0.5, 0, 400_000, 0, -0.5, 4_100_000), 20_000, 20_000)
    random = np.random.default_rng(0)
    places = random.uniform(50, 19_950, (arguments.buildings, 2)).tolist()
    damage = random.choice(CLASSES, arguments.buildings, p=(0.6, 0.1, 0.1, 0.15, 0.05)).tolist()
    with tempfile.TemporaryDirectory() as folder:
        out = finished_maps.finish(
            Path(folder) / "map", finished_maps.table(places, damage, grid, side_px=24), grid
        )
        for each in arguments.formats.split(","):
            start = time.process_time()
            (path,) = api.package(out, [each])
            print(
                f"{each:12s} {time.process_time() - start:6.1f} s {path.stat().st_size / 1e6:6.1f} MB",
                flush=True,
            )
        for name, options in (("h3 9", {"h3": 9}), ("grid 500", {"grid": 500})):
            start = time.process_time()
            (result,) = api.areas(out, **options)
            print(f"{name:12s} {time.process_time() - start:6.1f} s {len(result.areas):6d} areas", flush=True)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
