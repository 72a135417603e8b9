"""The kinds of recipes that are trained, and which one a file is of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from aftermap.config import Config, build_config, override_words, read_tree
from aftermap.errors import RecipeError
from aftermap.workflows.adaptation.config import AdaptConfig, AdaptEventRecipe, MetaRecipe
from aftermap.workflows.incremental.config import IncrementalRecipe
from aftermap.workflows.pretraining.config import PretrainRecipe
from aftermap.workflows.self_training.config import SelfTrainingRecipe
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.recipe_files import recipe_path
from aftermap.workflows.training.run_folder import check_folder

if TYPE_CHECKING:
    from aftermap.workflows.adaptation.with_labels import AdaptedWithLabels
    from aftermap.workflows.adaptation.without_labels import AdaptedWithoutLabels
    from aftermap.workflows.incremental.run import LearnedIncrementally
    from aftermap.workflows.self_training.run import SelfTrained
    from aftermap.workflows.training.training_kind import OnProgress, Trained

    Outcome = Trained | SelfTrained | AdaptedWithLabels | AdaptedWithoutLabels | LearnedIncrementally
    """What comes of a training; each has a `model` folder."""


@dataclass(frozen=True, slots=True)
class RecipeKind:
    """A kind of recipe.

    Attributes:
        recipe: what it can say.
        ended: a run that has come to its end may go on, with further steps.
    """

    recipe: type[Config]
    ended: bool = False


KINDS = {
    "train": RecipeKind(TrainRecipe),
    "self-training": RecipeKind(SelfTrainingRecipe),
    "adapt-event": RecipeKind(AdaptEventRecipe),
    "adapt": RecipeKind(AdaptConfig),
    "incremental": RecipeKind(IncrementalRecipe, ended=True),
    "meta-train": RecipeKind(MetaRecipe),
    "pretrain": RecipeKind(PretrainRecipe),
}


def read_recipe(
    name: Path | str | Mapping[str, Any], overrides: Sequence[str] = (), *, kind: str | None = None
) -> tuple[str, Config]:
    """The kind of a recipe, and what it says.

    Args:
        name: as `recipe_path` takes it, or what the recipe says.
        overrides: `dotted.key=value` strings.
        kind: of recipes that do not say theirs.

    Raises:
        RecipeError: there is no such file or no such kind, or a key or value is wrong.
    """
    tree = dict(name) if isinstance(name, Mapping) else read_tree(recipe_path(name))
    name = "the recipe" if isinstance(name, Mapping) else name
    kind = kind if kind and "kind" not in tree else kind_of(tree, name)
    return kind, build_config(KINDS[kind].recipe, tree, overrides, source=str(name))


def interrupted_recipe(folder: Path, overrides: Sequence[str] = ()) -> tuple[str, Config]:
    """The kind of an interrupted run, and its recipe, from its folder.

    Raises:
        TrainingError: there is no run that could go on.
        RecipeError: an override is wrong.
    """
    check_folder(folder, resume=True, ended=True)
    file = folder / "recipe.yaml"
    tree = read_tree(file)
    kind = kind_of(tree, file)
    check_folder(folder, resume=True, ended=KINDS[kind].ended)
    return kind, build_config(KINDS[kind].recipe, tree, overrides, source=str(file))


class TrainOptions(TypedDict, total=False):
    """Keywords of `train_named`."""

    overrides: Mapping[str, Any] | Sequence[str]
    resume: bool
    step: int | None
    start: str | Path | None
    on_progress: "OnProgress | None"


def train_named(
    recipe: str | Path | Mapping[str, Any],
    folder: Path,
    *,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    resume: bool = False,
    step: int | None = None,
    start: str | Path | None = None,
    on_progress: "OnProgress | None" = None,
) -> "Outcome":
    """Train what a recipe says that is named or given as a mapping; see `train_recipe`.

    Args:
        recipe: a YAML file, the name of one that comes along, or what it says.
        folder: the run folder; new, or that of an interrupted run with `resume`.
        overrides: dotted keys of the recipe and their values, as a mapping or as words such as "steps=2000".
        resume: go on with the run in `folder`, whose own recipe is taken, to the same weights as without the
            interruption.
        step: of an incremental task: this one alone, from 0.
        start: of an incremental task: a model to begin from, or a run with one.
        on_progress: called with how far it is after every step, scene and tile.

    Raises:
        RecipeError: no such recipe, or a key or value is wrong.
        DataError: the data did not pass their check, or a split is empty.
        TrainingError: a loss is not finite, or there is nothing to resume.
        OutputError: the folder holds a run, or cannot be written.
    """
    words = override_words(overrides)
    kind, settings = interrupted_recipe(folder, words) if resume else read_recipe(recipe, words)
    options = {"step": step, "start": None if start is None else Path(start)}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if given and kind != "incremental":
        raise RecipeError(f"step and start are of recipes of kind incremental, {recipe} is of kind {kind}")
    return train_recipe(settings, folder, resume=resume, on_progress=on_progress, **given)


def train_recipe(
    recipe: Config,
    folder: Path,
    *,
    resume: bool = False,
    command: str = "",
    on_progress: "OnProgress | None" = None,
    **options: Any,
) -> "Outcome":
    """Train what a recipe of any kind says, in a run folder.

    Args:
        recipe: of one of `KINDS`.
        folder: the run folder; new, or that of an interrupted run with `resume`.
        resume: go on where the run was interrupted, to the same weights as without the interruption.
        command: how the user asked for it; goes to the card.
        on_progress: called after every step, scene and tile.
        options: of the kind, such as `step` and `start` of an incremental one.

    Returns:
        The outcome of the kind's own entry (`train`, `self_train`, `adapt`, `learn_incrementally`,
        `meta_train`, `pretrain`): its `model` is the model folder.

    Raises:
        AftermapError: what the kind's own entry raises.
    """
    if on_progress is not None:
        options["on_progress"] = on_progress
    return _entry_of(recipe)(recipe, folder, resume=resume, command=command, **options)


def _entry_of(recipe: Config) -> "Callable[..., Outcome]":
    """What trains a recipe; networks are imported here, once its recipe is known to be right."""
    match recipe:
        case TrainRecipe():
            from aftermap.workflows.training.run import train

            return train
        case SelfTrainingRecipe():
            from aftermap.workflows.self_training.run import self_train

            return self_train
        case AdaptConfig() | AdaptEventRecipe():
            from aftermap.workflows.adaptation.run import adapt

            return adapt
        case IncrementalRecipe():
            from aftermap.workflows.incremental.run import learn_incrementally

            return learn_incrementally
        case MetaRecipe():
            from aftermap.workflows.adaptation.meta_training import meta_train

            return meta_train
        case PretrainRecipe():
            from aftermap.workflows.pretraining.run import pretrain

            return pretrain
        case _:
            raise TypeError(f"{type(recipe).__name__} is no recipe of a training")


def kind_of(tree: dict[str, Any], name: Path | str) -> str:
    """`kind` at the top of a recipe; those of meta-training, and older ones of adaptations, say none."""
    unsaid = "meta-train" if "meta" in tree else "adapt" if "shots" in tree else "train"
    kind = str(tree.get("kind") or unsaid)
    if kind not in KINDS:
        raise RecipeError(f"{name} is a recipe of kind {kind!r}, 'aftermap train' knows {', '.join(KINDS)}")
    return kind
