"""Tiles: images and damage of 256 px, buildings as vector tiles; of a caller's area, nothing outside of it."""

import gzip
from collections import OrderedDict
from pathlib import Path as File
from sqlite3 import Connection
from threading import Lock
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, HTTPException, Path, Request, Response

from aftermap.web.service.access import Id, Reader, TheService, the_map
from aftermap.web.service.service import Service
from aftermap.workflows.service.maps import MapRecord, View
from aftermap.workflows.service.tiles.display import vector_tiles
from aftermap.workflows.service.tiles.ground import Tile
from aftermap.workflows.service.tiles.reading import EMPTY, RasterTiles, hidden
from aftermap.workflows.service.tiles.vectors import open_tiles, read_tile
from aftermap.workflows.service.tokens import Caller

router = APIRouter(prefix="/api/maps", tags=["tiles"])

Layer = Literal["pre", "post", "damage"]
Zoom = Annotated[int, Path(ge=0, le=24)]
Step = Annotated[int, Path(ge=0, le=2**24 - 1)]

_KEPT = {"cache-control": "private, max-age=3600", "vary": "cookie, authorization"}
"""A browser that somebody else signs in with asks again."""

_KNOWN_SECONDS = 5.0
_MOST_OPEN = 64
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"image/jpeg": {}, "image/webp": {}},
        "description": "The tile, JPEG where all of it is seen; transparent where nothing is, or may be",
    }
}
_MVT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/vnd.mapbox-vector-tile": {}}, "description": "The tile"},
    204: {"description": "There is nothing in it"},
}


class TileShelf:
    """Open files of tiles, and the maps that were asked for a moment ago."""

    def __init__(self) -> None:
        self.rasters = RasterTiles()
        self._vectors: OrderedDict[tuple[File, int], Connection] = OrderedDict()
        self._maps: OrderedDict[tuple[str, str], tuple[MapRecord, View, float]] = OrderedDict()
        self._turn = Lock()

    async def map(self, service: Service, caller: Caller, number: str) -> tuple[MapRecord, View]:
        """A map that a caller may see; looked up once in a few seconds, since a page asks for many tiles."""
        key, now = (number, caller.id), anyio.current_time()
        known = self._maps.get(key)
        if known is not None and now - known[2] < _KNOWN_SECONDS:
            return known[:2]
        record, view = await anyio.to_thread.run_sync(the_map, service, caller, number)
        self._maps[key] = record, view, now
        while len(self._maps) > 1000:
            self._maps.popitem(last=False)
        return record, view

    def vectors(self, path: File, tile: Tile) -> bytes | None:
        """A vector tile as it is stored, gzipped.

        Raises:
            FileNotFoundError: there is no such file.
        """
        key = (path, path.stat().st_mtime_ns)
        with self._turn:
            if key not in self._vectors:
                for old in [old for old in self._vectors if old[0] == path]:
                    self._vectors.pop(old).close()
                while len(self._vectors) >= _MOST_OPEN:
                    self._vectors.popitem(last=False)[1].close()
                self._vectors[key] = open_tiles(path)
            self._vectors.move_to_end(key)
            return read_tile(self._vectors[key], tile.zoom, tile.x, tile.y)


@router.get("/{number}/tiles/buildings/{z}/{x}/{y}", response_class=Response, responses=_MVT)
async def buildings(
    service: TheService, caller: Reader, request: Request, number: Id, z: Zoom, x: Step, y: Step
) -> Response:
    """Buildings: points far away, outlines from where they can be seen, which the page enlarges beyond the last zoom."""
    shelf: TileShelf = request.app.state.shelf
    record, view = await shelf.map(service, caller, number)
    tile = _tile(z, x, y)
    shown = record.described["buildings"]
    if not shown["minzoom"] <= z <= shown["maxzoom"]:
        return Response(status_code=204, headers=_KEPT)
    area = None if view == "whole" else caller.area
    kind = "outlines" if z >= shown["outlines_from"] else "points"
    folder = service.place.display(number)

    def find() -> bytes | None:
        path = vector_tiles(lambda: service.maps.opened(number), folder, area, kind)
        return shelf.vectors(path, tile)

    try:
        data = await anyio.to_thread.run_sync(find)
    except FileNotFoundError:
        raise HTTPException(404, "the tiles of this map are being made") from None
    if data is None:
        return Response(status_code=204, headers=_KEPT)
    packed = data[:2] == b"\x1f\x8b"
    if packed and "gzip" not in request.headers.get("accept-encoding", ""):
        data, packed = gzip.decompress(data), False
    headers = (
        _KEPT
        | ({"content-encoding": "gzip"} if packed else {})
        | {"vary": "accept-encoding, cookie, authorization"}
    )
    return Response(data, media_type="application/vnd.mapbox-vector-tile", headers=headers)


@router.get("/{number}/tiles/{layer}/{z}/{x}/{y}", response_class=Response, responses=_PICTURE)
async def raster(
    service: TheService, caller: Reader, request: Request, number: Id, layer: Layer, z: Zoom, x: Step, y: Step
) -> Response:
    """The image from before or after, or the damage, at full resolution."""
    shelf: TileShelf = request.app.state.shelf
    record, view = await shelf.map(service, caller, number)
    tile = _tile(z, x, y)
    if layer not in record.described["rasters"]:
        raise HTTPException(404, f"this map keeps no {layer}")
    path = service.place.display(number) / f"{layer}.tif"
    area = None if view == "whole" else caller.area
    try:
        known, data = shelf.rasters.at_once(path, tile)
        if not known:
            data = await anyio.to_thread.run_sync(shelf.rasters.drawn, path, tile)
    except FileNotFoundError:
        raise HTTPException(404, "the tiles of this map are being made") from None
    if data is not None and area is not None:
        data = await anyio.to_thread.run_sync(hidden, data, tile, area)
    data = EMPTY if data is None else data
    kind = "image/jpeg" if data.startswith(b"\xff\xd8") else "image/webp"
    return Response(data, media_type=kind, headers=_KEPT)


def _tile(z: int, x: int, y: int) -> Tile:
    tile = Tile(z, x, y)
    if not tile.exists:
        raise HTTPException(404, "there is no such tile")
    return tile
