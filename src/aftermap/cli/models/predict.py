"""`aftermap predict`, `evaluate` and `models`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from aftermap.cli.checks import check_dataset, check_model, check_place
from aftermap.cli.options import EngineName, Json, Out, SplitName, Workers
from aftermap.cli.output import print_json, say, wide_console
from aftermap.cli.progress import bar
from aftermap.cli.running import AS_IT_IS, Running
from aftermap.wording import counted

if TYPE_CHECKING:
    from aftermap.inference.ensemble import RunningKeywords


def predict(
    model: str,
    data: Path,
    *,
    out: Out,
    split: SplitName = "all",
    targets: Path | None = None,
    coloured: bool = False,
    dice: bool = False,
    overwrite: bool = False,
    workers: Workers = 1,
    engine: EngineName = "processes",
    address: str | None = None,
    running: Running = AS_IT_IS,
) -> None:
    """Predict a prepared dataset into PNGs in the xView2 competition's naming, or of a legend's classes.

    With --targets the truth comes beside them, and both can be scored:

        aftermap predict box xbd-json-prepared -o predictions --targets truth
        aftermap score predictions truth

    Args:
        model: A model folder, an ensemble folder, an exported model, or box.
        data: A prepared dataset.
        out: Folder for the predictions; existing ones are kept, so that an interrupted run goes on.
        split: Which scenes.
        targets: Folder for the truth in the same naming.
        coloured: Write the classes in their colours too, into OUT/coloured.
        dice: Write what the Dice head says too, in bytes at a quarter of the resolution, into OUT/dice; for model folders
            of kind fpn-efficientnet.
        overwrite: Predict again what is there.
        workers: How many, each with the model. A scene that cannot be predicted does not stop the others.
        engine: processes: of this machine. ray: actors of a Ray cluster whose machines see the same folders.
        address: Of the Ray cluster: auto, or ray://host:10001.
        running: How the model is run.
    """
    check_model(model)
    check_dataset(data, whole=True)
    check_place(out)
    check_place(targets)

    from aftermap import api
    from aftermap.data.scene import scenes_of

    scenes = scenes_of(data, split)
    with bar("predicting", len(scenes)) as advance:
        count = api.predict(
            model,
            data,
            out,
            split=split,
            targets=targets,
            coloured=coloured,
            dice=dice,
            overwrite=overwrite,
            workers=workers,
            engine=engine,
            address=address,
            on_scene=lambda _: advance(),
            **_keywords(running),
        )
    say(f"{counted(count, 'scene')} predicted, {len(scenes) - count} were there: {out}")


def evaluate(
    model: str,
    data: Path,
    *,
    split: SplitName = "test",
    event: list[str] | None = None,
    threshold: float | None = None,
    bootstrap: int = 1000,
    boundary_m: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    workers: Workers = 1,
    engine: EngineName = "processes",
    address: str | None = None,
    running: Running = AS_IT_IS,
    json_output: Json = False,
) -> None:
    """Score a model on the labelled scenes of a prepared dataset.

        aftermap evaluate box xbd-prepared --split test

    Damage models get the xView2 score and its companions; models of buildings Jaccard, the F1 of buildings found and
    boundary IoU, by event and by ground resolution; models with a legend F1 and IoU of every class, with tiles of a
    large image stitched.

    Args:
        model: A model folder, an ensemble folder, an exported model, or box.
        data: A prepared dataset.
        split: Which scenes.
        event: Only these events.
        threshold: Building threshold of all classes instead of the card's.
        bootstrap: Resamples of the scenes for the intervals; 0 leaves them out.
        boundary_m: Width in metres of the band in which boundary IoU compares outlines; by default 2 % of the
            image's diagonal, which is most of a house at 0.3 m per pixel.
        workers: How many, each with the model. The figures are the same to the last digit.
        engine: processes: of this machine. ray: actors of a Ray cluster whose machines see the same folders.
        address: Of the Ray cluster: auto, or ray://host:10001.
        running: How the model is run.
        json_output: Print JSON.
    """
    from aftermap.errors import InputError

    check_model(model)
    check_dataset(data, whole=True)
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"--threshold {threshold:g} is no probability: pass a number from 0 to 1")

    from aftermap import api
    from aftermap.data.scene import scenes_of
    from aftermap.scoring.class_scores import ClassScores

    events = tuple(event or ())
    total = sum(s.is_labelled and (not events or s.event in events) for s in scenes_of(data, split))
    with bar("evaluating", total) as advance:
        result = api.evaluate(
            model,
            data,
            split=split,
            events=events,
            threshold=threshold,
            bootstrap=bootstrap,
            boundary_m=boundary_m,
            workers=workers,
            engine=engine,
            address=address,
            on_scene=lambda *_: advance(),
            **_keywords(running),
        )
    if json_output:
        print_json(result.as_dict())
    elif isinstance(result, ClassScores):
        from aftermap.products.score_table import class_table

        say(class_table(result))
    else:
        from aftermap.products.score_table import score_tables

        say(score_tables(result.as_dict()))


def models(*, json_output: Json = False) -> None:
    """List the architectures with their parameters and their arithmetic at 1024 px.

        aftermap models --json

    Each entry stands for one architecture in up to two uses: localization (one date) and damage (a pair). Features
    are the parameters without the head; GMACs are multiply-accumulates in 1e9 per image and per pair. Every network
    is built to be counted, which takes about ten seconds. A narrow terminal leaves out what they are.

    Args:
        json_output: Print JSON.
    """
    from aftermap.workflows.weights.catalogue import catalogue

    entries = catalogue()
    if json_output:
        print_json(entries)
        return
    from rich.table import Table

    console = wide_console()
    texts = {"kind": "kind", "what": "description"}
    if console.width < 150:
        del texts["what"]
    if console.width < 95:
        del texts["kind"]
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("name", no_wrap=True)
    for title in ("features", "local.", "damage", "GMACs\nimage", "\npair"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in texts:
        table.add_column(title, no_wrap=True)
    for entry in entries:
        sizes = [None if n is None else f"{n / 1e6:.2f}" for n in entry["parameters"].values()]
        sizes += [None if n is None else f"{n:.1f}" for n in entry["gmacs"].values()]
        shown = [entry[key] for key in texts.values()]
        table.add_row(entry["name"], *(n or "-" for n in sizes), *shown)
    console.print("parameters in M, multiply-accumulates in G at 1024 px")
    console.print(table)


def _keywords(running: Running) -> "RunningKeywords":
    return asdict(running.options())  # type: ignore[return-value]  # the keywords are its fields
