"""`aftermap incremental-report`: runs that learned the same classes step by step, side by side."""

from pathlib import Path
from typing import Literal

from aftermap.cli.checks import check_incremental_runs, check_place
from aftermap.cli.options import Json, Out
from aftermap.cli.output import print_json, say


def incremental_report(
    *runs: Path,
    out: Out,
    by: Literal["method", "name"] = "method",
    json_output: Json = False,
) -> None:
    """Compare incremental runs: methods, seeds, and joint training as the bound.

        aftermap incremental-report runs/ft runs/mib-0 runs/mib-1 runs/joint -o comparison

    Written are comparison.md and comparison.json, curves.png and classes.png with the scores over the steps, and
    strips.png with some test tiles: image, truth, and the map of each method after the last step.

    Args:
        runs: Run folders of 'aftermap train' with a recipe of kind incremental, of one task on the same data.
        out: A folder.
        by: What makes runs one row, with their seeds as its spread: the method, or the recipe's name.
        json_output: Print JSON.
    """
    check_incremental_runs(runs)
    check_place(out)

    from aftermap.workflows.incremental.report import compare_runs

    tree = compare_runs(runs, out, by=by)
    if json_output:
        print_json(tree)
    else:
        say((out / "comparison.md").read_text())
        say(f"report: {out / 'comparison.md'}")
