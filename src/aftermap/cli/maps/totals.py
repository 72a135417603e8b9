"""`aftermap totals`: how many buildings are damaged, with an interval that covers."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from aftermap.cli.checks import check_map
from aftermap.cli.options import Json
from aftermap.cli.output import print_json, say, say_written, wide_console

Share = Annotated[str | None, Parameter(allow_leading_hyphen=True)]


def totals(
    folder: Annotated[Path, Parameter(name="map")],
    *,
    target: Share = None,
    of: Literal["damaged", "major-or-destroyed", "minor-damage", "major-damage", "destroyed"] | None = None,
    risk: Annotated[float, Parameter(validator=Number(gt=0, lt=1))] = 0.1,
    json: Json = False,
) -> None:
    """Say how many buildings are damaged, with an interval that covers.

    Rests on the answers that reviewers gave to a random sample of the map's buildings; "aftermap review" draws one and
    asks. Without a sample there is no interval. Writes totals.json, totals.csv, totals.png and, for each building,
    confidence on this event (confidence.csv) into the folder "totals" of the map.

    Example: aftermap totals joplin

    Example: aftermap totals joplin --target 10%

    Args:
        folder: Folder of a map of damage, as aftermap map made it.
        target: Say how many more answers bring the interval to so much more or less than the estimate, such as 10%.
        of: The total that the target is for; by default damaged, or destroyed of a map of the image after alone.
        risk: Share of wrong classes that is allowed among the buildings of which the map speaks; the others are
            "not assessed: model undecided" in confidence.csv.
        json: Print everything as JSON.
    """
    check_map(folder)
    wanted = None if target is None else share_of(target)

    from aftermap import api
    from aftermap.extras import needs

    needs("aftermap totals", "learn")

    result = api.totals(folder, target=wanted, kind=of and of.replace("-or-", " or "), risk=risk)
    if json:
        print_json(result.as_dict())
        return
    say(*result.words)
    wide_console().print(_table(result.table))
    if result.confidence is not None:
        say(_of_confidence(result.confidence))
    say_written(result.files)


def share_of(text: str) -> float:
    """`10%` or `0.1` as a share.

    Raises:
        InputError: it is neither, or not between 0 and 1.
    """
    from aftermap.errors import InputError

    number = text.strip().removesuffix("%")
    try:
        share = float(number) / (100 if "%" in text else 1)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise InputError(f"--target {text} is no share: pass one such as 10%")
    return share


def _table(frame: Any) -> Any:
    from rich.table import Table

    table = Table()
    is_estimated = frame["estimate"].notna().any()
    headings = ["", "on the map", *(["estimate", "95 % interval", "found"] if is_estimated else [])]
    for heading in headings:
        table.add_column(heading, justify="left" if not heading else "right")
    for row in frame.itertuples():
        cells = [row.kind, "" if row.kind == "not-a-building" else f"{row.mapped:,}"]
        if is_estimated:
            low, high = int(row.low + 1e-6), -int(-(row.high - 1e-6) // 1)
            cells += [f"{row.estimate:,.0f}", f"{low:,} to {high:,}", f"{row.answers_found:,}"]
        elif row.kind == "not-a-building":
            continue
        table.add_row(*cells)
    return table


def _of_confidence(found: Any) -> str:
    quiet = found.quiet
    told = int(found.told().sum())
    if quiet.threshold is None:
        promise = f"no threshold keeps wrong classes below {100 * quiet.risk:.0f} % with these answers"
    else:
        promise = (
            f"wrong classes stay below {100 * quiet.risk:.0f} % among the {told:,} of {len(found.confidence):,} "
            f"buildings with a confidence of at least {quiet.threshold:.2f}; the others are undecided"
        )
    return f"confidence: {found.state}; {promise}"
