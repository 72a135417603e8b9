"""What commands on datasets share: options, the progress bar, and the table of what was prepared."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

if TYPE_CHECKING:
    from aftermap.data.preparing.prepare import Progress
    from aftermap.data.scene import Manifest

CLASSES = ("no-damage", "minor-damage", "major-damage", "destroyed", "un-classified")
JsonFlag = Annotated[bool, Parameter(name="--json", negative="")]
Out = Annotated[Path | None, Parameter(name=["-o", "--out"])]
Switch = Parameter(negative="")
Workers = Annotated[int, Parameter(validator=Number(gte=1))]


@contextmanager
def progress_bar(title: str, *, quiet: bool) -> "Iterator[Progress | None]":
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


def show_prepared(manifest: "Manifest", out: Path, *, json: bool) -> None:
    """Print the counts of a prepared dataset as a table or as JSON."""
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
        print_json(
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
                "class_pixels": class_pixels(manifest),
                "options": manifest.options,
            }
        )
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", show_header=False)
    table.add_row("scenes", f"{len(manifest.scenes)} ({pairs} pairs)")
    lacking = "" if manifest.legend is not None else f" ({len(empty)} without buildings)"
    table.add_row("labelled", f"{len(labelled)}{lacking}")
    table.add_row("unlabelled", _names(unlabelled))
    if dropped := manifest.options.get("dropped_tiles"):
        table.add_row("left out, mostly unknown", dropped)
    if unpaired:
        table.add_row("left out, no partner", _names(unpaired))
    table.add_row("georeferenced", str(located))
    if metres := [scene.resolution_m for scene in manifest.scenes if scene.resolution_m is not None]:
        ends = dict.fromkeys(f"{m:.3g}" for m in (min(metres), max(metres)))
        table.add_row("metres per pixel", " to ".join(ends))
    if counts:
        table.add_row("polygons", str(sum(counts.values())))
        order = [*CLASSES, *sorted(counts.keys() - set(CLASSES))]
        damage = CLASSES[:4] if manifest.scheme == "joint-damage-scale" else ()
        for name in order:
            if name in counts or name in damage:
                table.add_row(f"  {name}", str(counts[name]))
    pixels = class_pixels(manifest)
    for name, count in pixels.items():
        table.add_row(f"  {name}", f"{count / max(sum(pixels.values()), 1):.2%} of the known pixels")
    console = Console()
    console.print(table)
    console.print(f"manifest: {out / 'manifest.json'}", markup=False, soft_wrap=True)


def class_pixels(manifest: "Manifest") -> dict[str, int]:
    """Pixels of each class of a legend; nothing for masks of buildings."""
    if manifest.legend is None:
        return {}
    counts = dict.fromkeys(manifest.legend.names, 0)
    for scene in manifest.scenes:
        for name, count in zip(manifest.legend.names, scene.class_pixels, strict=False):
            counts[name] += count
    return counts


def print_json(value: object) -> None:
    """Print a tree as JSON."""
    import json

    print(json.dumps(value, indent=1))


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)}: {shown}" if names else "0"
