"""Outlines that came back from another program: those of an export of ours that somebody moved, reshaped or added."""

import hashlib
from typing import Any

import geopandas
import numpy as np
import shapely
from rasterio.crs import CRS
from shapely.geometry.base import BaseGeometry

from aftermap.errors import InputError
from aftermap.geo.datum import transforming
from aftermap.workflows.mapping.finished import FinishedMap
from aftermap.workflows.review.answers import Answer
from aftermap.workflows.review.crops import from_geojson, in_pixels, onto, to_geojson
from aftermap.workflows.review.foreign import Foreign
from aftermap.workflows.review.said import NEW

MOVED_PX = 0.2
"""An outline nowhere farther than this from the one that went out was not edited: formats round coordinates."""

_LEAST_PX = 1.0


class Outlines:
    """What the outlines of a file say beside those of the map.

    Args:
        found: the map.
        table: of the file. Only an export of ours is believed to have the map's outlines: other tools have their own.
    """

    def __init__(self, found: FinishedMap, table: Foreign) -> None:
        self._found = found
        ours = table.shapes is not None and table.outlines == {found.outlines_sha256}
        self._shapes: Any = _placed(found, table) if ours else None
        self._own = dict(
            zip(found.buildings["building_id"].astype(str), found.buildings.geometry, strict=True)
        )

    def edited(self, row: int, building_id: str, before: Answer | None) -> dict[str, Any] | None:
        """GeoJSON of the outline in a row: what went out where it was not edited, None for the map's own.

        Raises:
            InputError: it is no polygon on the map any more.
        """
        sent = before.geometry if before is not None else None
        if self._shapes is None:
            return sent
        went_out = self._own.get(building_id) if sent is None else from_geojson(sent, self._found)
        shape = self._polygon(row)
        if went_out is not None and shape is not None:
            old = in_pixels(np.array([went_out], object), self._found.grid)[0]
            if shapely.hausdorff_distance(old.boundary, shape.boundary) > MOVED_PX:
                return to_geojson(shape, self._found.grid)
        return sent

    def added(self, row: int) -> tuple[str, dict[str, Any]] | None:
        """Id and GeoJSON of a building that somebody drew there; None where the row has no outline.

        Raises:
            InputError: it is no polygon on the map.
        """
        shape = None if self._shapes is None else self._polygon(row)
        if shape is None:
            return None
        tree = to_geojson(shape, self._found.grid)
        return NEW + hashlib.sha256(repr(tree).encode()).hexdigest()[:12], tree

    def _polygon(self, row: int) -> BaseGeometry | None:
        shape: BaseGeometry | None = self._shapes[row]
        if shape is None or shape.is_empty:
            return None
        shape = shapely.make_valid(shape)
        parts = [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon"]
        grid = self._found.grid
        whole: BaseGeometry = (
            shapely.MultiPolygon(parts) if len(parts) > 1 else (parts or [shapely.Polygon()])[0]
        )
        if whole.area < _LEAST_PX or not whole.intersects(shapely.box(0, 0, grid.width, grid.height)):
            raise InputError("the outline is no polygon on the map")
        return whole


def _placed(found: FinishedMap, table: Foreign) -> Any:
    """Shapes of a file in pixels of the map; None where nobody knows where they lie."""
    shapes = table.shapes
    assert shapes is not None, "there is nothing to place"
    if found.grid.crs is None:
        return shapes if table.crs is None or table.crs_is_guessed else None
    if table.crs is None:
        return None
    if table.crs == "EPSG:4326":
        return in_pixels(onto(shapes, found.grid), found.grid)
    with transforming():
        moved = geopandas.GeoSeries(shapes, crs=table.crs).to_crs(CRS(found.grid.crs).to_wkt())
    return in_pixels(moved.to_numpy(), found.grid)
