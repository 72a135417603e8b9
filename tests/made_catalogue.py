"""A static STAC catalogue laid out as Vantor's (Maxar's) open data: events, acquisitions, tiles by quadkey."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from rasterio.io import MemoryFile
from rasterio.warp import transform_geom

SIDE_PX, SIZE_M = 320, 0.6
WEST, NORTH = 400_000.0, 4_100_000.0
CRS = "EPSG:32637"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
EVENT = "/events/quake-23/collection.json"


@dataclass(frozen=True)
class Pass:
    """An acquisition: its tiles are columns from west to east."""

    name: str
    day: str
    tiles: Sequence[int] = (0, 1)
    cloud: float = 0.0
    off_nadir: float = 10.0
    gsd: float = 0.5
    seed: int = 0


def ground(column: int) -> shapely.Polygon:
    """The ground of a tile, in metres."""
    side = SIDE_PX * SIZE_M
    return shapely.box(WEST + column * side, NORTH - side, WEST + (column + 1) * side, NORTH)


def lonlat(shape: shapely.Geometry) -> dict[str, object]:
    found: dict[str, object] = transform_geom(CRS, "EPSG:4326", shapely.geometry.mapping(shape))
    return found


def tile(column: int, seed: int) -> bytes:
    """A tiled GeoTIFF of noise."""
    pixels = np.random.default_rng(seed).integers(1, 255, (3, SIDE_PX, SIDE_PX), np.uint8)
    place = Affine(SIZE_M, 0, WEST + column * SIDE_PX * SIZE_M, 0, -SIZE_M, NORTH)
    with MemoryFile() as file:
        with file.open(
            driver="GTiff", width=SIDE_PX, height=SIDE_PX, count=3, dtype="uint8", crs=CRS, transform=place,
            photometric="rgb", tiled=True, blockxsize=128, blockysize=128,
        ) as raster:  # fmt: skip
            raster.write(pixels)
        return bytes(file.read())


def catalogue(passes: Sequence[Pass], *, images: bool = True) -> dict[str, bytes]:
    """Its files by path: a root with two events, the wanted one in `EVENT`."""
    files: dict[str, object] = {
        "/events/catalog.json": _node(
            "Catalog",
            "events",
            [("child", "./quake-23/collection.json"), ("child", "./flood-20/collection.json")],
        ),
        "/events/flood-20/collection.json": _collection(
            "flood-20", [10, 10, 11, 11], "2020-01-01", "2020-02-01", []
        ),
    }
    everywhere = list(shapely.geometry.shape(lonlat(shapely.union_all([ground(0), ground(3)]))).bounds)
    files[EVENT] = _collection(
        "quake-23", everywhere, min(p.day for p in passes), max(p.day for p in passes),
        [("child", f"./ard/acquisition_collections/{p.name}_collection.json") for p in passes],
    )  # fmt: skip
    data: dict[str, bytes] = {}
    for each in passes:
        box = list(shapely.geometry.shape(lonlat(shapely.union_all([ground(c) for c in each.tiles]))).bounds)
        place = f"/events/quake-23/ard/acquisition_collections/{each.name}_collection.json"
        links = [("item", f"../37/03{column}/{each.day}/{each.name}.json") for column in each.tiles]
        files[place] = _collection(each.name, box, each.day, each.day, links)
        for column in each.tiles:
            folder = f"/events/quake-23/ard/37/03{column}/{each.day}"
            files[f"{folder}/{each.name}.json"] = _item(each, column)
            if images:
                data[f"{folder}/{each.name}-visual.tif"] = tile(column, each.seed)
    return data | {path: json.dumps(tree).encode() for path, tree in files.items()}


def _item(each: Pass, column: int) -> dict[str, object]:
    outline = lonlat(ground(column))
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": f"37/03{column}/{each.name}",
        "stac_extensions": ["https://stac-extensions.github.io/view/v1.0.0/schema.json"],
        "geometry": outline, "bbox": list(shapely.geometry.shape(outline).bounds),
        "properties": {
            "datetime": f"{each.day}T08:10:39Z", "platform": "WV02", "gsd": each.gsd, "catalog_id": each.name,
            "quadkey": f"03{column}", "view:off_nadir": each.off_nadir, "view:azimuth": 100.5, "view:sun_elevation": 40.0,
            "proj:epsg": 32637, "tile:clouds_percent": 100 * each.cloud, "eo:cloud_cover": 99,
        },
        "links": [
            {"rel": "collection", "href": f"../../../acquisition_collections/{each.name}_collection.json"},
            {"rel": "root", "href": "../../../../../catalog.json"},
        ],
        "collection": each.name,
        "assets": {
            "visual": {"href": f"./{each.name}-visual.tif", "type": COG},
            "ms_analytic": {"href": f"./{each.name}-ms.tif", "type": COG},
            "data-mask": {"href": f"./{each.name}-data-mask.gpkg", "type": "application/geopackage+sqlite3"},
        },
    }  # fmt: skip


def _node(kind: str, name: str, links: list[tuple[str, str]]) -> dict[str, object]:
    return {
        "type": kind, "stac_version": "1.0.0", "id": name, "description": name,
        "links": [{"rel": rel, "href": href, "type": "application/json"} for rel, href in links],
    }  # fmt: skip


def _collection(
    name: str, box: list[float], first: str, last: str, links: list[tuple[str, str]]
) -> dict[str, object]:
    return _node("Collection", name, links) | {
        "license": "CC-BY-NC-4.0",
        "providers": [{"name": "Maxar", "roles": ["producer"]}],
        "extent": {
            "spatial": {"bbox": [box]},
            "temporal": {"interval": [[f"{first}T00:00:00Z", f"{last}T23:59:59Z"]]},
        },
    }
