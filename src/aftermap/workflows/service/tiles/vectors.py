"""Buildings as vector tiles (MVT in MBTiles): outlines at one zoom that the page enlarges, points below it."""

import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError

from aftermap.files import replacing
from aftermap.geo.grid import Grid
from aftermap.products.vectors import LAYER
from aftermap.workflows.service.tiles.ground import HALF, laid_frame

OUTLINES_ZOOM = 16
"""Where outlines begin, and the last zoom that is made: a screen holds about a square kilometre then, with no more
outlines than it can draw in time; 4096 steps a tile are 0.15 m on the ground."""

_EXTENT = 4096
_POINTS_PER_TILE = 4_000
"""A screen shows about ten tiles: more points would cover one another."""

_LEAST_ZOOM = 6
_MOST_BYTES, _MOST_FEATURES = 5_000_000, 1_000_000
"""Of a tile: very dense ones are kept whole."""

_COLUMNS = "zoom_level, tile_column, tile_row, tile_data"
_FAILURES = (DataSourceError, DataLayerError)

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
    _write(shown, folder / f"{name}-outlines.mbtiles", (OUTLINES_ZOOM, OUTLINES_ZOOM))
    going()
    points = shown.set_geometry(shown.geometry.representative_point())
    # rows in an order that has nothing to do with where they lie: the first of them are some of everywhere
    mixed = points.iloc[np.random.default_rng(0).permutation(len(points))]
    _write_points(mixed, folder / f"{name}-points.mbtiles", (least, OUTLINES_ZOOM - 1), going)
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


def _write_points(
    frame: geopandas.GeoDataFrame, path: Path, zooms: tuple[int, int], going: Callable[[], None]
) -> None:
    """One share of all points at each zoom: a map that thinned out its full tiles alone would show edges of tiles."""
    x, y = (np.asarray(values, float) for values in (frame.geometry.x, frame.geometry.y))
    with replacing(path, also=_FAILURES, sync=False) as part:
        _write_empty(part)
        for zoom in range(zooms[0], zooms[1] + 1 if len(frame) else zooms[0]):
            side = 2 * HALF / 2**zoom
            tiles = (x // side).astype(np.int64) * 2**zoom + (y // side).astype(np.int64)
            fullest = int(np.unique(tiles, return_counts=True)[1].max())
            kept = max(1, len(frame) * _POINTS_PER_TILE // max(fullest, _POINTS_PER_TILE))
            with (
                _made(frame.iloc[:kept], part.parent, (zoom, zoom)) as made,
                closing(sqlite3.connect(part)) as file,
            ):
                file.execute("ATTACH ? AS made", (str(made),))
                file.execute(f"INSERT INTO tiles SELECT {_COLUMNS} FROM made.tiles")
                file.commit()
            going()


def _write(frame: geopandas.GeoDataFrame, path: Path, zooms: tuple[int, int]) -> None:
    with replacing(path, also=_FAILURES, sync=False) as part:
        if frame.empty:
            _write_empty(part)
            return
        with _made(frame, part.parent, zooms) as made:
            made.replace(part)


@contextmanager
def _made(frame: geopandas.GeoDataFrame, folder: Path, zooms: tuple[int, int]) -> Iterator[Path]:
    """A file of tiles that is gone when the block ends."""
    # the driver keeps a file of its own while it works, whose name has to be free
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as work, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = Path(work) / "tiles.mbtiles"
        pyogrio.write_dataframe(
            frame,
            made,
            driver="MVT",
            layer=LAYER,
            FORMAT="MBTILES",
            MINZOOM=zooms[0],
            MAXZOOM=zooms[1],
            EXTENT=_EXTENT,
            BUFFER=80,
            SIMPLIFICATION=0,
            MAX_SIZE=_MOST_BYTES,
            MAX_FEATURES=_MOST_FEATURES,
            TEMPORARY_DB=str(Path(work) / "temporary.db"),
        )
        yield made


def _write_empty(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute(
            "CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB)"
        )
        file.execute("CREATE UNIQUE INDEX tile ON tiles (zoom_level, tile_column, tile_row)")
        file.commit()
