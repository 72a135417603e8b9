"""`aftermap find`: pairs of images in a catalogue."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from aftermap.cli.checks import check_outlines, check_place
from aftermap.cli.options import Json, Several
from aftermap.cli.output import print_json, say, wide_console
from aftermap.cli.progress import progress
from aftermap.extras import needs
from aftermap.wording import counted

if TYPE_CHECKING:
    from rich.table import Table

    from aftermap.workflows.catalogues.find import Found
    from aftermap.workflows.catalogues.pairing import Acquisition


def find(
    *,
    event_stac: str,
    aoi: Path,
    before: str,
    after: str | None = None,
    out: Annotated[Path | None, Parameter(name=["-o", "--out"])] = None,
    collection: Several = None,
    asset: str | None = None,
    max_cloud: Annotated[float, Parameter(validator=Number(gte=0, lte=1))] = 1.0,
    max_off_nadir: Annotated[float, Parameter(validator=Number(gte=0, lte=90))] = 90.0,
    limit: Annotated[int, Parameter(validator=Number(gte=1))] = 20,
    json: Json = False,
) -> None:
    """Find images of an area from before and from after a disaster in a catalogue (STAC), and propose pairs.

    Reads static catalogues, such as the open data of Vantor (Maxar), and STAC APIs; only their JSON is read here. Pairs
    are ranked by the share of the area that both dates show, clouds, angle of view, pixel size and how close the dates
    are to the event. Each of these is shown as a number from 0 to 1 (area, clear, angle, size, dates), and the rank goes
    by their product.

    Example: aftermap find --event-stac https://HOST/collection.json --aoi area.geojson --before 2023-02-06 -o pairs.json

    Example: aftermap map --pair pairs.json:1 -o antakya

    Args:
        event_stac: Address or path of a STAC catalogue, collection or item collection, or of an API.
        aoi: Polygons of the area, any vector file, or FILE:LAYER.
        before: Day of the disaster: the first image was taken before it, at most 5 years. Or FIRST/LAST.
        after: Day of the disaster: the second image was taken on it or later, at most 90 days. Or FIRST/LAST. By default
            the day of --before.
        out: File to write. NAME.json: all pairs, for 'aftermap map --pair NAME.json:1'. NAME.csv: the tiles of the best
            pairs that together cover the area, for 'aftermap map-many NAME.csv'.
        collection: Collections of an API to search; may be given several times. By default all of them.
        asset: Key of the image in colour among an item's assets. By default "visual", else the only GeoTIFF.
        max_cloud: Leave out acquisitions with a larger share of clouds, 0 to 1.
        max_off_nadir: Leave out acquisitions that looked from a larger angle, in degrees.
        limit: Most pairs to propose.
        json: Print the pairs as JSON.
    """
    needs("aftermap find", "catalog")
    check_outlines(aoi)
    check_place(out, is_file=True)
    if out is not None:
        from aftermap.files import keep_inputs
        from aftermap.workflows.catalogues.pairs_file import check_ending

        check_ending(out)
        keep_inputs(out, aoi, event_stac)

    from aftermap import api

    with progress("files") as show:
        found = api.find(
            event_stac,
            aoi,
            before=before,
            after=after,
            collections=collection or (),
            asset=asset,
            most_cloud=max_cloud,
            most_off_nadir=max_off_nadir,
            limit=limit,
            progress=lambda count: show("catalogue", count, None),
        )
    from aftermap.workflows.catalogues.pairs_file import pairs_tree, write_pairs

    if out is not None:
        write_pairs(out, found.pairs, found.area, catalogue=found.catalogue)
    if json:
        print_json(pairs_tree(found.pairs, found.area, catalogue=found.catalogue))
        return
    wide_console().print(_table(found))
    licences = sorted(
        {str(e.each("licence") or "not told") for p in found.pairs for e in (p.before, p.after)}
    )
    say(f"licence of the images: {'; '.join(licences)}")
    for reason in found.left_out[:3]:
        say(f"left out: {reason}")
    if len(found.left_out) > 3:
        say(f"left out: {len(found.left_out) - 3:,} more items")
    if out is not None:
        goes_on = "map-many" if out.suffix.lower() == ".csv" else "map --pair"
        say(f"go on with: aftermap {goes_on} {out}{'' if out.suffix.lower() == '.csv' else ':1'} -o OUT")


def _table(found: "Found") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=f"{counted(len(found.pairs), 'pair')}, of {counted(found.before, 'image')} from before and {found.after:,} "
        f"from after",
        title_justify="left",
        caption="below each date: off-nadir angle, clouds, pixel size, number of tiles",
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for heading in ("#", "before", "after", "area", "clear", "angle", "size", "dates", "score"):
        table.add_column(heading, justify="left" if heading in ("before", "after") else "right", no_wrap=True)
    for rank, pair in enumerate(found.pairs, start=1):
        why = pair.reasons
        table.add_row(
            str(rank),
            escape(_told(pair.before)),
            escape(_told(pair.after)),
            *(
                f"{value:.2f}"
                for value in (why.overlap, why.clear, why.angle, why.resolution, why.dates, why.score)
            ),
        )
    return table


def _told(found: "Acquisition") -> str:
    """Day and satellite; below it angle, clouds, pixel size and tiles, as far as they are known."""
    angle, cloud, gsd = found.mean("off_nadir"), found.mean("cloud"), found.mean("gsd")
    first = (f"{found.acquired:%Y-%m-%d}", found.each("platform"))
    second = (
        None if angle is None else f"{angle:.0f}°",
        None if cloud is None else f"{cloud:.0%}",
        None if gsd is None else f"{gsd:.2f} m",
        f"x{len(found.images)}" if len(found.images) > 1 else None,
    )
    return "\n".join(" ".join(part for part in line if part) for line in (first, second))
