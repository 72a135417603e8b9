"""`aftermap data`: synthesise, prepare, check and split datasets."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts import App

from aftermap.cli.checks import check_dataset, check_images, check_outlines, check_place
from aftermap.cli.datasets import from_footprints, prepare
from aftermap.cli.datasets.dataset_output import show_prepared
from aftermap.cli.datasets.steps import steps
from aftermap.cli.options import Flag, Json, MaybeOut, Out, Several, Workers
from aftermap.cli.output import print_json, say
from aftermap.cli.progress import progress_bar
from aftermap.cli.running import numbers
from aftermap.wording import counted

if TYPE_CHECKING:
    from aftermap.data.checking.doctor import Report
    from aftermap.data.scene import Manifest

app = App(name="data", help="Synthesise, prepare, check and split datasets.")
app.command(prepare.app, name="prepare")
app.command(from_footprints.from_footprints, name="from-footprints")
app.command(steps)

LISTED = 20


@app.command
def check(
    data: Path,
    *,
    quick: Flag = False,
    workers: Workers = 1,
    json: Json = False,
) -> int:
    """Look for everything that spoils training: missing or broken files, wrong labels, leaks between splits.

    Exits 1 when there are errors.

    Example: aftermap data check xview2-prepared

    Args:
        data: A prepared folder, or its manifest.
        quick: Do not read pixels: only files, sizes and leaks.
        workers: Processes.
        json: Print the findings as JSON.
    """
    check_dataset(data)

    from aftermap import api

    with progress_bar("checking") as progress:
        report = api.check(data, deep=not quick, workers=workers, progress=progress)
    if json:
        print(report.to_json())
    else:
        _show_report(report)
    return 1 if report.errors else 0


@app.command
def split(
    data: Path,
    *,
    by: Literal["event", "group", "block", "random", "source"] | None = None,
    fractions: str | None = None,
    seed: int | None = None,
    hold_out: Several = None,
    validate_on: Several = None,
    group_zoom: int | None = None,
    folds: int | None = None,
    fold: int | None = None,
    compat_leak: Flag = False,
    out: MaybeOut = None,
    json: Json = False,
) -> None:
    """Assign scenes to train, validation and test so that nothing leaks between them.

    Scenes with the same image, or whose ground overlaps, come into the same split.

    Example: aftermap data split xview2-prepared --by block --fractions 0.7,0.15,0.15

    Example: aftermap data split ggaba --folds 7 --fold 0 --group-zoom 19

    Args:
        data: A prepared folder, or its manifest.
        by: event: whole events (the default). group: the same, or cells of the ground with --group-zoom. block:
            contiguous strips inside each event. random: scenes. source: as the publisher split them (xBD's train, tier3,
            hold, test).
        fractions: Shares of train, validation and test; 0.7,0.15,0.15 by default.
        seed: Another split of the same kind; 0 by default.
        hold_out: An event that becomes the test split; may be given several times.
        validate_on: An event that becomes the validation split, which gets nothing else; may be given several times.
        group_zoom: Groups are the web-mercator tiles of this zoom, by the scenes' centres, instead of events.
        folds: Validate on one of so many folds of whole groups, train on the others; 7 in the Open Cities system.
        fold: Which fold, from 0.
        compat_leak: Folds of single scenes at random, as the Open Cities system makes them: one place comes into all
            folds.
        out: Write the manifest to this file instead of changing the given one.
        json: Print the counts as JSON.
    """
    check_dataset(data)

    from aftermap import api
    from aftermap.data.scene import manifest_file

    assigned = api.split(
        data,
        by=by,
        fractions=None if fractions is None else numbers("--fractions", fractions, "0.7,0.15,0.15"),
        seed=seed,
        hold_out=hold_out or (),
        validate_on=validate_on or (),
        group_zoom=group_zoom,
        folds=folds,
        fold=fold,
        compat_leak=compat_leak,
        out=out,
    )
    _show_splits(assigned, out or manifest_file(data), json=json)


@app.command
def synth(
    *,
    out: Out,
    scenes: int = 8,
    size: int = 1024,
    seed: int = 0,
    kind: Several = None,
    backdrop: Path | None = None,
    footprints: Path | None = None,
    workers: Workers = 1,
    json: Json = False,
) -> None:
    """Make up disasters: image pairs with exact labels, for data that cannot be shipped.

    Example: aftermap data synth -o towns --scenes 8 --kind wind --kind flood

    Args:
        out: Folder for the scenes: xBD layout, GeoTIFFs, footprints and a manifest.
        scenes: How many pairs.
        size: Width and height in pixels.
        seed: The same seed gives the same bytes.
        kind: Kind of disaster (wind, flood, fire, earthquake); may be given several times, all of them by default.
        backdrop: Folder of real images of one date to paint the disaster on, with --footprints or a folder
            'masks' in it.
        footprints: The buildings of the backdrop.
        workers: Processes.
        json: Print the counts as JSON.
    """
    check_images(backdrop)
    check_outlines(footprints)
    check_place(out)

    from aftermap import api

    manifest = api.synth(
        out,
        scenes=scenes,
        size_px=size,
        seed=seed,
        kinds=kind,
        backdrop=backdrop,
        footprints=footprints,
        workers=workers,
    )
    show_prepared(manifest, out, json=json)


def _show_splits(manifest: "Manifest", file: Path, *, json: bool) -> None:
    from aftermap.data.checking.splits import SPLITS, buildings

    has_legend = manifest.legend is not None
    events = sorted({scene.event for scene in manifest.scenes})
    table: dict[str, dict[str, dict[str, int]]] = {
        event: {split: {"scenes": 0, "buildings": 0} for split in SPLITS} for event in events
    }
    for scene in manifest.scenes:
        cell = table[scene.event][scene.split]
        cell["scenes"] += 1
        cell["buildings"] += buildings(scene) if scene.polygons else 0
    if json:
        print_json({"manifest": file, "events": table, "options": manifest.options})
        return
    from rich.table import Table

    shown = Table("event", *(f"{split} scenes" + " (buildings)" * (not has_legend) for split in SPLITS))
    for event in events:
        shown.add_row(event, *(_cell(table[event][split], has_legend) for split in SPLITS))
    whole = {s: {k: sum(table[e][s][k] for e in events) for k in ("scenes", "buildings")} for s in SPLITS}
    shown.add_section()
    shown.add_row("all", *(_cell(whole[split], has_legend) for split in SPLITS))
    say(shown, f"manifest: {file}")


def _show_report(report: "Report") -> None:
    from rich.table import Table
    from rich.text import Text

    colours = {"error": "red", "warning": "yellow", "info": "cyan"}
    table = Table("", "finding", "scene", "what", show_lines=False)
    seen: Counter[tuple[str, str]] = Counter()
    for finding in report.findings:
        kind = (finding.severity, finding.code)
        seen[kind] += 1
        if seen[kind] <= LISTED:
            label = Text(finding.severity, colours[finding.severity])
            table.add_row(label, finding.code, finding.scene or "", Text(finding.message))
    for (severity, code), count in seen.items():
        if count > LISTED:
            more = f"and {count - LISTED} more: --json lists all"
            table.add_row(Text(severity, colours[severity]), code, "", more)
    tables = [table] if report.findings else []
    found = (
        counted(report.scenes, "scene") + ": " + counted(len(report.errors), "error"),
        counted(len(report.warnings), "warning"),
    )
    say(*tables, ", ".join(found))


def _cell(counts: dict[str, int], has_legend: bool) -> str:
    if has_legend:
        return str(counts["scenes"])
    return f"{counts['scenes']} ({counts['buildings'] if counts['buildings'] else '-'})"
