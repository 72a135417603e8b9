"""`aftermap fuse`: several maps and layers of one event as one map."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aftermap.cli.checks import check_map, check_place
from aftermap.cli.options import Flag, Json, Out
from aftermap.cli.output import print_json, say
from aftermap.cli.running import numbers
from aftermap.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from aftermap.workflows.fusing.run import Fused


def fuse(
    sources: list[Path],
    *,
    out: Out,
    weights: str | None = None,
    pool: Literal["auto", "linear", "logarithmic"] = "auto",
    within: float = 10.0,
    column: str | None = None,
    mapping: str | None = None,
    probability: str | None = None,
    reliability: float = 0.8,
    title: str | None = None,
    overwrite: Flag = False,
    json: Json = False,
) -> None:
    """Fuse several maps and layers of one event on the buildings of the first map.

    Takes maps of other models, layers of points or polygons with a probability of damage or with grades, and rasters of
    the probability of damage, such as products of radar. Every source has a weight; one that says nothing of a building
    abstains there. Each building gets pooled probabilities, their class, and how far the sources differ.

    Writes a folder that other commands open like a map, with map.html and disagreement.html.

    Example: aftermap fuse box field radar.tif -o fused --weights 1,1,0.5

    Args:
        sources: Folder of a finished map of damage, then further ones, vector layers (FILE or FILE:LAYER) and rasters.
        out: Folder to make.
        weights: A number above 0 for each source, in their order, such as 1,0.5. All alike by default.
        pool: How probabilities are pooled. auto: logarithmic where all sources give probabilities, linear where one
            gives grades only.
        within: How far a point may lie from its building, in metres.
        column: Column with the grades of a layer. By default told by what it holds.
        mapping: What its words mean, such as "D=destroyed,N=undamaged".
        probability: Column of a layer with the probability of damage. By default p_damaged, if there is one.
        reliability: How likely a grade without a probability is right.
        title: Title of the page. By default the folder's name.
        overwrite: Replace an earlier result.
        json: Print the summary as JSON.
    """
    check_map(sources[0])
    for path in sources[1:]:
        if not path.exists() and not Path(str(path).rpartition(":")[0]).is_file():
            raise InputError(f"cannot read {path}: no such file or folder")
    check_place(out)
    given = None if weights is None else numbers("--weights", weights, "1,0.5")

    from aftermap import api
    from aftermap.workflows.comparing.grades import parse_mapping

    result = api.fuse(
        sources,
        out,
        weights=given,
        rule=pool,
        within=within,
        column=column,
        mapping=None if mapping is None else parse_mapping(mapping),
        probability=probability,
        reliability=reliability,
        title=title,
        overwrite=overwrite,
    )
    if json:
        print_json(result.summary)
        return
    say(f"{result.rule} pool on {len(result.buildings):,} buildings", _table(result))
    frame = result.buildings
    differ, compared = int((frame["disagreement"] > 0).sum()), int((frame["sources"] > 1).sum())
    say(f"sources differ on {differ:,} of {compared:,} buildings that several speak of")
    say(f"open {out / 'map.html'} and {out / 'disagreement.html'}")


def _table(result: "Fused") -> "Table":
    from rich.table import Table

    table = Table("source", "what it is", "weight", "speaks of")
    for source, weight in zip(result.sources, result.weights, strict=True):
        table.add_row(source.name, source.about, f"{weight:g}", f"{int(source.speaks.sum()):,}")
    return table
