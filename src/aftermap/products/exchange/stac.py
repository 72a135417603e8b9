"""A STAC 1.1 item of a map: where and when it is, and the files that it is made of, with their checksums.

Source: STAC specification 1.1.0, item; extensions projection 2.0.0, file 2.1.0 and classification 2.0.0.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import shapely

from aftermap.classes import BUILDING, DAMAGE, DESTROYED_OR_NOT, IGNORE, ClassScheme
from aftermap.errors import GeoreferenceError, InputError
from aftermap.files import sha256_of
from aftermap.geo.grid import Grid
from aftermap.products.lineage import Lineage
from aftermap.products.summary import bounds_lonlat
from aftermap.products.vectors import cut_antimeridian

MEDIA_TYPES = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".gpkg": "application/geopackage+sqlite3",
    ".geojson": "application/geo+json",
    ".csv": "text/csv",
    ".json": "application/json",
    ".html": "text/html",
    ".png": "image/png",
    ".parquet": "application/vnd.apache.parquet",
    ".fgb": "application/vnd.flatgeobuf",
    ".kmz": "application/vnd.google-earth.kmz",
    ".pmtiles": "application/vnd.pmtiles",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".zip": "application/zip",
}
_SCHEMAS = "https://stac-extensions.github.io"
_EXTENSIONS = ("projection/v2.0.0", "file/v2.1.0", "classification/v2.0.0")
_ROLES = {
    "buildings.gpkg": ["data"],
    "damage.tif": ["data"],
    "destroyed.tif": ["data"],
    "classes.tif": ["data"],
    "building.tif": ["data"],
    "probabilities.tif": ["data"],
    "overview.png": ["overview"],
    "provenance.json": ["metadata"],
    "summary.json": ["metadata"],
}
_TITLES = {
    "buildings.gpkg": "Damage of each building",
    "buildings.geojson": "Damage of each building",
    "buildings.csv": "Table of buildings",
    "damage.tif": "Classes of damage",
    "destroyed.tif": "Destroyed and not destroyed",
    "classes.tif": "Buildings by pixel",
    "building.tif": "Probability of a building",
    "probabilities.tif": "Probabilities of the classes",
    "overview.png": "Picture of the map",
    "map.html": "Page of the map",
    "provenance.json": "What the map was made of",
    "summary.json": "Counts by class",
}
_KEPT = tuple(_TITLES)


def stac_item(
    folder: Path,
    grid: Grid,
    lineage: Lineage,
    *,
    name: str,
    also: Mapping[str, Path],
    steps: str,
    sources: Sequence[str] = (),
    properties: Mapping[str, Any] | None = None,
    scheme: ClassScheme = DAMAGE,
) -> dict[str, Any]:
    """The item of a finished map.

    `datetime` is null and the day of the image from after is given as `start_datetime` and `end_datetime`, because the
    hour is not known; without that day the moment at which the map was made stands there.

    Args:
        folder: of the map.
        grid: that was mapped.
        lineage: of the map.
        name: `id` of the item.
        also: further files, by the name that they are referred to with.
        steps: the way from the item to the map's folder, such as `../`.
        sources: addresses of the items of its images.
        properties: further ones.
        scheme: classes of the map.

    Raises:
        InputError: no day is known of it.
        GeoreferenceError: the map is in pixels.
        OSError: a file cannot be read.
    """
    if grid.crs is None:
        raise GeoreferenceError("a STAC item needs longitude and latitude, and this map is in pixels")
    bounds = bounds_lonlat(grid)
    assert bounds is not None
    files = {steps + each: folder / each for each in _KEPT if (folder / each).is_file()} | dict(also)
    code = grid.crs.to_epsg()
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [f"{_SCHEMAS}/{each}/schema.json" for each in _EXTENSIONS],
        "id": name,
        "geometry": shapely.geometry.mapping(_outline(grid)),
        "bbox": bounds,
        "properties": {
            **_when(lineage),
            **({} if lineage.created is None else {"created": lineage.created}),
            "title": f"{_subject(scheme)[0]}, {name}",
            "description": (
                f"{_subject(scheme)[1]}, estimated from images ({lineage.mode or 'dates not told'}) "
                f"by {lineage.model or 'a model'}. Rapid assessment, not validated in the field."
            ),
            "gsd": grid.resolution_m,
            "proj:code": None if code is None else f"EPSG:{code}",
            **({"proj:wkt2": grid.crs.to_wkt()} if code is None else {}),
            "proj:shape": list(grid.shape),
            "proj:transform": list(grid.transform)[:6],
            "aftermap:scale": scheme.name,
            "aftermap:mode": lineage.mode,
            "aftermap:model": lineage.model,
            "aftermap:model_sha256": lineage.model_sha256,
            "aftermap:licence": lineage.licence,
            "aftermap:before": lineage.before,
            "aftermap:after": lineage.after,
            **(properties or {}),
        },
        "links": [
            {"rel": "derived_from", "href": source, "type": "application/geo+json"} for source in sources
        ],
        "assets": {Path(href).name: _asset(href, path) for href, path in files.items()},
    }


def _outline(grid: Grid) -> Any:
    """The ground of the grid in degrees, counter-clockwise, cut at the antimeridian."""
    steps = [index / 8 for index in range(8)]
    w, h = grid.width, grid.height
    points = [
        *((0, h * s) for s in steps),
        *((w * s, h) for s in steps),
        *((w, h * (1 - s)) for s in steps),
        *((w * (1 - s), 0) for s in steps),
    ]
    lons, lats = grid.lonlat(*(list(each) for each in zip(*points, strict=True)))  # type: ignore[arg-type]
    shape = shapely.Polygon(zip(lons.round(7).tolist(), lats.round(7).tolist(), strict=True))
    west, _, east, _ = shape.bounds
    whole = cut_antimeridian(shape) if east - west > 180 or east > 180 else shape
    return shapely.orient_polygons(whole)


def _when(lineage: Lineage) -> dict[str, Any]:
    if lineage.after is None:
        if lineage.created is None:
            raise InputError(
                "a STAC item needs a day: neither that of the image from after nor that of the map is known"
            )
        return {"datetime": lineage.created}
    day = lineage.after[:10]
    return {
        "datetime": None,
        "start_datetime": f"{day}T00:00:00Z",
        "end_datetime": f"{day}T23:59:59Z",
    }


def _subject(scheme: ClassScheme) -> tuple[str, str]:
    """Title and description of what a map tells."""
    if scheme is DESTROYED_OR_NOT:
        return (
            "Destroyed buildings",
            "Destroyed buildings, from the image after alone; lesser damage is not told",
        )
    if scheme is BUILDING:
        return "Buildings before the event", "Buildings before the event, of which no damage is told"
    return "Damage of buildings", f"Damage of buildings on the {scheme.name}"


_RASTERS = {"damage.tif": ("damage", DAMAGE), "destroyed.tif": ("damage", DESTROYED_OR_NOT)}


def _asset(href: str, path: Path) -> dict[str, Any]:
    asset: dict[str, Any] = {
        "href": href,
        "type": MEDIA_TYPES.get(path.suffix, "application/octet-stream"),
        "roles": _ROLES.get(path.name, ["data"]),
        "file:size": path.stat().st_size,
        "file:checksum": f"1220{sha256_of(path)}",  # multihash: SHA-256, 32 bytes
    }
    if path.name in _TITLES:
        asset["title"] = _TITLES[path.name]
    if path.name in _RASTERS:
        band, scheme = _RASTERS[path.name]
        asset["bands"] = [{"name": band, "data_type": "uint8", "nodata": IGNORE}]
        asset["classification:classes"] = [
            {"value": value, "name": label, "title": label.replace("-", " "), "color_hint": colour.strip("#")}
            for value, (label, colour) in enumerate(zip(scheme.names, scheme.colours, strict=True))
        ]
    return asset
