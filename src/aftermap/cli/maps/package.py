"""`aftermap package`: a finished map in the formats that other people open."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from aftermap.cli.checks import check_map, check_place
from aftermap.cli.options import Json, MaybeOut
from aftermap.cli.output import print_json, say, say_written

AGENCY = Parameter(group=Group("As an agency hands it on", sort_key=7))


def package(
    folder: Annotated[Path, Parameter(name="map")],
    *,
    format: Annotated[str | None, Parameter(name=["-f", "--format"])] = None,
    out: MaybeOut = None,
    name: str = "buildings",
    package: Annotated[Literal["ems", "unosat", "fema", "hdx"] | None, AGENCY] = None,
    code: Annotated[str | None, AGENCY] = None,
    aoi_number: Annotated[int, AGENCY] = 1,
    event: Annotated[str, AGENCY] = "",
    organisation: Annotated[str, AGENCY] = "",
    licence: Annotated[str, AGENCY] = "",
    json: Json = False,
) -> None:
    """Write the buildings of a finished map in the formats that other people open, or as an agency hands them on.

    geoparquet: GeoParquet 1.1 for databases and notebooks. flatgeobuf: one file for GIS and web. shapefile: zipped,
    with a table of the names that had to be cut. kmz: Google Earth and phones, in colours. pmtiles: vector tiles for
    web maps. csv and xlsx: tables. envi: the classes of all pixels. stac: an item that describes the map and lists its
    files. All are written, or none.

    Example: aftermap package joplin --format kmz,xlsx --name joplin

    Example: aftermap package joplin --format all -o handover

    With --package it is names, layers, attributes and grades of an agency: ems (Copernicus EMS grading), unosat (points
    and squares of 500 m), fema (file geodatabase) or hdx (CSV with HXL hashtags), in a folder of its version. A new
    version is written where something changed since the last one, with a table of what changed.

    Example: aftermap package joplin --package ems --code EMSR123 --aoi-number 1

    Args:
        folder: Folder of a map of damage, as aftermap map made it.
        format: Some of geoparquet, flatgeobuf, shapefile, kmz, pmtiles, csv, xlsx, envi and stac, separated by commas, or
            all.
        out: Folder to write into; by default "package" in the map's folder.
        name: Name of the files, without ending.
        package: Whose layout to write.
        code: Of the activation (EMSR123), the event, the disaster (DR-1980), or a name for HDX.
        aoi_number: Number of the area of interest.
        event: What happened, in the agency's words, such as 3-Storm or Tornado.
        organisation: Who hands it on.
        licence: Under which the data may be used.
        json: Print the files as JSON.
    """
    check_map(folder)
    check_place(out)

    from aftermap import api
    from aftermap.errors import InputError

    if package is not None:
        if format is not None:
            raise InputError(
                "--format and --package are two ways to hand a map on: call the command for each"
            )
        result = api.agency_package(
            folder,
            package,
            to=out,
            code=code,
            number=aoi_number,
            event=event,
            organisation=organisation,
            licence=licence,
        )
        if json:
            print_json(result.as_dict())
        elif result.is_new:
            say(
                f"version {result.version}: {result.folder}",
                *(f"  {n:,} {name}" for name, n in result.counts.items()),
            )
        else:
            say(f"nothing changed since version {result.version}, which stays: {result.folder}")
        return
    if format is None:
        raise InputError(
            "nothing to write: pass --format, such as --format kmz,xlsx or --format all, or --package ems"
        )
    files = api.package(folder, format.split(","), to=out, name=name)
    if json:
        print_json({"files": files})
    else:
        say_written(files)
