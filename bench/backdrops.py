"""Real towns for `data synth --backdrop`, from ../shared/data, at resolutions of satellites: for `make field`.

    python bench/backdrops.py build/backdrops

`banepa.tif` is the labelled block of `hotosm-banepa` in one piece at 0.3 m; `ggaba` the tiles of `oam-ggaba` of 0.3 and
0.15 m. Imagery: OpenAerialMap contributors, CC BY 4.0; outlines (c) OpenStreetMap contributors, ODbL 1.0.
"""

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import rasterio
from rasterio.transform import from_origin

from aftermap.geo.raster import RasterSource
from aftermap.synthetic.photos import image_grid

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def mosaic(files: list[Path], out: Path) -> None:
    """Web map tiles side by side, at half their resolution."""
    grids = [image_grid(file) for file in files]
    step = grids[0].transform.a
    left, top = min(g.transform.c for g in grids), max(g.transform.f for g in grids)
    places = [(round((top - g.transform.f) / step), round((g.transform.c - left) / step)) for g in grids]
    side = grids[0].width
    image = np.zeros((max(r for r, _ in places) + side, max(c for _, c in places) + side, 3), np.uint8)
    for file, (row, col) in zip(files, places, strict=True):
        source = RasterSource.open(file)
        image[row : row + side, col : col + side] = source.read(source.grid).array[:3].transpose(1, 2, 0)
    half = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    profile = {
        "driver": "GTiff",
        "width": half.shape[1],
        "height": half.shape[0],
        "count": 3,
        "dtype": "uint8",
    }
    transform = from_origin(left, top, 2 * step, 2 * step)
    with rasterio.open(out, "w", crs="EPSG:3857", transform=transform, compress="deflate", **profile) as made:
        made.write(half.transpose(2, 0, 1))


def main() -> None:
    out = Path(sys.argv[1])
    (out / "ggaba").mkdir(parents=True, exist_ok=True)
    mosaic(sorted((DATA / "hotosm-banepa" / "train").glob("*.tif")), out / "banepa.tif")
    for zoom in (19, 20):
        for tile in sorted((DATA / "oam-ggaba" / "images").glob(f"*-{zoom}.png")):
            shutil.copy(tile, out / "ggaba" / tile.name)


if __name__ == "__main__":
    main()
