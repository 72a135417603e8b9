"""Which way of training a recipe file is for: `kind` at its top, an ordinary run where it says nothing."""

from pathlib import Path
from typing import Literal, cast, get_args

from aftermap.config import read_tree
from aftermap.errors import RecipeError
from aftermap.workflows.training.recipe_files import recipe_path

RecipeKind = Literal["train", "self-training", "adapt-event", "incremental"]


def recipe_kind(path: Path) -> RecipeKind:
    """The kind of a recipe, by its name as `recipe_path` takes it.

    Raises:
        RecipeError: there is no such file, or no such kind.
    """
    kind = read_tree(recipe_path(path)).get("kind", "train")
    if kind not in get_args(RecipeKind):
        raise RecipeError(
            f"{path} is a recipe of kind {kind!r}, 'aftermap train' knows {', '.join(get_args(RecipeKind))}"
        )
    return cast(RecipeKind, kind)
