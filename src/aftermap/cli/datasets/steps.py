"""`aftermap data steps`: what each step of a class-incremental task would learn from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from aftermap.cli.checks import check_dataset
from aftermap.cli.options import Json, MaybeOut
from aftermap.cli.output import print_json, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aftermap.data.incremental.protocol import Protocol
    from aftermap.data.incremental.step_summary import StepSummary
    from aftermap.data.scene import Scene


def steps(
    data: list[Path],
    /,
    *,
    task: str | None = None,
    filter: Annotated[
        Literal["overlapped", "disjoint", "image-split"], Parameter(name="--filter")
    ] = "overlapped",
    seed: int = 0,
    rows: int = 6,
    out: MaybeOut = None,
    json: Json = False,
) -> None:
    """Show what each step of a class-incremental task would learn from: tiles, pixels, and what is hidden.

    The scenes are those of the training split, or all where no dataset has one. No image is read but for the picture.

    Example: aftermap data steps potsdam-prepared --task 6s --filter image-split -o steps.png

    Example: aftermap data steps potsdam-prepared --task "building, road / vegetation / water"

    Example: aftermap data steps buildings-prepared roads-prepared --task "building / road, water"

    Args:
        data: A prepared folder, or its manifest; several may have classes of their own, those of one name are one.
        task: Name of a task of the dataset's legend, such as offline; or the new classes of each step, with commas
            between classes and slashes between steps. Left out: the names of the tasks there are.
        filter: overlapped: tiles in which a new class occurs. disjoint: those of them without a class of a later step.
            image-split: each tile serves one step only.
        seed: Of the image split.
        rows: How many tiles the picture shows.
        out: Write a picture: some tiles, their labels, and the mask that each step learns from (PNG).
        json: Print the steps as JSON.
    """
    for path in data:
        check_dataset(path)

    from aftermap.data.incremental.pool import pool
    from aftermap.data.incremental.step_summary import summarise_steps
    from aftermap.data.incremental.task_tables import tasks_of
    from aftermap.data.scene import Manifest, Target
    from aftermap.errors import DataError, OutputError

    if rows < 1:
        raise DataError(f"--rows is {rows}, expected 1 or more")
    if out is not None and out.suffix.lower() != ".png":
        raise OutputError(f"{out} is no PNG file: give the picture a name that ends in .png")
    manifests = [Manifest.load(path) for path in data]
    finest = {manifest.scheme for manifest in manifests}
    target: Target = "building" if finest == {"building"} else "damage"
    if any(manifest.legend for manifest in manifests) or len(finest) > 1:
        target = "classes"
    pooled = pool(manifests, target=target, names=[path.name for path in data])
    legend = pooled.legend
    if task is None:
        raise DataError(
            f"legend {legend.name} has the tasks {', '.join(tasks_of(legend))}: name one with --task, or the classes of "
            "each step, such as 'building, road / water'"
        )
    protocol = pooled.protocol(task, filter=filter, seed=seed)
    training = [n for n, scene in enumerate(pooled.scenes) if scene.split == "train"]
    chosen = training or range(len(pooled.scenes))
    scenes = [pooled.scenes[n] for n in chosen]
    counts, tables = pooled.counts(), pooled.mask_tables()
    summaries = summarise_steps(scenes, protocol, counts=[counts[n] for n in chosen])
    if out is not None:
        from aftermap.products.figures.steps_figure import draw_steps

        title = f"{legend.name}, task {protocol.task}, {filter}: what each step learns from"
        draw_steps(
            out,
            scenes,
            protocol,
            legend,
            target=target,
            rows=rows,
            title=title,
            tables=[tables[n] for n in chosen] if pooled.datasets else None,
        )
    if json:
        print_json(_tree(protocol, summaries, scenes))
    else:
        _show(protocol, summaries, len(scenes), out)


def _tree(
    protocol: "Protocol", summaries: "Sequence[StepSummary]", scenes: "Sequence[Scene]"
) -> dict[str, object]:
    return {
        "task": protocol.task,
        "filter": protocol.filter,
        "seed": protocol.seed,
        "protocol_sha256": protocol.sha256,
        "scenes": len(scenes),
        "never_learned": list(protocol.names(protocol.never())),
        "steps": [
            {
                "step": summary.step,
                "classes": list(summary.classes),
                "places": list(summary.places),
                "channels": summary.channels,
                "tiles": [scenes[number].name for number in summary.tiles],
                "pixels": summary.pixels,
                "hidden": summary.hidden,
                "background": summary.background,
                "unknown": summary.unknown,
            }
            for summary in summaries
        ],
    }


def _show(
    protocol: "Protocol", summaries: "Sequence[StepSummary]", scenes: int, picture: Path | None
) -> None:
    from rich.table import Table
    from rich.text import Text

    from aftermap.data.incremental.protocol import describe

    table = Table("step", "tiles", "learned (pixels)", "hidden as background", "unknown")
    for summary in summaries:
        whole = sum((*summary.pixels.values(), *summary.hidden.values(), summary.background, summary.unknown))
        cells = (
            str(summary.step),
            "\n".join([f"{len(summary.tiles)} of {scenes}", *summary.places]),
            _pixels(summary.pixels, whole),
            ", ".join(f"{name} {_percent(count, whole)}" for name, count in summary.hidden.items()) or "-",
            _share(summary.unknown, whole),
        )
        table.add_row(*(Text(cell) for cell in cells))
        table.add_section()
    heading, *lines = describe(protocol)
    say(heading, table, *lines[len(summaries) :])
    if picture is not None:
        say(f"picture: {picture}")


def _pixels(counts: "Mapping[str, int]", whole: int) -> str:
    return "\n".join(f"{name} {_share(count, whole)}" for name, count in counts.items())


def _share(count: int, whole: int) -> str:
    return f"{count:,} ({_percent(count, whole)})" if count else "0"


def _percent(count: int, whole: int) -> str:
    return f"{count / whole:.1%}" if count >= whole / 2000 else "< 0.1%"
