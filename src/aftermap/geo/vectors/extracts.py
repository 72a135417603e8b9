"""Buildings of an area out of large public files: extracts of OpenStreetMap, and vector tiles in a PMTiles archive.

Both are read by GDAL, each by the one driver that its first bytes name.
"""

import struct
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from pyogrio import raw
from pyproj import CRS, Transformer
from shapely.geometry.base import BaseGeometry

from aftermap.errors import FootprintError
from aftermap.geo.vectors.table import Table, frame_of, text_of

OSM_ENDINGS = (".osm.pbf", ".pbf", ".osm")
PMTILES_ENDINGS = (".pmtiles",)

_CONFIG = """
[general]
closed_ways_are_polygons=building
attribute_name_laundering=yes
report_all_nodes=no
report_all_ways=no
[multipolygons]
osm_id=yes
osm_timestamp=yes
attributes=building,name,height,building:levels
"""
"""What of OpenStreetMap is read; GDAL's own file leaves the time of the last change out."""

_QUIET = {"CPL_VSIL_CURL_ALLOWED_FILENAME": "none", "OGR_INTERLEAVED_READING": "YES"}
_BUILDING_LAYERS = ("building", "buildings")
_ID_FIELDS = ("id", "@id", "osm_id", "building_id", "gers_id")


def is_extract(path: Path) -> bool:
    """Whether a file is called like one of those that are read here."""
    return path.name.lower().endswith((*OSM_ENDINGS, *PMTILES_ENDINGS))


