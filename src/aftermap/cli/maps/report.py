"""`aftermap report`: a finished map as a document of two pages."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from aftermap.cli.checks import check_map, check_place
from aftermap.cli.options import Json, MaybeOut
from aftermap.cli.output import print_json, say_written


def report(
    folder: Annotated[Path, Parameter(name="map")],
    *,
    language: str = "en",
    title: str | None = None,
    organisation: str = "",
    credit: str = "",
    paper: Literal["a4", "letter"] = "a4",
    format: Annotated[str, Parameter(name=["-f", "--format"])] = "pdf,html,docx",
    out: MaybeOut = None,
    json: Json = False,
) -> None:
    """Write a finished map as a report of two pages: what, where, when, counts, a map, method, limits and rights.

    Works offline on the folder of a map. Counts that a checked sample corrected, and the table by areas, are taken in
    where they are in the folder. The PDF has the same bytes for the same map.

    Example: aftermap report joplin --title "Joplin, Missouri"

    Example: aftermap report joplin --language fr --organisation "Protection civile" --format pdf

    Args:
        folder: Folder of a map of damage, as aftermap map made it.
        language: Of the report: en (English), fr (French), es (Spanish) or ar (Arabic).
        title: Heading; by default that of the map's page.
        organisation: Who hands the report on.
        credit: Credit and licence of the imagery, such as "Imagery: NOAA, public domain". By default what a catalogue
            said of it.
        paper: Size of PDF and DOCX.
        format: Some of pdf, html, docx and geopdf, separated by commas; geopdf is the map alone, which GIS place on the
            ground.
        out: Folder to write into; by default "report" in the map's folder.
        json: Print the files as JSON.
    """
    check_map(folder)
    check_place(out)
    formats = [each.strip() for each in format.split(",")]

    from aftermap import api

    files = api.report(
        folder,
        language=language,
        title=title,
        organisation=organisation,
        credit=credit,
        paper=paper,
        formats=formats,
        to=out,
    )
    if json:
        print_json({"files": files})
    else:
        say_written(files)
