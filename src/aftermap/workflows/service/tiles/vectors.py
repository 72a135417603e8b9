"""Buildings as vector tiles (MVT in MBTiles): outlines where they are large enough to be seen, points below."""

import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError

from aftermap.files import replacing
from aftermap.geo.grid import Grid
from aftermap.products.vectors import LAYER
from aftermap.workflows.service.tiles.ground import HALF, laid_frame

_LAST_ZOOM = 17
"""The last that is made unless outlines begin later: the page enlarges it. 4096 steps a tile are 0.07 m on the ground."""

_FIRST_OUTLINES, _LAST_OUTLINES = 14, 18
_LEAST_PX = 3.0
"""Side of the middle one of all buildings, from which their outlines are drawn; a tile is shown with 512 px and more."""

_OUTLINES_PER_TILE, _POINTS_PER_TILE = 6_000, 3_000
"""Of the fullest tile. A screen shows up to ten tiles: more would cover one another, and take longer than the images."""

_TILE_PX = 512
_EXTENT = 4096
_SIMPLER = 4
"""Steps of the extent, half a pixel, by which outlines are simpler below the last zoom."""

_LEAST_ZOOM = 6
_MOST_BYTES, _MOST_FEATURES = 1_000_000, 100_000
"""Of a tile, whatever lies in it."""

_COLUMNS = "zoom_level, tile_column, tile_row, tile_data"
_FAILURES = (DataSourceError, DataLayerError)

ATTRIBUTES = ("row", "id", "damage", "confidence", "area_m2")
"""Of an outline, and of a point."""


@dataclass(frozen=True, slots=True)
class Zooms:
    """What is made at which zoom.

    Attributes:
        least: of points; all buildings are seen within half a tile, as a page shows it to a phone.
        outlines: the first with outlines.
        last: that is made.
    """

    least: int
    outlines: int
    last: int


def zooms_of(frame: geopandas.GeoDataFrame, grid: Grid) -> Zooms:
    """The zooms that suit buildings: outlines begin where the middle one is seen, and no tile is too full.

    Args:
        frame: buildings of a map.
        grid: of the map.
    """
    if frame.empty:
        return Zooms(_LAST_ZOOM - 1, _LAST_ZOOM, _LAST_ZOOM)
    laid = laid_frame(frame, grid)
    west, south, east, north = laid.total_bounds
    side = max(east - west, north - south, 1.0)
    least = int(np.clip(np.floor(np.log2(2 * HALF / side)) - 1, _LEAST_ZOOM, _FIRST_OUTLINES - 1))
    middle = float(np.sqrt(np.median(laid.area)))
    points = laid.representative_point()
    x, y = points.x.to_numpy(float), points.y.to_numpy(float)
    outlines = next(
        (
            zoom
            for zoom in range(_FIRST_OUTLINES, _LAST_OUTLINES)
            if middle >= _LEAST_PX * _side(zoom) / _TILE_PX
            and _fullest(x, y, _side(zoom)) <= _OUTLINES_PER_TILE
        ),
        _LAST_OUTLINES,
    )
    return Zooms(least, outlines, max(_LAST_ZOOM, outlines))


def write_vector_tiles(
    frame: geopandas.GeoDataFrame,
    grid: Grid,
    folder: Path,
    name: str,
    zooms: Zooms,
    *,
    going: Callable[[], None],
) -> None:
    """Write `<name>-outlines.mbtiles` and `<name>-points.mbtiles`.

    Args:
        frame: buildings of a map, with their `row` in its table.
        grid: of the map.
        folder: where to write.
        name: of the files.
        zooms: what is made at which.
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
    going()
    _write(shown, folder / f"{name}-outlines.mbtiles", (zooms.outlines, zooms.last))
    going()
    points = shown.set_geometry(shown.geometry.representative_point())
    # rows in an order that has nothing to do with where they lie: the first of some is any of them
    mixed = points.iloc[np.random.default_rng(0).permutation(len(points))]
    _write_points(mixed, folder / f"{name}-points.mbtiles", (zooms.least, zooms.outlines - 1), going)


def thinned(x: np.ndarray, y: np.ndarray, classes: np.ndarray, zoom: int, most: int) -> np.ndarray:
    """Rows of points that are kept at a zoom, so that no tile holds more than so many.

    In each cell of a grid over all tiles the first of each class stays, which takes half of the room: a class that is
    rare is lost nowhere. The other half is a share of all, so that dense places look dense. Tiles show no edges, and what
    is kept at a zoom is kept at the next one.

    Args:
        x: metres on the web's grid (n), in an order that has nothing to do with where they lie.
        y: the same.
        classes: codes (n).
        zoom: of the tiles.
        most: in the fullest one.
    """
    side, rows = _side(zoom), np.arange(len(x))
    fullest = _fullest(x, y, side)
    if fullest <= most:
        return rows
    px, of_each = 2, rows
    while _fullest(x[of_each], y[of_each], side) > most / 2 and px < _TILE_PX:
        px *= 2
        cells = _cells(x, y, side * px / _TILE_PX) * (int(classes.max()) + 1) + classes
        of_each = np.unique(cells, return_index=True)[1]
    share = len(x) * most // fullest
    while True:
        kept: np.ndarray = np.union1d(of_each, rows[:share])
        if share == 0 or _fullest(x[kept], y[kept], side) <= most:
            return kept
        share = share * 9 // 10


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


def _side(zoom: int) -> float:
    """Of a tile, in metres of the web's grid."""
    return float(2 * HALF / 2**zoom)


def _cells(x: np.ndarray, y: np.ndarray, side: float) -> np.ndarray:
    """A number for each cell of a grid over the world."""
    across = np.floor((x + HALF) / side).astype(np.int64)
    cells: np.ndarray = across * int(2 * HALF / side + 1) + np.floor((y + HALF) / side).astype(np.int64)
    return cells


def _fullest(x: np.ndarray, y: np.ndarray, side: float) -> int:
    """How many points the fullest cell holds."""
    return int(np.unique(_cells(x, y, side), return_counts=True)[1].max()) if len(x) else 0


def _write_points(
    frame: geopandas.GeoDataFrame, path: Path, zooms: tuple[int, int], going: Callable[[], None]
) -> None:
    x, y = (np.asarray(values, float) for values in (frame.geometry.x, frame.geometry.y))
    _, classes = np.unique(frame["damage"].to_numpy(str), return_inverse=True)
    with replacing(path, also=_FAILURES, sync=False) as part:
        _write_empty(part)
        for zoom in range(zooms[0], zooms[1] + 1 if len(frame) else zooms[0]):
            kept = frame.iloc[thinned(x, y, classes, zoom, _POINTS_PER_TILE)]
            with _made(kept, part.parent, (zoom, zoom)) as made, closing(sqlite3.connect(part)) as file:
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
            SIMPLIFICATION=_SIMPLER,
            SIMPLIFICATION_MAX_ZOOM=0,
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
