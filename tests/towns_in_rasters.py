"""A raster with bright buildings on dark ground, and the footprints beside it."""

import geopandas
import numpy as np
import rasterio
from affine import Affine
from scipy import ndimage
from shapely.geometry import box

CRS = "EPSG:32636"
ORIGIN = (500_000.0, 100_000.0)
RESOLUTION = 0.5
HOUSES = [(8, 8, 20, 16), (40, 10, 56, 26), (70, 70, 90, 84), (100, 12, 110, 30), (20, 96, 44, 110)]
"""Left, top, right, bottom in pixels of a 128 px image."""


def write_raster(
    path, houses=HOUSES, *, size=128, bands=3, dtype="uint8", shift=(0, 0), nodata=None, empty=None
):
    """A GeoTIFF of `size` px whose houses lie `shift` px beside `houses`; `empty` is a slice of columns of nodata."""
    rng = np.random.default_rng(0)
    ground = ndimage.gaussian_filter(rng.normal(90, 25, (size, size)), 2)
    for left, top, right, bottom in houses:
        ground[top + shift[1] : bottom + shift[1], left + shift[0] : right + shift[0]] = 210
    image = np.stack([np.clip(ground + 10 * band, 1, 255) for band in range(bands)])
    if empty is not None:
        image[:, :, empty] = nodata
    scale = 1 if dtype == "uint8" else 40
    x, y = ORIGIN
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype=dtype,
        count=bands,
        height=size,
        width=size,
        crs=CRS,
        transform=Affine(RESOLUTION, 0, x, 0, -RESOLUTION, y),
        nodata=nodata,
    ) as file:
        file.write((image * scale).astype(dtype))
    return path


def footprints(houses=HOUSES):
    """The houses in metres."""
    x, y = ORIGIN
    shapes = [
        box(x + left * RESOLUTION, y - bottom * RESOLUTION, x + right * RESOLUTION, y - top * RESOLUTION)
        for left, top, right, bottom in houses
    ]
    return geopandas.GeoDataFrame(geometry=shapes, crs=CRS)


def write_footprints(path, houses=HOUSES, *, crs=4326):
    """The houses as GeoJSON in degrees, or in the reference system given."""
    footprints(houses).to_crs(crs).to_file(path, driver="GPKG" if path.suffix == ".gpkg" else "GeoJSON")
    return path
