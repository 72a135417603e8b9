"""`aftermap fuse`: several maps and layers of one event as one map."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from aftermap.cli.checks import check_map, check_place
from aftermap.cli.options import Flag, Json, Out
from aftermap.cli.output import print_json, say
from aftermap.cli.running import numbers
from aftermap.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from aftermap.workflows.fusing.cells import CellOptions, FusedCells
    from aftermap.workflows.fusing.readings import LayerOptions
    from aftermap.workflows.fusing.run import Fused


def fuse(
    sources: list[Path],
    *,
    out: Out,
    weights: str | None = None,
    pool: Literal["auto", "linear", "logarithmic"] = "auto",
    within: list[str] | None = None,
    column: list[str] | None = None,
    mapping: list[str] | None = None,
    probability: list[str] | None = None,
    reliability: list[str] | None = None,
    add_others: Flag = False,
    h3: int | None = None,
    title: str | None = None,
    overwrite: Flag = False,
    json: Json = False,
) -> None:
    """Fuse several maps and layers of one event on the buildings of the first map.

    Takes maps of other models, layers of points or polygons with a probability of damage or with grades, and rasters of
    classes or of the probability of damage, such as products of radar. Every source has a weight; one that says nothing
    of a building abstains there. Each building gets pooled probabilities, their class, and how far the sources differ.

    Writes a folder that other commands open like a map, with map.html and disagreement.html.

    --within, --column, --mapping, --probability and --reliability hold for all layers and rasters, or for one of them
    where its name (or number, from 1) and a colon stand before the value; each may be given several times.

    Example: aftermap fuse box field radar.tif -o fused --weights 1,1,0.5

    Example: aftermap fuse box ems.shp survey.gpkg -o fused --column survey:state --mapping "survey:D=destroyed"

    Args:
        sources: Folder of a finished map of damage, then further ones, vector layers (FILE or FILE:LAYER) and rasters.
        out: Folder to make.
        weights: A number above 0 for each source, in their order, such as 1,0.5. All alike by default.
        pool: How probabilities are pooled. auto: logarithmic where all sources give probabilities, linear where one
            gives grades only.
        within: How far a point may lie from its building, in metres; 10 by default.
        column: Column with the grades of a layer. By default told by what it holds.
        mapping: What its words, or the values of a raster, mean, such as "D=destroyed,N=undamaged" or
            "radar:1=undamaged,2=damaged".
        probability: Column of a layer with the probability of damage. By default p_damaged, if there is one.
        reliability: How likely a grade without a probability is right; 0.8 by default.
        add_others: Add buildings that a later map, or a layer of polygons, has and those before it lack; they are called
            NAME:id, and the column added_by names their source.
        h3: Fuse by H3 cells of this resolution (0 to 15, such as 9) instead of by building: the share that is damaged by
            each source, their mean by weight, and how far they differ.
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

    options = {
        "within": within,
        "column": column,
        "mapping": mapping,
        "probability": probability,
        "reliability": reliability,
    }
    common, layers = by_source(sources, {name: values or [] for name, values in options.items()})
    if h3 is not None:
        if add_others or pool == "logarithmic" or within or reliability:
            raise InputError(
                "--h3 takes shares by cell: leave --add-others, --pool, --within and --reliability out"
            )
        chosen = cast(
            "CellOptions",
            common | {"weights": given, "layers": layers, "title": title, "overwrite": overwrite},
        )
        _say_cells(api.fuse_cells(sources, out, h3=h3, **chosen), json=json)
        return
    result = api.fuse(
        sources,
        out,
        weights=given,
        rule=pool,
        layers=layers,
        add_others=add_others,
        title=title,
        overwrite=overwrite,
        **common,
    )
    if json:
        print_json(result.summary)
        return
    say(f"{result.rule} pool on {len(result.buildings):,} buildings", _table(result))
    frame = result.buildings
    differ, compared = int((frame["disagreement"] > 0).sum()), int((frame["sources"] > 1).sum())
    say(f"sources differ on {differ:,} of {compared:,} buildings that several speak of")
    say(f"open {out / 'map.html'} and {out / 'disagreement.html'}")


def _say_cells(result: "FusedCells", *, json: bool) -> None:
    cells = result.cells
    page = next(result.folder.glob("h3-*.html"))
    if json:
        rows = cells.drop(columns=cells.geometry.name).astype(object)
        print_json({"cells": rows.where(rows.notna(), None).to_dict("records"), "page": page})
        return
    for (name, about), weight in zip(result.sources, result.weights, strict=True):
        say(f"{name}: share damaged {about}, weight {weight:g}")
    several = int((cells["sources"] > 1).sum())
    say(
        f"{len(cells):,} cells, {several:,} of several sources; they differ by {cells['disagreement'].mean():.1%} (mean)"
    )
    say(f"open {page}")


def by_source(
    sources: Sequence[Path], options: Mapping[str, Sequence[str]]
) -> tuple["LayerOptions", dict[str, "LayerOptions"]]:
    """Options for all sources, and those for one each, by its number from 1, from `VALUE` and `SOURCE:VALUE`.

    Raises:
        InputError: a value is none, or there are two for one source.
    """
    from aftermap.workflows.comparing.grades import parse_mapping
    from aftermap.workflows.fusing.readings import which_source

    common: dict[str, Any] = {}
    single: dict[str, dict[str, Any]] = {}
    for name, values in options.items():
        for value in values:
            head, colon, rest = value.partition(":")
            number = which_source(head.strip(), sources) if colon else None
            told = common if number is None else single.setdefault(str(number + 1), {})
            text = value if number is None else rest
            if name in told:
                whom = "all sources" if number is None else sources[number].name
                raise InputError(
                    f"--{name} is given twice for {whom}: put the source's name and a colon before a value for one"
                )
            if name == "mapping":
                told[name] = parse_mapping(text)
            else:
                told[name] = _number(name, text) if name in ("within", "reliability") else text
    return cast("LayerOptions", common), cast("dict[str, LayerOptions]", single)


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(
            f"--{option} {text} is no number: pass one such as 0.8, or radar:0.8 for one source"
        ) from None


def _table(result: "Fused") -> "Table":
    from rich.table import Table

    table = Table("source", "what it is", "weight", "speaks of")
    for source, weight in zip(result.sources, result.weights, strict=True):
        table.add_row(source.name, source.about, f"{weight:g}", f"{int(source.speaks.sum()):,}")
    return table
