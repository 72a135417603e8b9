"""`aftermap footprints`: buildings of an area from a public map."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from aftermap.cli.checks import check_outlines, check_place
from aftermap.cli.options import Json, Out
from aftermap.cli.output import print_json, say
from aftermap.cli.progress import progress
from aftermap.extras import needs
from aftermap.wording import counted


def footprints(
    *,
    aoi: Path,
    out: Out,
    source: Annotated[str, Parameter(name=["--from"])] = "overture",
    release: str | None = None,
    credit: str | None = None,
    source_date: Annotated[str | None, Parameter(name=["--date"])] = None,
    licence: str | None = None,
    json: Json = False,
) -> None:
    """Get the footprints of the buildings in an area from a public map, for 'aftermap map --footprints'.

    Writes one row per building that touches the area, whole, with its source, the day of its last change and its
    licence, and with class, name, height and floors where they are known. Overture is read online, as far as the area
    needs it; a file at hand is read without a network.

    Example: aftermap footprints --aoi area.geojson -o buildings.gpkg

    Example: aftermap footprints --aoi area.geojson --from antioquia.osm.pbf -o buildings.gpkg

    Args:
        aoi: Polygons of the area, any vector file, or FILE:LAYER.
        out: File to write: .gpkg, .geojson or .parquet. An earlier one is replaced.
        source: overture: the newest release of Overture Maps. Or path or address of an extract of OpenStreetMap
            (.osm.pbf), vector tiles (.pmtiles), GeoParquet (read in part), or any vector file.
        release: Release of Overture, such as 2026-11-18.0.
        credit: Who made the footprints of a file that does not say so; by default its name.
        source_date: Of which day the footprints of a file are that does not say so.
        licence: Under which licence they may be used, likewise, such as ODbL-1.0.
        json: Print what was written as JSON.
    """
    from aftermap.remote.addresses import is_address

    if source == "overture" or is_address(source):
        needs("aftermap footprints from elsewhere", "catalog", "parquet")
    else:
        check_outlines(Path(source))
    check_outlines(aoi)
    check_place(out, is_file=True)

    from aftermap import api

    with progress("files") as show:
        found = api.footprints(
            aoi,
            out,
            source=source,
            release=release,
            credit=credit,
            source_date=source_date,
            licence=licence,
            progress=lambda done, total: show("reading", done, total),
        )
    if json:
        rows = [{"source": s, "licence": lic, "buildings": n} for (s, lic), n in found.sources.items()]
        print_json(
            {"output": found.path, "buildings": found.count, "sources": rows, "bytes_read": found.bytes_read}
        )
        return
    for (name, terms), count in sorted(found.sources.items(), key=lambda each: -each[1]):
        say(f"{counted(count, 'building')} of {name}, licence {terms}")
    if found.left_out:
        say(found.left_out)
    say(f"wrote {found.path}")
