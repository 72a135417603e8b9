"""`aftermap data`: synthesise, prepare, check and split datasets."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from aftermap.data.doctor import Report
    from aftermap.data.prepare import Progress
    from aftermap.data.scene import Manifest

app = App(name="data", help="Synthesise, prepare, check and split datasets.")

CLASSES = ("no-damage", "minor-damage", "major-damage", "destroyed", "un-classified")
LISTED = 20
JsonFlag = Annotated[bool, Parameter(name="--json", negative="")]
Out = Annotated[Path | None, Parameter(name=["-o", "--out"])]
Switch = Parameter(negative="")


@app.command
def prepare(
    kind: Literal["xbd", "folder"],
    source: Path,
    *,
    out: Out = None,
    unclassified: Literal["no-damage", "ignore", "drop"] = "no-damage",
    geotransforms: Path | None = None,
    labels: Literal["auto", "building", "damage"] = "auto",
    event: str | None = None,
    workers: int = 1,
    overwrite: Annotated[bool, Switch] = False,
    json: JsonFlag = False,
) -> None:
    """Turn a dataset into masks and a manifest that 'train', 'check' and 'split' read.

    Images stay where they are. An interrupted preparation goes on where it stopped when it is started again.

    Example: aftermap data prepare xbd ~/xview2 -o xview2-prepared --workers 8

    Parameters
    ----------
    kind
        xbd: images and labels (or targets), in one folder, in train, tier3, test and hold, or one folder per event.
        folder: images/ and masks/ (one date), or pre/, post/ and masks/ (pairs with the same file names).
    source
        The folder of the dataset.
    out
        Folder for the manifest and the masks; by default the source's name with -prepared, here.
    unclassified
        What un-classified buildings of xBD become: class 1 as in the published systems, unknown, or background.
    geotransforms
        xBD: JSON of image name -> [six GDAL numbers, WKT or EPSG code]; without it the labels give the georeference.
    labels
        folder: whether masks hold buildings (0/1 or 0/255) or damage classes (0 to 4); auto looks at all of them.
    event
        folder: name of the event; by default the source's name.
    workers
        Processes.
    overwrite
        Write into a folder that holds other things.
    json
        Print the counts as JSON.
    """
    from aftermap.data.folder import prepare_folder
    from aftermap.data.xbd import prepare_xbd

    target = out if out is not None else Path(f"{source.resolve().name}-prepared")
    with _progress("preparing", quiet=json) as progress:
        if kind == "xbd":
            manifest = prepare_xbd(
                source,
                target,
                unclassified=unclassified,
                geotransforms=geotransforms,
                workers=workers,
                overwrite=overwrite,
                progress=progress,
            )
        else:
            manifest = prepare_folder(
                source,
                target,
                labels=labels,
                event=event,
                workers=workers,
                overwrite=overwrite,
                progress=progress,
            )
    _show_prepared(manifest, target, json=json)


@app.command
def check(
    data: Path,
    *,
    quick: Annotated[bool, Switch] = False,
    workers: int = 1,
    json: JsonFlag = False,
) -> int:
    """Look for everything that spoils training: missing or broken files, wrong labels, leaks between splits.

    Exits 1 when there are errors.

    Example: aftermap data check xview2-prepared

    Parameters
    ----------
    data
        A prepared folder, or its manifest.
    quick
        Do not read pixels: only files, sizes and leaks.
    workers
        Processes.
    json
        Print the findings as JSON.
    """
    from aftermap.data.doctor import check as examine
    from aftermap.data.scene import Manifest

    with _progress("checking", quiet=json) as progress:
        report = examine(Manifest.load(data), deep=not quick, workers=workers, progress=progress)
    if json:
        print(report.to_json())
    else:
        _show_report(report)
    return 1 if report.errors else 0


@app.command
def split(
    data: Path,
    *,
    by: Literal["event", "block", "random", "source"] = "event",
    fractions: str = "0.7,0.15,0.15",
    seed: int = 0,
    hold_out: Annotated[list[str] | None, Parameter(negative="")] = None,
    out: Out = None,
    json: JsonFlag = False,
) -> None:
    """Assign scenes to train, validation and test so that nothing leaks between them.

    Scenes with the same image, or whose ground overlaps, come into the same split.

    Example: aftermap data split xview2-prepared --by block --fractions 0.7,0.15,0.15

    Parameters
    ----------
    data
        A prepared folder, or its manifest.
    by
        event: whole events. block: contiguous strips inside each event. random: scenes.
        source: as the publisher split them (xBD's train, tier3, hold and test).
    fractions
        Shares of train, validation and test.
    seed
        Another split of the same kind.
    hold_out
        An event that becomes the test split; may be given several times.
    out
        Write the manifest to this file instead of changing the given one.
    json
        Print the counts as JSON.
    """
    from aftermap.data.scene import MANIFEST_NAME, Manifest
    from aftermap.data.splits import assign_splits
    from aftermap.errors import DataError

    try:
        shares = [float(part) for part in fractions.split(",")]
    except ValueError:
        raise DataError(
            f"--fractions {fractions} holds other things than numbers, expected e.g. 0.7,0.15,0.15"
        ) from None
    manifest = Manifest.load(data)
    try:
        assigned = assign_splits(manifest, by=by, fractions=shares, seed=seed, hold_out=hold_out or ())
    except ValueError as error:
        raise DataError(str(error)) from None
    file = out or (data / MANIFEST_NAME if data.is_dir() else data)
    _save(assigned, file)
    _show_splits(assigned, file, json=json)


@app.command
def synth(
    *,
    out: Annotated[Path, Parameter(name=["-o", "--out"])],
    scenes: int = 8,
    size: int = 1024,
    seed: int = 0,
    kind: Annotated[list[str] | None, Parameter(negative="")] = None,
    backdrop: Path | None = None,
    footprints: Path | None = None,
    workers: int = 1,
    json: JsonFlag = False,
) -> None:
    """Make up disasters: image pairs with exact labels, for data that cannot be shipped.

    Example: aftermap data synth -o towns --scenes 8 --kind wind --kind flood

    Parameters
    ----------
    out
        Folder for the scenes: xBD layout, GeoTIFFs, footprints and a manifest.
    scenes
        How many pairs.
    size
        Width and height in pixels.
    seed
        The same seed gives the same bytes.
    kind
        Kind of disaster (wind, flood, fire, earthquake); may be given several times, all of them by default.
    backdrop
        Folder of real images of one date to paint the disaster on; needs --footprints.
    footprints
        The buildings of the backdrop.
    workers
        Processes.
    json
        Print the counts as JSON.
    """
    from aftermap.data.synthetic.write import synthesise
    from aftermap.errors import DataError

    if (backdrop is None) != (footprints is None):
        given, absent = ("--backdrop", "--footprints") if backdrop else ("--footprints", "--backdrop")
        raise DataError(
            f"{given} is given without {absent}: damage is painted on images with known buildings"
        )
    manifest = synthesise(
        out,
        scenes=scenes,
        size_px=size,
        seed=seed,
        kinds=kind,
        backdrop=backdrop,
        footprints=footprints,
        workers=workers,
    )
    _show_prepared(manifest, out, json=json)


@contextmanager
def _progress(title: str, *, quiet: bool) -> "Iterator[Progress | None]":
    """A progress bar on stderr, as a function of finished and all."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _show_prepared(manifest: "Manifest", out: Path, *, json: bool) -> None:
    counts: Counter[str] = Counter()
    for scene in manifest.scenes:
        counts.update(scene.polygons)
    labelled = [scene for scene in manifest.scenes if scene.is_labelled]
    unlabelled = [scene.name for scene in manifest.scenes if not scene.is_labelled]
    pairs = sum(scene.post is not None for scene in manifest.scenes)
    empty = [scene.name for scene in labelled if not any(scene.class_pixels[1:])]
    located = sum(scene.grid is not None for scene in manifest.scenes)
    unpaired = [name for name in manifest.options.get("unpaired", "").split(",") if name]
    if json:
        _print_json(
            {
                "manifest": str(out / "manifest.json"),
                "scenes": len(manifest.scenes),
                "pairs": pairs,
                "labelled": len(labelled),
                "unlabelled": unlabelled,
                "without_buildings": empty,
                "unpaired": unpaired,
                "georeferenced": located,
                "polygons": sum(counts.values()),
                "polygons_by_class": dict(counts),
                "options": manifest.options,
            }
        )
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", show_header=False)
    table.add_row("scenes", f"{len(manifest.scenes)} ({pairs} pairs)")
    table.add_row("labelled", f"{len(labelled)} ({len(empty)} without buildings)")
    table.add_row("unlabelled", _names(unlabelled))
    if unpaired:
        table.add_row("left out, no partner", _names(unpaired))
    table.add_row("georeferenced", str(located))
    if counts:
        table.add_row("polygons", str(sum(counts.values())))
        order = [*CLASSES, *sorted(counts.keys() - set(CLASSES))]
        for name in order:
            if name in counts or name in CLASSES[:4]:
                table.add_row(f"  {name}", str(counts[name]))
    console = Console()
    console.print(table)
    console.print(f"manifest: {out / 'manifest.json'}", markup=False, soft_wrap=True)


def _show_splits(manifest: "Manifest", file: Path, *, json: bool) -> None:
    from aftermap.data.splits import SPLITS, buildings

    events = sorted({scene.event for scene in manifest.scenes})
    table: dict[str, dict[str, dict[str, int]]] = {
        event: {split: {"scenes": 0, "buildings": 0} for split in SPLITS} for event in events
    }
    for scene in manifest.scenes:
        cell = table[scene.event][scene.split]
        cell["scenes"] += 1
        cell["buildings"] += buildings(scene) if scene.polygons else 0
    if json:
        _print_json({"manifest": str(file), "events": table, "options": manifest.options})
        return
    from rich.console import Console
    from rich.table import Table

    shown = Table("event", *(f"{split} scenes (buildings)" for split in SPLITS))
    for event in events:
        shown.add_row(event, *(_cell(table[event][split]) for split in SPLITS))
    whole = {s: {k: sum(table[e][s][k] for e in events) for k in ("scenes", "buildings")} for s in SPLITS}
    shown.add_section()
    shown.add_row("all", *(_cell(whole[split]) for split in SPLITS))
    console = Console()
    console.print(shown)
    console.print(f"manifest: {file}", markup=False, soft_wrap=True)


def _show_report(report: "Report") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
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
    if report.findings:
        console.print(table)
    console.print(
        f"{report.scenes} scenes: {len(report.errors)} errors, {len(report.warnings)} warnings",
        soft_wrap=True,
    )


def _save(manifest: "Manifest", file: Path) -> None:
    from aftermap.errors import OutputError

    try:
        (file.parent if file.suffix == ".json" else file).mkdir(parents=True, exist_ok=True)
        manifest.save(file)
    except OSError as error:
        raise OutputError(f"cannot write {file}: {error.strerror or error}") from None


def _cell(counts: dict[str, int]) -> str:
    return f"{counts['scenes']} ({counts['buildings'] if counts['buildings'] else '-'})"


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)}: {shown}" if names else "0"


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=1))
