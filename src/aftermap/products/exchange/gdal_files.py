"""What GDAL's own drivers write: FlatGeobuf, and vector tiles in one file (PMTiles)."""

import warnings
from pathlib import Path
from typing import Any

import geopandas
import pandas as pd

from aftermap.products.vectors import in_degrees

TILE_ZOOMS = (10, 16)
"""From a town on a screen to a house on it; beyond the last, viewers enlarge its tiles."""

_EXACT = 2**53
_TILE_BYTES = 20_000_000
_TILE_FEATURES = 2_000_000


def write_flatgeobuf(frame: geopandas.GeoDataFrame, path: Path, layer: str) -> None:
    """Write a FlatGeobuf in the frame's reference system; its spatial index puts the rows into another order.

    Raises:
        DataSourceError: it cannot be written.
    """
    _write(frame, path, layer, "FlatGeobuf")


def write_pmtiles(frame: geopandas.GeoDataFrame, path: Path, layer: str, *, description: str) -> None:
    """Write vector tiles for web maps, of the zoom levels `TILE_ZOOMS`; no building is dropped at any of them.

    Whole numbers beyond 2^53 are text in them, because browsers have no such numbers. Outlines are rounded to the grid of
    a tile, 1/4096 of its side: 15 cm at the last level on the equator.

    Args:
        frame: buildings with a reference system, at least one.
        path: the file.
        layer: name of the layer in the tiles.
        description: told by viewers.

    Raises:
        DataSourceError: it cannot be written.
    """
    least, most = TILE_ZOOMS
    degrees = frame.assign(**{name: browsable(frame[name]) for name in _columns(frame)})
    degrees = degrees.set_geometry(in_degrees(frame)).set_crs("EPSG:4326", allow_override=True)
    _write(
        degrees,
        path,
        layer,
        "PMTiles",
        dataset_options={
            "NAME": layer,
            "DESCRIPTION": description,
            "TYPE": "overlay",
            "MINZOOM": least,
            "MAXZOOM": most,
            # by default tiles of many buildings lose some of them
            "MAX_SIZE": _TILE_BYTES,
            "MAX_FEATURES": _TILE_FEATURES,
        },
    )


def browsable(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """A column in which whole numbers that a double cannot hold are text."""
    if column.dtype.kind in "iu" and any(abs(int(value)) > _EXACT for value in column.dropna()):
        return pd.Series(
            [None if pd.isna(value) else str(value) for value in column], column.index, dtype=object
        )
    return column


def _columns(frame: geopandas.GeoDataFrame) -> list[str]:
    return [name for name in frame.columns if name != frame.geometry.name]


def _write(frame: geopandas.GeoDataFrame, path: Path, layer: str, driver: str, **options: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        frame.to_file(
            path, layer=layer, driver=driver, geometry_type="MultiPolygon", promote_to_multi=True, **options
        )
