"""Where each image file of a map lies, kept beside the map so that it can be counted by scene without the images."""

from pathlib import Path

import geopandas
import shapely
from pyproj import CRS, Transformer

from aftermap.geo.datum import transforming
from aftermap.products.vectors import write_file
from aftermap.workflows.mapping.inputs.dates import Inputs

SCENES = "scenes"
"""Name of the layer and of its file: a row for each image file, with `date` (`pre`, `post` or `image`) and `file`."""

_PARTS = 16  # of a side, which bends between reference systems


def write_scenes(inputs: Inputs, folder: Path) -> None:
    """Write `scenes.gpkg` in the map's reference system, those that go before others first; nothing of a map in pixels.

    Raises:
        OutputError: it cannot be written.
    """
    if inputs.grid.crs is None:
        return
    system = CRS.from_wkt(inputs.grid.crs.to_wkt())
    rows = []
    for date, source in inputs.scene.sources.items():
        for path, grid in zip(source.files, source.grids, strict=True):
            assert grid.crs is not None
            left, bottom, right, top = grid.bounds
            side = max(right - left, top - bottom) / _PARTS
            outline = shapely.segmentize(shapely.Polygon(grid.corners), max(side, 1e-9))
            with transforming():
                there = Transformer.from_crs(CRS.from_wkt(grid.crs.to_wkt()), system, always_xy=True)
            shape = shapely.transform(outline, there.transform, interleaved=False)
            rows.append((date, path.name, shape))
    dates, names, shapes = zip(*rows, strict=True)
    frame = geopandas.GeoDataFrame({"date": dates, "file": names}, geometry=list(shapes), crs=system)
    write_file(frame, folder / f"{SCENES}.gpkg", SCENES)
