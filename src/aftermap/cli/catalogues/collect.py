"""`aftermap collect`: finished maps as a STAC collection."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from aftermap.cli.checks import check_map, check_place
from aftermap.cli.options import Json, Out
from aftermap.cli.output import print_json, say
from aftermap.wording import counted


def collect(
    maps: Annotated[list[Path], Parameter(negative="")],
    *,
    out: Out,
    name: str | None = None,
    title: str = "",
    licence: str = "other",
    json: Json = False,
) -> None:
    """Describe finished maps of damage as one STAC collection, which catalogues and QGIS can read.

    Writes OUT/collection.json and an item for each map: its ground, days, reference system, model, licence, and its
    files where they lie, each with size and SHA-256. Items name those of the images that the map was made of. Files are
    referred to by relative paths: keep maps and collection beside each other.

    Example: aftermap collect maps/north maps/south -o maps/catalogue --name antakya-2023

    Args:
        maps: Folders of maps of damage.
        out: Folder of the collection; an earlier one there is replaced, a folder with other things refused.
        name: Id of the collection; by default the name of OUT.
        title: Its heading.
        licence: Under which the maps may be used: an SPDX identifier such as CC-BY-4.0, or "other".
        json: Print the files as JSON.
    """
    for each in maps:
        check_map(each)
    check_place(out)

    from aftermap import api

    files = api.collect(maps, out, name=name, title=title, licence=licence)
    if json:
        print_json({"collection": files[0], "items": files[1:]})
        return
    say(f"wrote {files[0]} with {counted(len(files) - 1, 'item')}")
