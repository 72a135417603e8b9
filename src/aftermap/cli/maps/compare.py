"""`aftermap compare`: a finished map held against what others found on the same ground."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from aftermap.cli.checks import check_map, check_outlines
from aftermap.cli.options import Flag, Json
from aftermap.cli.output import print_json, say

if TYPE_CHECKING:
    from rich.table import Table

    from aftermap.workflows.comparing.run import Comparison


def compare(
    out: Path,
    truth: Path,
    *,
    source: Annotated[
        Literal["ems", "dins", "unosat", "fema", "xbd"] | None, Parameter(name=["--as"])
    ] = None,
    column: str | None = None,
    mapping: str | None = None,
    within: float = 10.0,
    iou: float = 0.2,
    several: Literal["worst", "most"] = "worst",
    unlisted_is: Literal["unknown", "undamaged", "no-building"] = "unknown",
    area: Path | None = None,
    name: str | None = None,
    as_answers: Flag = False,
    json: Json = False,
) -> None:
    """Hold a finished map of damage against what others found: points or polygons with grades.

    Reads gradings of Copernicus EMS, damage inspections of CAL FIRE (DINS), points of UNOSAT, labels of xBD, and any
    other points or polygons with a --mapping. A point means the building that it lies in, else the nearest one within
    reach; a polygon the one that it overlaps. Grades are compared on the finest scale that both sides can tell. What the
    source does not list is unknown, unless --unlisted-is says otherwise.

    Writes NAME.json, .gpkg, .geojson, .csv and .html into OUT/compare; an earlier comparison of that name is replaced.

    Example: aftermap compare OUT EMSR999_AOI01_GRA_PRODUCT_builtUpP_v1.shp

    Example: aftermap compare OUT volunteers.csv --column grade --mapping "D=destroyed,N=undamaged" --as-answers

    Args:
        out: Folder of the map.
        truth: Vector file in any reference system, FILE:LAYER, table with columns of longitude and latitude, label file
            of xBD, or folder of such.
        source: Whose scale the file is in. By default told by its columns and what they hold.
        column: Column that holds the grades. By default likewise.
        mapping: What words mean, such as "D=destroyed,N=undamaged": a class of the map, damaged, undamaged,
            possibly-damaged or unknown. It goes before the scale's own meaning.
        within: How far a point may lie from its building, in metres.
        iou: Least intersection over union of a polygon and its building.
        several: Which of several marks on a building counts: the worst, or the most frequent.
        unlisted_is: What the source says of buildings that it does not list.
        area: Polygons within which the source looked. By default all of the map.
        name: Name of the files. By default that of the source.
        as_answers: Write the grades that are one class into the map's journal of answers.
        json: Print the result as JSON.
    """
    check_map(out)
    check_outlines(truth, area)

    from aftermap import api
    from aftermap.workflows.comparing.grades import parse_mapping

    result = api.compare(
        out,
        truth,
        kind=source,
        column=column,
        mapping=None if mapping is None else parse_mapping(mapping),
        name=name,
        as_answers=as_answers,
        within=within,
        iou=iou,
        several=several,
        unlisted=unlisted_is,
        area=area,
    )
    if json:
        told = {"files": result.files, **result.summary}
        print_json(told if result.imported is None else {**told, "answers": result.imported.as_dict()})
        return
    _say(result)


def _say(result: "Comparison") -> None:
    told = result.summary
    found, buildings, scored = told["found"], told["buildings"], told["classes"]
    lines = [
        f"{told['source']['scale']}, column {told['source']['column']}: {told['marks']['on_map']:,} marks on the map, "
        f"{told['marks']['outside']:,} beside it",
        f"found {found['count']:,} of {found['of']:,} marks, missed {found['missed']:,}; "
        f"{buildings['unlisted']:,} of {buildings['on_map']:,} buildings are not in the source",
    ]
    if buildings["no_building"]:
        lines.append(f"{buildings['no_building']:,} buildings of the map are none by the source")
    if buildings["not_assessed"]:
        lines.append(f"{buildings['not_assessed']:,} buildings of the source were not assessed by the map")
    say(*lines)
    if scored["buildings"]:
        say(_confusion(scored), _lines(told))
    else:
        say("no building has a grade that both the map and the source tell")
    if scored["note"]:
        say(f"{scored['note']}.")
    if result.imported is not None:
        given = result.imported
        say(
            f"answers: {given.answers:,} written, {given.unchanged:,} stood already, {given.withdrawn:,} taken back, "
            f"{given.of_several_classes:,} left out because their grade may be several classes"
        )
    page = next(path for path in result.files if path.suffix == ".html")
    say(f"open {page}")


def _confusion(scored: dict[str, Any]) -> "Table":
    from rich.table import Table

    names = list(scored["classes"])
    table = Table(
        "source \\ map", *names, "recall", title=f"{scored['buildings']:,} buildings that both grade"
    )
    for name, row in zip(names, scored["confusion"], strict=True):
        table.add_row(name, *(f"{count:,}" for count in row), share(scored["by_class"][name]["recall"]))
    return table


def _lines(told: dict[str, Any]) -> "Table":
    from rich.table import Table

    table = Table("", "recall", "precision", "kappa", "AUC")
    for line in ("damaged", "destroyed"):
        row = told[line]
        numbers = ("" if row[key] is None else f"{row[key]:.3f}" for key in ("kappa", "auc"))
        table.add_row(line, share(row["recall"]), share(row["precision"]), *numbers)
    scored = told["classes"]
    kappa = "" if scored["kappa"] is None else f"{scored['kappa']:.3f}"
    table.add_row("classes: accuracy", share(scored["accuracy"]), "", kappa, "")
    return table


def share(told: dict[str, Any] | None) -> str:
    """A share with its interval, in words; empty where there is none."""
    if told is None or told["value"] is None:
        return ""
    low, high = told["interval_95"]
    return f"{told['value']:.3f} ({low:.3f} to {high:.3f})"
