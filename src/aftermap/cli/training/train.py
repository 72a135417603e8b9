"""`aftermap train`: a run of any kind, from its recipe or gone on with."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from aftermap.cli.checks import check_place, check_recipe
from aftermap.cli.options import MaybeOut
from aftermap.cli.progress import progress
from aftermap.cli.training.outcomes import say_outcome

if TYPE_CHECKING:
    from aftermap.config import Config
    from aftermap.workflows.training.training_kind import TrainingProgress


def train(
    recipe: Path | None = None,
    *overrides: str,
    out: MaybeOut = None,
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
        recipe: A YAML file; see the folder recipes/.
        overrides: Pairs of dotted.key=value.
        out: The run folder; by default runs/<date>-<name>.
        resume: Folder of an interrupted run to go on with, instead of a recipe.
        step: Run this step of an incremental task alone, counted from 0; in the folder of the steps before, or --from.
        start: Model to begin an incremental run from: of the step before --step; without it the run goes on from the
            step that this model has learned. A model folder or a run folder.
    """
    from aftermap.errors import RecipeError
    from aftermap.extras import needs

    needs("aftermap train", "train")
    example = "aftermap train recipes/localization.yaml data.manifests='[FOLDER]'"
    kind, settings = wanted_recipe(recipe, overrides, resume, example=example, checked=False)
    options: dict[str, Any] = {"step": step, "start": start} if kind == "incremental" else {}
    if not options and (step is not None or start is not None):
        raise RecipeError(
            f"--step and --from are for recipes of kind incremental, {resume or recipe} is of kind {kind}"
        )
    if resume is None:
        check_recipe(settings)
    return say_outcome(*run_recipe(settings, out=out, resume=resume, **options))


def wanted_recipe(
    recipe: Path | None,
    overrides: Sequence[str],
    resume: Path | None,
    *,
    example: str,
    kind: str | None = None,
    checked: bool = True,
) -> tuple[str, "Config"]:
    """The kind and the content of a recipe, `checked` for the files that it names, or of the run to go on with.

    Raises:
        RecipeError: neither is named, or the recipe is of another kind than the command is for.
        TrainingError: there is no run to go on with.
    """
    from aftermap.errors import RecipeError, TrainingError
    from aftermap.workflows.training.recipe_files import recipe_path

    if resume is None and recipe is not None:
        recipe_path(recipe)
    elif resume is not None and not (resume / "recipe.yaml").is_file():
        raise TrainingError(f"{resume} holds no interrupted run to resume")

    from aftermap.workflows.kinds import interrupted_recipe, read_recipe

    if resume is not None:
        words = [*overrides, *([str(recipe)] if recipe is not None else [])]
        return interrupted_recipe(resume, words)
    if recipe is None:
        raise RecipeError(f"no recipe given: {example}")
    kind, settings = read_recipe(recipe, overrides, kind=kind)
    if checked:
        check_recipe(settings)
    return kind, settings


def run_recipe(
    settings: "Config", *, out: Path | None, resume: Path | None = None, name: str = "", **options: Any
) -> tuple[Any, Path]:
    """Train what a recipe of any kind says and show how far it is; gives the outcome and the run folder."""
    from aftermap.learning.experiments.tracking import safe_command
    from aftermap.workflows.kinds import train_recipe
    from aftermap.workflows.training.run_folder import check_folder

    name = name or getattr(settings, "name", "run")
    folder = resume or out or Path("runs") / f"{date.today().isoformat()}-{name}"
    if resume is None and options.get("step") is None:
        check_folder(folder, resume=False)
    check_place(folder)
    with _resumable(folder), training_display() as show:
        outcome = train_recipe(
            settings,
            folder,
            resume=resume is not None,
            command="aftermap " + safe_command(sys.argv[1:]),
            on_progress=show,
            **options,
        )
    return outcome, folder


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Say how an interrupted run goes on, where it has got so far."""
    from aftermap.errors import AftermapError
    from aftermap.workflows.kinds import interrupted_recipe

    try:
        yield
    except KeyboardInterrupt:
        hint = f": aftermap train --resume {folder} goes on"
        try:
            interrupted_recipe(folder)
        except AftermapError:
            hint = ""
        raise KeyboardInterrupt(f"interrupted{hint}") from None


@contextmanager
def training_display() -> Iterator[Callable[["TrainingProgress"], None]]:
    """What it gives shows stage, loss, learning rate, score and time left of a run, whatever its kind."""
    with progress() as show:
        smooth: dict[str, float] = {}

        def tell(now: "TrainingProgress") -> None:
            stage = now.stage + (f", round {now.round}" if now.round else "")
            stage += "" if now.task_step is None else f", step {now.task_step}"
            note = ""
            if now.step is not None:
                loss = now.step.loss
                smooth[stage] = 0.95 * smooth.get(stage, loss) + 0.05 * loss
                score = "-" if now.score is None else f"{now.score:.3f}"
                note = f"loss {smooth[stage]:.3f}  lr {now.step.lr:.1e}  score {score}"
            show(stage, now.done, now.total, note)

        yield tell
