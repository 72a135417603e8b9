"""`aftermap areas`: a finished map counted by cells, squares, polygons or tiles."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from aftermap.cli.checks import check_crs, check_images, check_map, check_outlines
from aftermap.cli.options import Json
from aftermap.cli.output import print_json, say, say_written, wide_console
from aftermap.wording import counted

if TYPE_CHECKING:
    from rich.table import Table

    from aftermap.workflows.areas.run import AreaResult

_SHOWN = 12


def areas(
    folder: Annotated[Path, Parameter(name="map")],
    *,
    h3: Annotated[int | None, Parameter(validator=Number(gte=0, lte=15))] = None,
    grid: Annotated[float | None, Parameter(validator=Number(gte=10))] = None,
    grid_crs: str | None = None,
    by: Path | None = None,
    name: str | None = None,
    pcode: str | None = None,
    scenes: Literal["pre", "post"] | None = None,
    tiles: Path | None = None,
    raster: Annotated[list[Path] | None, Parameter(negative="")] = None,
    json: Json = False,
) -> None:
    """Count a finished map of damage by areas: H3 cells, squares, districts or image tiles.

    Writes OUT/areas/NAME.gpkg, .geojson and .csv, a page NAME.html that opens without a network, and a picture NAME.png,
    for each kind of areas that is asked for. A building counts once, in the area that holds a point inside its outline;
    what lies in no area is counted as outside of all areas. Ground and buildings that nobody could see are told apart.

    Example: aftermap areas joplin --h3 9

    Example: aftermap areas joplin --by admin.gpkg --pcode ADM3_PCODE --raster population.tif

    Args:
        folder: Folder of a map of damage, as aftermap map made it.
        h3: Resolution of H3 cells: 8 is about 0.7 square kilometres, 9 about 0.1, 10 about 0.015.
        grid: Side of squares in metres, such as 500. Their corners are multiples of it in the UTM zone of the map's
            centre, so squares of neighbouring maps coincide.
        grid_crs: Reference system of the squares in place of that zone, such as EPSG:6933, which has equal areas.
        by: Polygons in any reference system, a vector file or FILE:LAYER.
        name: Column of --by with the names of areas; by default one that is called like one.
        pcode: Column of --by with the P-codes, kept as text exactly; by default that of the deepest level.
        scenes: One area for each image file of the date before or after; the map keeps their outlines, the images are
            not needed.
        tiles: The same from the images, a folder or a file, for a map that keeps none.
        raster: Raster to be summed by area, such as population; may be given several times.
        json: Print all areas as JSON.
    """
    check_map(folder)
    check_outlines(by)
    check_images(tiles, *(raster or ()))
    check_crs(grid_crs, "--grid-crs")

    from aftermap import api

    results = api.areas(
        folder,
        h3=h3,
        grid=grid,
        grid_crs=grid_crs,
        by=by,
        name=name,
        pcode=pcode,
        tiles=tiles,
        scenes=scenes,
        rasters=raster or (),
    )
    if json:
        print_json([result.as_dict() for result in results])
        return
    for result in results:
        wide_console().print(_table(result))
        for column, sums in result.raster_sums.items():
            struck = "".join(
                f", {sums[f'in_areas_with_{key}']:,} in areas with {word} buildings"
                for key, word in (("damage", "damaged"), ("destroyed", "destroyed"))
                if f"in_areas_with_{key}" in sums
            )
            say(f"{column}: {sums['sum']:,} in all areas{struck}")
        say_written(result.files)


def _table(result: "AreaResult") -> "Table":
    """The areas with most damaged buildings."""
    from rich.table import Table

    from aftermap.products.areas.subject import worst_of

    table = Table(title=f"{counted(len(result.areas), 'area')}: {result.title}", title_justify="left")
    worst = worst_of(result.areas)
    frame = result.areas.sort_values(worst or "buildings", ascending=False, kind="stable")
    has_names = bool((frame["name"].notna() & (frame["name"] != frame["area_id"])).any())
    counts = [name for name in ("damaged", "destroyed") if name in frame.columns]
    columns = (
        "area_id",
        *(("name",) if has_names else ()),
        "buildings",
        *(("assessed", *counts) if worst else ()),
    )
    for column in columns:
        table.add_column(
            column.replace("_", " "), justify="left" if column in ("area_id", "name") else "right"
        )
    for heading in (*((f"{worst} share", "not assessed") if worst else ()), "surveyed"):
        table.add_column(heading, justify="right")
    for row in frame.head(_SHOWN).to_dict("records"):
        cells = [str(row[column]) if row[column] is not None else "" for column in columns]
        told = (_share(row[f"{worst}_share"]), str(row["not_assessed"])) if worst else ()
        table.add_row(*cells, *told, _share(row["surveyed_share"]))
    if len(frame) > _SHOWN:
        table.caption = f"and {len(frame) - _SHOWN:,} more"
    return table


def _share(value: float) -> str:
    return "" if value != value else f"{100 * value:.1f} %"
