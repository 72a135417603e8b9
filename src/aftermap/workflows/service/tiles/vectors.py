"""Buildings as vector tiles (MVT in MBTiles): outlines at one zoom that the page enlarges, points below it."""

import sqlite3
import tempfile
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError

from aftermap.files import replacing
from aftermap.geo.grid import Grid
from aftermap.products.vectors import LAYER
from aftermap.workflows.service.tiles.ground import HALF, laid_frame

OUTLINES_ZOOM = 14
"""Where outlines begin, and the last zoom that is made: 8192 steps a tile are 0.3 m on the ground."""

_EXTENT = 8192
_POINTS_PER_TILE = 20_000
_LEAST_ZOOM = 6

ATTRIBUTES = ("row", "id", "damage", "confidence", "area_m2")
"""Of an outline, and of a point."""


def write_vector_tiles(
    frame: geopandas.GeoDataFrame, grid: Grid, folder: Path, name: str, *, going: Callable[[], None]
) -> int:
    """Write `<name>-outlines.mbtiles` and `<name>-points.mbtiles`; the least zoom.

    Args:
        frame: buildings of a map, with their `row` in its table.
        grid: of the map.
        folder: where to write.
        name: of the files.
        going: called between steps; it may raise to end the work.

    Raises:
        OutputError: a file cannot be written.
    """
    laid = laid_frame(frame, grid)
    shown = geopandas.GeoDataFrame(
        {
            "row": frame["row"].to_numpy(np.int32),
            "id": frame["building_id"].astype(str).to_numpy(object),
            "damage": frame["damage"].astype(str).to_numpy(object),
            "confidence": frame["confidence"].astype(float).round(2).to_numpy(),
            "area_m2": frame["area_m2"].astype(float).round(0).to_numpy(),
        },
        geometry=laid.geometry.to_numpy(),
        crs=3857,
    )
    least = _least_zoom(shown)
    going()
    # outlines of a very dense tile are kept whole: 5 MB a tile at most
    _write(shown, folder / f"{name}-outlines.mbtiles", (OUTLINES_ZOOM, OUTLINES_ZOOM), 5_000_000, 1_000_000)
    going()
    points = shown.set_geometry(shown.geometry.representative_point())
    # rows in an order that has nothing to do with where they lie: a full tile leaves out some of everywhere
    mixed = points.iloc[np.random.default_rng(0).permutation(len(points))]
    _write(mixed, folder / f"{name}-points.mbtiles", (least, OUTLINES_ZOOM - 1), 500_000, _POINTS_PER_TILE)
    return least


def read_tile(file: sqlite3.Connection, zoom: int, x: int, y: int) -> bytes | None:
    """A tile as it is stored, gzipped; None where there is nothing in it."""
    row = file.execute(
        "SELECT tile_data FROM tiles WHERE zoom_level=? AND tile_column=? AND tile_row=?",
        (zoom, x, 2**zoom - 1 - y),
    ).fetchone()
    return None if row is None else bytes(row[0])


def open_tiles(path: Path) -> sqlite3.Connection:
    """A file of tiles, for reading alone."""
    return sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True, check_same_thread=False)


def _least_zoom(frame: geopandas.GeoDataFrame) -> int:
    """From which all of them are seen within half a tile, as a page shows it to a phone."""
    if frame.empty:
        return OUTLINES_ZOOM - 1
    west, south, east, north = frame.total_bounds
    side = max(east - west, north - south, 1.0)
    return int(np.clip(np.floor(np.log2(2 * HALF / side)) - 1, _LEAST_ZOOM, OUTLINES_ZOOM - 1))


def _write(
    frame: geopandas.GeoDataFrame, path: Path, zooms: tuple[int, int], size: int, features: int
) -> None:
    with replacing(path, also=(DataSourceError, DataLayerError), sync=False) as part:
        if frame.empty:
            _write_empty(part)
            return
        # the driver keeps a file of its own while it works, whose name has to be free
        with (
            tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as folder,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            made = Path(folder) / "tiles.mbtiles"
            pyogrio.write_dataframe(
                frame,
                made,
                driver="MVT",
                layer=LAYER,
                FORMAT="MBTILES",
                MINZOOM=zooms[0],
                MAXZOOM=zooms[1],
                EXTENT=_EXTENT,
                BUFFER=160,
                SIMPLIFICATION=0,
                MAX_SIZE=size,
                MAX_FEATURES=features,
                TEMPORARY_DB=str(Path(folder) / "temporary.db"),
            )
            made.replace(part)


def _write_empty(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute(
            "CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB)"
        )
        file.commit()
