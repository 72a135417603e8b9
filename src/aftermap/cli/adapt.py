"""`aftermap adapt` and `aftermap meta-train`."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from aftermap.workflows.adaptation.with_labels import AdaptProgress

Out = Annotated[Path | None, Parameter(name=["-o", "--out"])]


def adapt(
    model: str,
    data: Path,
    *,
    event: str,
    scenes: int = 3,
    scene: list[str] | None = None,
    steps: int = 80,
    lr: float = 1e-3,
    tune: Literal["all", "decoder", "head"] = "all",
    norm: Literal["frozen", "updated"] = "frozen",
    evaluated: int = 0,
    seed: int = 0,
    device: str = "cpu",
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto",
    force: bool = False,
    out: Out = None,
    json_output: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Adapt a trained model to an event with a few of its labelled scenes, and say whether that helped.

        aftermap adapt box xbd-prepared --event hurricane-harvey --scenes 3 -o runs/harvey

    The event's other labelled scenes are scored before and after. Where the adapted model scores lower, the folder gets
    the parent's weights and the command exits with 1.

    Args:
        model: a model folder, or box.
        data: a prepared dataset.
        event: whose scenes; their splits do not matter.
        scenes: how many of them are learned from, drawn with the seed so that they show many classes.
        scene: learn from the scene of this name instead; can be given several times.
        steps: optimizer steps.
        lr: their learning rate.
        tune: which weights change: all, all but the encoder's (decoder), or those of the head.
        norm: whether the running statistics of batch normalisation stay frozen or are updated.
        evaluated: score at most so many of the other scenes; 0 scores all.
        seed: of the scenes, the crops and their turns.
        device: where scenes are scored: cpu, cuda or cuda:n; steps are taken on the GPU where there is one.
        precision: of the steps; auto takes bf16 where the machine multiplies it.
        force: keep the adapted weights even where they score lower.
        out: the run folder; by default runs/<date>-adapt-<event>.
        json_output: print JSON.
    """
    from aftermap.extras import needs

    needs("aftermap adapt", "train")
    from aftermap.config import build_config
    from aftermap.workflows.adaptation.with_labels import adapt as run_adaptation
    from aftermap.workflows.adaptation.with_labels_config import AdaptConfig

    said = {
        "model": model,
        "data": data,
        "event": event,
        "scenes": len(scene) if scene else scenes,
        "names": tuple(scene or ()),
        "steps": steps,
        "lr": lr,
        "tune": tune,
        "norm": norm,
        "evaluated": evaluated,
        "seed": seed,
        "device": device,
        "precision": precision,
        "force": force,
    }
    config = build_config(AdaptConfig, said, source="adapt")
    folder = out or Path("runs") / f"{date.today().isoformat()}-adapt-{event}"
    with _adapting_display() as show:
        adapted = run_adaptation(config, folder, command=_command(), on_progress=show)
    if json_output:
        print(json.dumps({"event": event, **adapted.as_dict()}, indent=1))
    else:
        _print_adapted(adapted.as_dict(), event)
    return 1 if adapted.kept == "parent" else 0


def meta_train(
    recipe: Path | None = None,
    *overrides: str,
    out: Out = None,
    resume: Path | None = None,
) -> None:
    """Learn a start from which a model adapts to a new event in a few steps (second-order MAML).

    Keys of the recipe are overridden by key=value words:

        aftermap meta-train recipes/metadamagenet/maml.yaml data.manifests='[xbd-prepared]' -o runs/maml

    An interrupted run goes on with:

        aftermap meta-train --resume runs/maml

    Args:
        recipe: a YAML file; see docs/meta-learning.md.
        overrides: dotted.key=value pairs.
        out: the run folder; by default runs/<date>-<name>.
        resume: folder of an interrupted run to go on with, instead of a recipe.
    """
    from aftermap.extras import needs

    needs("aftermap meta-train", "train")
    from aftermap.config import load_config
    from aftermap.errors import RecipeError
    from aftermap.workflows.adaptation.meta_config import MetaRecipe
    from aftermap.workflows.adaptation.meta_training import meta_train as run_training
    from aftermap.workflows.adaptation.meta_training import resumed_meta_recipe
    from aftermap.workflows.training.recipe_files import recipe_path

    if resume is not None:
        words = list(overrides) + ([str(recipe)] if recipe is not None else [])
        settings, folder = resumed_meta_recipe(resume, words), resume
    elif recipe is None:
        raise RecipeError(
            "no recipe given: aftermap meta-train recipes/metadamagenet/maml.yaml data.manifests='[FOLDER]'"
        )
    else:
        settings = load_config(MetaRecipe, recipe_path(recipe), list(overrides))
        folder = out or Path("runs") / f"{date.today().isoformat()}-{settings.name}"
    from aftermap.cli.learn import say, training_display

    with training_display() as show:
        trained = run_training(
            settings, folder, resume=resume is not None, command=_command(), on_progress=show
        )
    before, after = trained.metrics["score_before"], trained.metrics["score"]
    say(
        f"best task set {trained.metrics['step']}: held-out events score {before:.3f} before and {after:.3f} after "
        f"adapting\nmodel: {trained.model}"
    )


def _print_adapted(report: dict[str, Any], event: str) -> None:
    from rich.console import Console
    from rich.table import Table

    before, after = report["before"], report["after"]
    table = Table("metric", "before", "after", "change")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, first in before.items():
        second = after[name]
        known = first is not None and second is not None
        values = ["-" if v is None else f"{v:.3f}" for v in (first, second)]
        table.add_row(name.replace("_", " "), *values, f"{second - first:+.3f}" if known else "")
    console = Console(highlight=False)
    console.print(table)
    scenes = ", ".join(report["scenes"])
    console.print(f"learned from {scenes}; scored on {report['evaluated']} others of {event}", markup=False)
    if report["kept"] == "parent":
        console.print(
            "adapting made it worse: the model folder holds the parent's weights (--force keeps the adapted ones)"
        )
    elif (after["score"] or 0) < (before["score"] or 0):
        console.print("adapting made it worse, and the adapted weights were kept as asked (--force)")
    console.print(f"model: {report['model']}", markup=False, soft_wrap=True)


def _command() -> str:
    from aftermap.learning.experiments.tracking import safe_command

    return "aftermap " + safe_command(sys.argv[1:])


@contextmanager
def _adapting_display() -> Iterator[Callable[["AdaptProgress"], None]]:
    """A bar per stage on standard error."""
    from rich.console import Console
    from rich.progress import Progress

    words = {"before": "scoring the model", "adapting": "adapting", "after": "scoring the adapted model"}
    with Progress(console=Console(stderr=True), transient=True) as display:
        tasks: dict[str, Any] = {}

        def show(progress: "AdaptProgress") -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = display.add_task(words[progress.stage], total=progress.total)
            display.update(tasks[progress.stage], completed=progress.done)

        yield show
