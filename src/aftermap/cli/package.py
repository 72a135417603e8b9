"""`aftermap package`: a finished map in the formats that other people open."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from aftermap.cli.checks import check_map, check_place
from aftermap.cli.options import Json, MaybeOut
from aftermap.cli.output import print_json, say_written


def package(
    folder: Annotated[Path, Parameter(name="map")],
    *,
    format: Annotated[str | None, Parameter(name=["-f", "--format"])] = None,
    out: MaybeOut = None,
    name: str = "buildings",
    json: Json = False,
) -> None:
    """Write the buildings of a finished map in the formats that other people open.

    geoparquet: GeoParquet 1.1 for databases and notebooks. flatgeobuf: one file for GIS and web. shapefile: zipped, with
    a table of the names that had to be cut. kmz: Google Earth and phones, in colours. pmtiles: vector tiles for web
    maps. csv and xlsx: tables. stac: an item that describes the map and lists its files. All are written, or none.

    Example: aftermap package joplin --format kmz,xlsx --name joplin

    Example: aftermap package joplin --format all -o handover

    Args:
        folder: Folder of a map of damage, as aftermap map made it.
        format: Some of geoparquet, flatgeobuf, shapefile, kmz, pmtiles, csv, xlsx and stac, separated by commas, or all.
        out: Folder to write into; by default "package" in the map's folder.
        name: Name of the files, without ending.
        json: Print the files as JSON.
    """
    check_map(folder)
    check_place(out)

    from aftermap import api
    from aftermap.errors import InputError

    if format is None:
        raise InputError("nothing to write: pass --format, such as --format kmz,xlsx or --format all")
    files = api.package(folder, format.split(","), to=out, name=name)
    if json:
        print_json({"files": files})
    else:
        say_written(files)
