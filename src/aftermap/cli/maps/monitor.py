"""`aftermap monitor`: maps of several dates as one series."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aftermap.cli.checks import check_map, check_place
from aftermap.cli.options import Flag, Json, Out
from aftermap.cli.output import print_json, say, wide_console

if TYPE_CHECKING:
    from rich.table import Table


def monitor(
    maps: list[Path],
    *,
    out: Out,
    dates: str | None = None,
    allow_repair: Flag = False,
    title: str | None = None,
    overwrite: Flag = False,
    json: Json = False,
) -> None:
    """Bring finished maps of several dates together: the state of every building over time, and what is new.

    Maps of the same footprints go together building by building; those with other outlines by overlap. Damage stays:
    where the classes of a building fall from one map to the next, the most likely sequence that never falls is taken.
    A building that a map did not assess keeps its state from before.

    Writes a folder with the buildings and the changes as GeoPackage, GeoJSON and CSV, series.json, and series.html, a
    page with a slider over the dates.

    Example: aftermap monitor feb08 feb20 mar03 -o series

    Args:
        maps: Folders of finished maps of damage, two or more, in any order.
        out: Folder to make.
        dates: Day on which each map's image from after was taken, in the order of the maps, such as
            2026-02-08,2026-02-20. By default as the maps say.
        allow_repair: Let states fall, as where houses are repaired: every map is taken at its word.
        title: Title of the page. By default the folder's name.
        overwrite: Replace an earlier series.
        json: Print the summary as JSON.
    """
    for folder in maps:
        check_map(folder)
    check_place(out)

    from aftermap import api

    days = None if dates is None else [day.strip() for day in dates.split(",")]
    series = api.monitor(maps, out, dates=days, allow_repair=allow_repair, title=title, overwrite=overwrite)
    if json:
        print_json(series.summary)
        return
    told = series.summary
    say(*(f"note: {note}" for note in told["notes"]))
    wide_console().print(_table(told))
    if told["contradicted"]:
        what = "shown as they are" if allow_repair else "brought to a sequence that never falls"
        say(
            f"classes fall between the maps at {told['contradicted']:,} of {told['buildings']:,} buildings: {what}"
        )
    say(f"open {out / 'series.html'}")


def _table(told: dict[str, Any]) -> "Table":
    from rich.table import Column, Table

    names = list(told["dates"][0]["states"])
    table = Table(Column("date", no_wrap=True), *names, "newly damaged", "newly destroyed")
    changes = [None, *told["changes"]]
    for row, change in zip(told["dates"], changes, strict=True):
        new = (
            ("", "") if change is None else (f"{change['newly_damaged']:,}", f"{change['newly_destroyed']:,}")
        )
        table.add_row(row["date"], *(f"{row['states'][name]:,}" for name in names), *new)
    return table
