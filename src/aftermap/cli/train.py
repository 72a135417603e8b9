"""`aftermap train`: one run, rounds of self-training, adaptation to an event, or classes step by step."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

_WORDS = {
    "teacher": "training the teacher",
    "predicting": "labelling the pool",
    "student": "training the student",
    "judging": "judging",
    "before": "scoring the model",
    "statistics": "measuring the event",
    "adapting": "adapting",
    "after": "scoring the adapted model",
    "learning": "learning the classes",
    "scoring": "scoring the test tiles",
}


def train(
    recipe: Path | None = None,
    *overrides: str,
    out: Annotated[Path | None, Parameter(name=["-o", "--out"])] = None,
    resume: Path | None = None,
    step: int | None = None,
    start: Annotated[Path | None, Parameter(name="--from")] = None,
) -> int:
    """Train a model from a recipe.

    Keys of the recipe are overridden by key=value words:

        aftermap train recipes/localization.yaml data.manifests='[xbd-prepared]' steps=2000 -o runs/loc

    An interrupted run goes on with:

        aftermap train --resume runs/loc

    Recipes of kind self-training and adapt-event learn from scenes without labels as well:

        aftermap train recipes/adapt-event.yaml model=box data='[event-prepared]' -o runs/event

    Guard rails judge what they learn; where that is no gain, the folder holds the model they started from, and the
    command exits with 1.

    A recipe of kind incremental learns classes step after step, all steps in one command or one by one:

        aftermap train recipes/incremental/small.yaml data.manifests='[prepared]' task=6s -o runs/6s
        aftermap train recipes/incremental/small.yaml data.manifests='[prepared]' task=6s --step 1 --from runs/6s

    Args:
        recipe: a YAML file; see the folder recipes/.
        overrides: dotted.key=value pairs.
        out: the run folder; by default runs/<date>-<name>.
        resume: folder of an interrupted run to go on with, instead of a recipe.
        step: run this step of an incremental task alone, counted from 0; in the folder of the steps before, or --from.
        start: model to begin an incremental run from: of the step before --step; without it the run goes on from the
            step that this model has learned. A model folder or a run folder.
    """
    from aftermap.errors import RecipeError, TrainingError
    from aftermap.extras import needs

    needs("aftermap train", "train")
    from aftermap.learning.experiments.tracking import safe_command
    from aftermap.workflows.training.kinds import recipe_kind

    if resume is not None:
        words = list(overrides) + ([str(recipe)] if recipe is not None else [])
        file = resume / "recipe.yaml"
        if not file.is_file():
            raise TrainingError(f"{resume} holds no interrupted run to resume")
    elif recipe is None:
        raise RecipeError(
            "no recipe given: aftermap train recipes/localization.yaml data.manifests='[FOLDER]'"
        )
    else:
        words, file = list(overrides), recipe
    command = "aftermap " + safe_command(sys.argv[1:])
    kind = recipe_kind(file)
    if kind == "incremental":
        return _incremental(file, words, out, resume, command, step=step, start=start)
    if step is not None or start is not None:
        raise RecipeError(f"--step and --from are for recipes of kind incremental, {file} is of kind {kind}")
    runs = {"train": _once, "self-training": _self_train, "adapt-event": _adapt_event}
    return runs[kind](file, words, out, resume, command)


def _once(file: Path, words: list[str], out: Path | None, resume: Path | None, command: str) -> int:
    """An ordinary run."""
    from aftermap.cli.learn import say, training_display
    from aftermap.workflows.training.run import load_recipe, resumed_recipe
    from aftermap.workflows.training.run import train as run_training

    if resume is not None:
        settings, folder = resumed_recipe(resume, words), resume
    else:
        settings = load_recipe(file, words)
        folder = out or _new_folder(settings.name)
    with _resumable(folder, "resume"), training_display() as show:
        trained = run_training(settings, folder, resume=resume is not None, command=command, on_progress=show)
    scores = ", ".join(
        f"{name} {value:.3f}"
        for name, value in trained.metrics.items()
        if name not in ("step", "lr") and not name.startswith("loss")
    )
    say(f"best step {trained.metrics.get('step')}: {scores}\nmodel: {trained.model}")
    return 0


def _self_train(file: Path, words: list[str], out: Path | None, resume: Path | None, command: str) -> int:
    """Rounds of self-training."""
    from aftermap.cli.learn import say
    from aftermap.config import build_config, load_config, read_tree
    from aftermap.workflows.self_training.config import SelfTrainingRecipe
    from aftermap.workflows.self_training.run import self_train
    from aftermap.workflows.training.recipe_files import recipe_path

    if resume is not None:
        settings = build_config(SelfTrainingRecipe, read_tree(file), words, source=str(file))
        folder = resume
    else:
        settings = load_config(SelfTrainingRecipe, recipe_path(file), words)
        folder = out or _new_folder(settings.name)
    with _resumable(folder, "recipe.yaml"), _stages() as show:
        outcome = self_train(settings, folder, resume=resume is not None, command=command, on_progress=show)
    say(f"kept: the {outcome.kept} ({outcome.reason})\nreport: {folder / 'self-training.png'}")
    say(f"model: {outcome.model}")
    return 0 if outcome.kept == "student" else 1


def _adapt_event(file: Path, words: list[str], out: Path | None, resume: Path | None, command: str) -> int:
    """Adaptation to an event without labels."""
    from aftermap.cli.learn import say
    from aftermap.config import load_config
    from aftermap.workflows.adaptation.without_labels import adapt_event, resumed_event_recipe
    from aftermap.workflows.adaptation.without_labels_config import AdaptEventRecipe
    from aftermap.workflows.training.recipe_files import recipe_path

    if resume is not None:
        settings, folder = resumed_event_recipe(resume, words), resume
    else:
        settings = load_config(AdaptEventRecipe, recipe_path(file), words)
        folder = out or _new_folder(settings.name)
    with _resumable(folder, "recipe.yaml"), _stages() as show:
        adapted = adapt_event(settings, folder, resume=resume is not None, command=command, on_progress=show)
    say(f"{adapted.verdict.reason}; the folder holds the {adapted.kept} model")
    before, after = adapted.truth_before, adapted.truth_after
    if before is not None and after is not None:
        known = f"the score went from {before['score']:.3f} to {after['score']:.3f}"
        say(f"by the event's labels, which neither the learning nor the verdict has seen, {known}")
    say(f"picture: {folder / 'before-after.png'}\nmodel: {adapted.model}")
    return 0 if adapted.kept == "adapted" else 1


def _incremental(
    file: Path,
    words: list[str],
    out: Path | None,
    resume: Path | None,
    command: str,
    *,
    step: int | None,
    start: Path | None,
) -> int:
    """Classes step by step."""
    from aftermap.cli.learn import say
    from aftermap.workflows.incremental.run import (
        learn_incrementally,
        load_incremental_recipe,
        resumed_incremental_recipe,
    )

    if resume is not None:
        settings, folder = resumed_incremental_recipe(resume, words), resume
    else:
        settings = load_incremental_recipe(file, words)
        folder = out or _new_folder(settings.name)
    with _resumable(folder, "recipe.yaml"), _stages() as show:
        learned = learn_incrementally(
            settings,
            folder,
            resume=resume is not None,
            step=step,
            start=start,
            command=command,
            on_progress=show,
        )
    say((folder / "incremental.md").read_text())
    say(f"report: {folder / 'incremental.md'}\nmodel: {learned.model}")
    return 0


def _new_folder(name: str) -> Path:
    return Path("runs") / f"{date.today().isoformat()}-{name}"


@contextmanager
def _resumable(folder: Path, mark: str) -> Iterator[None]:
    """Say how an interrupted run goes on, where it has got as far as to leave `mark` in its folder."""
    try:
        yield
    except KeyboardInterrupt:
        hint = f": aftermap train --resume {folder} goes on" if (folder / mark).exists() else ""
        raise KeyboardInterrupt(f"interrupted{hint}") from None


@contextmanager
def _stages() -> Iterator[Callable[[Any], None]]:
    """A bar for every stage of a job on standard error; plain lines where it is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as display:
        tasks: dict[tuple[int, str, int | None], Any] = {}

        def show(progress: Any) -> None:
            number = getattr(progress, "round", 0)
            of_task = getattr(progress, "step", None)
            key = (number, progress.stage, of_task)
            title = _WORDS.get(progress.stage, progress.stage) + (f", round {number}" if number else "")
            title += f", step {of_task}" if of_task is not None else ""
            if key not in tasks:
                tasks[key] = display.add_task(title, total=progress.total, loss="")
            training = getattr(progress, "training", None)
            loss = "" if training is None else f"loss {training.step.loss:.3f}"
            display.update(tasks[key], completed=progress.done, total=progress.total, loss=loss)
            whole = progress.done == progress.total
            if not console.is_terminal and (whole or (progress.done and progress.done % 50 == 0)):
                console.print(f"{title}: {progress.done}/{progress.total}  {loss}".rstrip())

        yield show