def read_extract(path: Path, area: BaseGeometry) -> Table:
    """The buildings of a file that touch the box of an area.

    Args:
        path: an extract of OpenStreetMap (`.osm.pbf`, `.osm`), or vector tiles (`.pmtiles`).
        area: polygons in degrees.

    Raises:
        FootprintError: the file cannot be read, or holds no buildings.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        previous = {name: pyogrio.get_gdal_config_option(name) for name in _QUIET}
        pyogrio.set_gdal_config_options(_QUIET)
        try:
            return (
                _read_pmtiles(path, area) if path.suffix.lower() in PMTILES_ENDINGS else _read_osm(path, area)
            )
        except (RuntimeError, ValueError, OSError, shapely.errors.ShapelyError) as error:
            reason = " ".join(str(error).split()).partition("; It might help")[0] or type(error).__name__
            raise FootprintError(f"cannot read {path}: {reason[:300]}") from None
        finally:
            pyogrio.set_gdal_config_options(previous)


def _read_osm(path: Path, area: BaseGeometry) -> Table:
    head = _head(path)
    is_xml = head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<?xml", b"<osm")) and b"<osm" in head
    if not is_xml and head[4:15] != b"\x0a\x09OSMHeader":
        raise FootprintError(f"{path} is no extract of OpenStreetMap, whatever its name says")
    with tempfile.TemporaryDirectory(prefix="aftermap-") as folder:
        (Path(folder) / "osmconf.ini").write_text(_CONFIG)
        place = Path(folder) / f"extract{'.osm' if is_xml else '.osm.pbf'}"
        place.symlink_to(path.absolute())
        try:
            meta, geometry, values = _osm_buildings(place, area)
        except (RuntimeError, ValueError) as error:
            if "OSM_USE_CUSTOM_INDEXING" not in str(error):
                raise
            meta, geometry, values = _osm_buildings(
                place, area, USE_CUSTOM_INDEXING="NO"
            )  # nodes in no order
    columns = {str(name): list(found.tolist()) for name, found in zip(meta["fields"], values, strict=True)}
    ways, relations = columns.pop("osm_way_id"), columns.pop("osm_id")
    ids = [f"way/{way}" if way else f"relation/{rel}" for way, rel in zip(ways, relations, strict=True)]
    read = {
        "id": ids,
        "class": columns["building"],
        "name": columns["name"],
        "height": [_metres(text) for text in columns["height"]],
        "floors": [_metres(text) for text in columns["building_levels"]],
        "date": [
            None if when is None else str(when)[:10].replace("/", "-") for when in columns["osm_timestamp"]
        ],
    }
    return Table(shapely.from_wkb(geometry, on_invalid="fix"), CRS("OGC:CRS84"), frame_of(read, len(ids)))


def _osm_buildings(
    place: Path, area: BaseGeometry, **options: str
) -> tuple[Any, np.ndarray, list[np.ndarray]]:
    """What GDAL reads: fields, geometries and values."""
    meta, _, geometry, values = raw.read(
        place,
        sql="SELECT * FROM multipolygons WHERE building IS NOT NULL AND building <> 'no'",
        bbox=area.bounds,
        datetime_as_string=True,
        force_2d=True,
        CONFIG_FILE=str(place.with_name("osmconf.ini")),
        **options,
    )
    return meta, geometry, values


def _read_pmtiles(path: Path, area: BaseGeometry) -> Table:
    if not _head(path).startswith(b"PMTiles\x03"):
        raise FootprintError(f"{path} is no PMTiles archive of version 3, whatever its name says")
    head = _head(path)
    if head[99] != 1:
        raise FootprintError(f"{path} holds pictures, expected vector tiles")
    # GDAL looks for every tile of the box that it is asked for, so that the world would take hours
    held = shapely.box(*(value / 1e7 for value in struct.unpack("<4i", head[102:118])))
    inside = held.intersection(shapely.box(*area.bounds))
    if inside.is_empty:
        west, south, east, north = held.bounds
        raise FootprintError(
            f"{path} holds {west:.4f} to {east:.4f} degrees of longitude and {south:.4f} to {north:.4f} of latitude, and "
            "the area lies elsewhere"
        )
    layers = [str(name) for name, _ in pyogrio.list_layers(path)]
    chosen = next(
        (name for name in _BUILDING_LAYERS if name in layers), layers[0] if len(layers) == 1 else None
    )
    if chosen is None:
        raise FootprintError(
            f"{path} has no layer of buildings: expected building or buildings, it has {', '.join(layers)[:200]}"
        )
    info = pyogrio.read_info(path, layer=chosen)
    crs = CRS(info["crs"])
    west, south, east, north = Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform_bounds(
        *inside.bounds
    )
    meta, _, geometry, values = raw.read(
        path, layer=chosen, bbox=(west, south, east, north), datetime_as_string=True, force_2d=True
    )
    shapes = shapely.make_valid(shapely.from_wkb(geometry, on_invalid="fix"))
    columns = {
        text_of(str(name)): [None if value != value else value for value in found.tolist()]
        for name, found in zip(meta["fields"], values, strict=True)
        if name != "mvt_id"  # counts within a tile
    }
    return _joined(shapes, crs, columns)


def _joined(shapes: np.ndarray, crs: CRS, columns: dict[str, list[Any]]) -> Table:
    """Buildings that the edges of tiles have cut, as one each: by their ids, else where pieces overlap.

    Tiles hold a margin beyond their edges, so pieces of one building overlap, and those of two neighbours touch at most.
    """
    outlines = np.isin(shapely.get_type_id(shapes), (3, 6, 7))
    rows = np.flatnonzero(outlines)
    ids = next((columns[name] for name in _ID_FIELDS if name in columns), None)
    groups: dict[Any, list[int]] = {}
    if ids is not None and all(ids[row] is not None for row in rows):
        for row in rows.tolist():
            groups.setdefault(ids[row], []).append(row)
    else:
        for row, group in zip(rows.tolist(), _overlapping(shapes[rows]), strict=True):
            groups.setdefault(group, []).append(row)
    first = [members[0] for members in groups.values()]
    whole = np.array([shapely.union_all(shapes[members]) for members in groups.values()], dtype=object)
    kept = {name: [values[row] for row in first] for name, values in columns.items()}
    return Table(whole, crs, frame_of(kept, len(first)))


def _overlapping(shapes: np.ndarray) -> list[int]:
    """A number for each shape, the same for those that overlap by more than a hundredth of the smaller one."""
    group = list(range(len(shapes)))

    def root(index: int) -> int:
        while group[index] != index:
            group[index] = group[group[index]]
            index = group[index]
        return index

    one, other = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    pairs = np.flatnonzero(one < other)
    common = shapely.area(shapely.intersection(shapes[one[pairs]], shapes[other[pairs]]))
    least = np.minimum(shapely.area(shapes[one[pairs]]), shapely.area(shapes[other[pairs]])) / 100
    for pair in pairs[common > least].tolist():
        group[root(int(other[pair]))] = root(int(one[pair]))
    return [root(index) for index in range(len(shapes))]


def _metres(text: Any) -> float | None:
    """A number of OpenStreetMap, which may carry its unit; None where it is none."""
    word = str(text or "").strip().lower().removesuffix("m").strip()
    try:
        value = float(word)
    except ValueError:
        return None
    return value if 0 < value < 1000 else None


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise FootprintError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    return head + b"\0" * max(0, 128 - len(head))
